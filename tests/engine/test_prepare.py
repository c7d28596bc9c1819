from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uipad_cli.data import dataset_name, files, mvtec3d, prepared
from uipad_cli.data.files import Mask
from uipad_cli.data.geometry import Preparation
from uipad_cli.data.pairs import load_mask, load_sample
from uipad_cli.engine.prepare import prepare
from uipad_cli.engine.prepare_summary import PrepareSummary
from uipad_cli.engine.sensing import settings
from uipad_cli.errors import DataError, PartialError, ResourceError, UsageError
from uipad_cli.records import Progress

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "mvtec3d_cable_gland"
SIZE = 40


def write_pair(folder: Path, stem: str, *, mask: bool = False, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    files.write_png(folder / "rgb" / f"{stem}.png", generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    row, column = np.mgrid[:SIZE, :SIZE] * 0.002
    depth = 0.6 + 0.3 * row + generator.normal(0, 2e-4, row.shape)
    depth[14:26, 14:26] -= 0.03
    xyz = np.stack([column, row, depth], axis=-1).astype(np.float32)
    xyz[generator.random((SIZE, SIZE)) < 0.2] = 0
    files.write_tiff(folder / "xyz" / f"{stem}.tiff", xyz)
    if mask:
        ids = np.zeros((SIZE, SIZE), np.uint8)
        ids[5:9, 5:9] = 252
        files.write_png(folder / "gt" / f"{stem}.png", ids)


def write_category(root: Path, category: str, seed: int = 0) -> None:
    for number in range(3):
        write_pair(root / category / "train" / "good", f"{number:03}", seed=seed + number)
    write_pair(root / category / "validation" / "good", "000", seed=seed + 10)
    write_pair(root / category / "test" / "good", "000", seed=seed + 20)
    write_pair(root / category / "test" / "cut", "007", seed=seed + 30, mask=True)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_category(tmp_path / "raw", "nut")
    return tmp_path / "raw"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.*") if path.is_file()}


def run(raw: Path, out: Path, **options: object) -> PrepareSummary:
    return prepare(raw, out, workers=1, **options)  # type: ignore[arg-type]


class TestResult:
    def test_layout_and_manifest(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        summary = run(raw, out)
        written = set(tree(out))
        cut = {f"nut/test/cut/{kind}" for kind in ("rgb/007.png", "height/007.tiff", "valid/007.png", "gt/007.png")}
        assert cut <= written
        assert len(written) == 6 * 3 + 1 + 1  # six pairs of three files, a mask, the manifest: no journal is left
        manifest = prepared.read_manifest(out)
        entry = manifest.categories["nut"]
        assert entry.counts == {"train": 3, "validation": 1, "test": 2}
        assert entry.dataset == "mvtec3d"
        assert entry.source == str(raw.resolve())
        assert entry.height_scale.high == pytest.approx(0.03, abs=3e-3)
        assert entry.pairs["test/cut/007"].mask
        assert entry.pairs["test/cut/007"].geometry.missing_share == pytest.approx(0.2, abs=0.03)
        assert dataset_name(out) == "prepared"
        assert (summary.pairs, summary.skipped, summary.failures) == (6, 0, ())
        summary.raise_for_failures()

    def test_pixels(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(raw, out)
        (before, _), (after, _) = mvtec3d.scan(raw, "nut", "test"), prepared.scan(out, "nut", "test")
        np.testing.assert_array_equal(files.read_rgb(before.rgb), files.read_rgb(after.rgb))
        assert after.mask is not None
        assert set(np.unique(files.read_rgb(after.mask))) == {0, 255}
        shape: tuple[int, ...] = (SIZE, SIZE)
        masks: list[Mask] = [load_mask(item, shape) for item in (before, after)]
        np.testing.assert_array_equal(*masks)
        one, other = load_sample(before, Preparation()), load_sample(after, Preparation())
        for name in ("rgb", "height", "valid"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()

    def test_summary_as_table_and_json(self, raw: Path, tmp_path: Path) -> None:
        summary = run(raw, tmp_path / "out")
        columns, rows = summary.rows()
        assert columns[:4] == ["category", "train", "validation", "test"]
        assert rows[0][:4] == ["nut", 3, 1, 2]
        assert len(rows[0]) == len(columns)
        document = json.loads(json.dumps(summary.document(), allow_nan=False))
        assert document["categories"][0]["missing_share"] == pytest.approx(0.2, abs=0.03)

    def test_progress_tells_of_every_pair(self, raw: Path, tmp_path: Path) -> None:
        seen: list[Progress] = []
        summary = run(raw, tmp_path / "out", report=seen.append)
        told = [one.note for one in seen if one.task == "note"]
        assert told == [f"mvtec3d: {finding}" for finding in summary.findings]
        seen = [one for one in seen if one.task != "note"]
        assert [(one.task, one.done, one.total) for one in seen] == [("prepare", k + 1, 6) for k in range(6)]
        assert "nut/train/good/000" in seen[0].note
        assert "% missing, tilt 16." in seen[0].note

    def test_open3d_is_asked_for_and_missing(self, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open3d", None)
        with pytest.raises(ResourceError, match="open3d"):
            run(raw, tmp_path / "out", preparation=settings(plane="open3d"))

    def test_a_set_without_training_parts(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "monday", "a")
        summary = run(tmp_path / "monday", tmp_path / "out")
        (item,) = prepared.scan(tmp_path / "out", "monday", "test")
        assert item.defect == "unlabelled"
        assert summary.categories[0].height_high > 0.02


class TestAgain:
    def test_the_second_run_does_nothing(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(raw, out)
        before, stamps = tree(out), times(out / "nut")
        summary = run(raw, out)
        assert summary.skipped == summary.pairs == 6
        assert tree(out) == before
        assert times(out / "nut") == stamps

    def test_a_changed_file_is_redone_alone(self, raw: Path, tmp_path: Path) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        run(raw, out)
        write_pair(raw / "nut" / "train" / "good", "001", seed=99)
        assert run(raw, out).skipped == 5
        run(raw, fresh)
        assert tree(out) == tree(fresh)

    def test_a_deleted_output_is_made_again(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        run(raw, out)
        before = tree(out)
        (out / "nut" / "test" / "cut" / "gt" / "007.png").unlink()
        assert run(raw, out).skipped == 5
        assert tree(out) == before

    def test_changed_settings_redo_all(self, raw: Path, tmp_path: Path) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        run(raw, out)
        plain = Preparation(plane="none")
        assert run(raw, out, preparation=plain).skipped == 0
        run(raw, fresh, preparation=plain)
        assert tree(out) == tree(fresh)

    def test_a_pair_that_is_gone_is_forgotten(self, raw: Path, tmp_path: Path) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        run(raw, out)
        for path in (raw / "nut" / "test" / "cut").rglob("007.*"):
            path.unlink()
        run(raw, out)
        run(raw, fresh)
        assert tree(out) == tree(fresh)

    def test_categories_are_merged(self, raw: Path, tmp_path: Path) -> None:
        write_category(raw, "bolt", seed=100)
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        run(raw, out, categories=["nut"])
        assert prepared.categories(out) == ["nut"]
        assert run(raw, out, categories=["bolt"]).pairs == 6
        assert prepared.categories(out) == ["bolt", "nut"]
        run(raw, fresh)
        assert tree(out) == tree(fresh)
        with pytest.raises(UsageError, match="other settings"):
            run(raw, out, categories=["bolt"], preparation=Preparation(plane="none"))
        assert tree(out) == tree(fresh)


class TestInterruption:
    @pytest.mark.parametrize("after", [1, 3, 6])
    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_stopped_run_is_continued(self, raw: Path, tmp_path: Path, after: int, workers: int) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"

        def stop(progress: Progress) -> None:
            if progress.done == after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare(raw, out, workers=workers, report=stop)
        assert not prepared.recognise(out)
        assert prepare(raw, out, workers=1).skipped >= after
        run(raw, fresh)
        assert tree(out) == tree(fresh)

    def test_a_killed_run_is_continued(self, raw: Path, tmp_path: Path) -> None:
        out, fresh = tmp_path / "out", tmp_path / "fresh"
        script = (
            "import os, sys\nfrom pathlib import Path\nfrom uipad_cli.data import files\n"
            "from uipad_cli.engine.prepare import prepare\nreal, left = os.fsync, [int(sys.argv[3])]\n"
            "def fsync(number):\n    left[0] -= 1\n    os.kill(os.getpid(), 9) if left[0] < 0 else real(number)\n"
            "os.fsync = fsync\nprepare(Path(sys.argv[1]), Path(sys.argv[2]), workers=1)\n"
        )
        for files_written in ("0", "5", "6", "8"):
            command = [sys.executable, "-c", script, str(raw), str(out), files_written]
            assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
        run(raw, out)
        run(raw, fresh)
        assert tree(out) == tree(fresh)

    def test_a_torn_journal_line_is_passed_over(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"

        def stop(progress: Progress) -> None:
            if progress.done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(raw, out, report=stop)
        journal = out / ".journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-20])
        assert run(raw, out).skipped == 2


class TestWorkers:
    def test_any_number_gives_the_same_bytes(self, raw: Path, tmp_path: Path) -> None:
        run(raw, tmp_path / "one")
        prepare(raw, tmp_path / "two", workers=2)
        assert tree(tmp_path / "one") == tree(tmp_path / "two")

    def test_workers_start_without_torch(self) -> None:
        script = "import sys, uipad_cli.engine.prepare; print('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "False"


class TestTrouble:
    def test_bad_pairs_are_told_and_the_rest_is_done(self, raw: Path, tmp_path: Path) -> None:
        good = raw / "nut" / "train" / "good"
        (good / "rgb" / "000.png").write_bytes((good / "rgb" / "000.png").read_bytes()[:-100])
        files.write_png(raw / "nut" / "test" / "cut" / "gt" / "007.png", np.zeros((3, 3), np.uint8))
        summary = run(raw, tmp_path / "out")
        assert summary.pairs == 4
        assert len(summary.failures) == 2
        with pytest.raises(PartialError, match="2 of 6 pairs") as caught:
            summary.raise_for_failures()
        assert "000.png" in caught.value.message
        assert "007.png" in caught.value.message
        assert sorted(prepared.read_manifest(tmp_path / "out").categories["nut"].pairs) == [
            "test/good/000",
            "train/good/001",
            "train/good/002",
            "validation/good/000",
        ]
        write_category(raw, "nut")
        assert run(raw, tmp_path / "out").skipped == 4
        run(raw, tmp_path / "fresh")
        assert tree(tmp_path / "out") == tree(tmp_path / "fresh")

    def test_a_pair_that_went_bad_is_taken_out(self, raw: Path, tmp_path: Path) -> None:
        run(raw, tmp_path / "out")
        (raw / "nut" / "test" / "cut" / "xyz" / "007.tiff").write_bytes(b"text")
        assert len(run(raw, tmp_path / "out").failures) == 1
        assert not (tmp_path / "out" / "nut" / "test" / "cut" / "gt" / "007.png").exists()
        assert "test/cut/007" not in prepared.read_manifest(tmp_path / "out").categories["nut"].pairs

    @pytest.mark.parametrize("workers", [1, 2])
    def test_nothing_can_be_read(self, raw: Path, tmp_path: Path, workers: int) -> None:
        for path in raw.rglob("xyz/*.tiff"):
            path.write_bytes(b"text")
        with pytest.raises(DataError, match="none of 6 pairs"):
            prepare(raw, tmp_path / "out", workers=workers)
        assert not prepared.recognise(tmp_path / "out")

    @pytest.mark.parametrize("inside", [".", "out", "nut/train/out", ".."])
    def test_never_in_place(self, raw: Path, inside: str) -> None:
        before = tree(raw)
        with pytest.raises(UsageError, match="must not be"):
            run(raw, raw / inside)
        assert tree(raw) == before

    def test_foreign_folders_are_left_alone(self, raw: Path, tmp_path: Path) -> None:
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "letter.txt").write_text("dear")
        with pytest.raises(UsageError, match="not made by uipad prepare"):
            run(raw, tmp_path / "home")
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ResourceError, match="file"):
            run(raw, tmp_path / "file")

    def test_wrong_requests(self, raw: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="'nut'"):
            run(raw, tmp_path / "out", categories=["nud"])
        with pytest.raises(DataError, match="no such folder"):
            run(tmp_path / "absent", tmp_path / "out")
        run(raw, tmp_path / "out")
        with pytest.raises(UsageError, match="already"):
            run(tmp_path / "out", tmp_path / "twice")
        with pytest.raises(UsageError, match="--plane floor"):
            settings(plane="floor")
        with pytest.raises(UsageError, match="--unit"):
            settings(unit="0")

    def test_a_full_disk_stops_the_run_and_keeps_what_is_done(
        self, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, left = os.fsync, [8]

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(ResourceError, match="disk is full"):
                run(raw, tmp_path / "out")
        assert list((tmp_path / "out").rglob(files.TEMPORARY)) == []
        assert run(raw, tmp_path / "out").skipped == 2


@pytest.mark.skipif(not REAL.is_dir(), reason="the real data lies beside the checkout, and is not here")
def test_real_category(tmp_path: Path) -> None:
    seen: list[Progress] = []
    summary = prepare(REAL, tmp_path / "out", categories=["cable_gland"], workers=1, report=seen.append)
    (row,) = summary.categories
    assert (row.train, row.validation, row.test) == (36, 8, 35)
    assert row.missing_share == pytest.approx(0.40, abs=0.02)
    assert row.tilt_degrees == pytest.approx(21.9, abs=0.5)
    assert row.height_low == pytest.approx(0.007, abs=0.002)
    assert row.height_high == pytest.approx(0.039, abs=0.002)
    facts = [
        pair.geometry for pair in prepared.read_manifest(tmp_path / "out").categories["cable_gland"].pairs.values()
    ]
    assert all(0.33 <= one.missing_share <= 0.461 for one in facts)
    assert max(one.plane_tilt_degrees for one in facts) - min(one.plane_tilt_degrees for one in facts) < 1.5
    before = mvtec3d.scan(REAL, "cable_gland", "test")[-1]
    after = prepared.scan(tmp_path / "out", "cable_gland", "test")[-1]
    np.testing.assert_array_equal(load_mask(before, (400, 400)), load_mask(after, (400, 400)))
    one, other = load_sample(before, Preparation()), load_sample(after, Preparation())
    assert one.height.tobytes() == other.height.tobytes()
