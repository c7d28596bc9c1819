"""A full disk, one that is only read, a folder that vanishes, two programs in one folder: told, and nothing lost."""

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import killing
import pytest
from program import call

from uipad_cli.engine import locking
from uipad_cli.engine.locking import sole_writer
from uipad_cli.errors import DataError, ResourceError
from uipad_cli.records import silent

FULL, REFUSED = "the disk is full", "cannot be written"


@pytest.fixture
def commands(world, quick):
    """By verb: the arguments, but for the output, which is the last."""
    settings = [part for one in quick for part in ("--set", one)]
    return {
        "prepare": ["prepare", world.raw, "--workers", "1"],
        "train": ["train", world.prepared, "--category", "pegs", *settings, "--no-cache", "--out"],
        "eval": ["eval", world.run, world.prepared, "--report", "--out"],
        "infer": ["infer", world.prepared, "--model", world.run, "--ply", "--out"],
        "watch": ["infer", world.raw, "--model", world.run, "--watch", "--idle", "1", "--out"],
        "heatmap": ["heatmap", world.run, world.prepared, "--out"],
    }


@pytest.fixture(scope="module")
def expected():
    """By verb, what an undisturbed run leaves; made once."""
    return {}


def undisturbed(verb, commands, expected, folder, capsys):
    if verb not in expected:
        code, _, told = call(capsys, *commands[verb], folder)
        assert code == 0, told
        expected[verb] = killing.contents(folder)
    return expected[verb]


def comparable(found):
    """Without what tells times."""
    return {name: data for name, data in found.items() if name != "verdicts.jsonl"}


VERBS = ["prepare", "train", "eval", "infer", "watch", "heatmap"]
SHARES = [0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]  # of the room that the files need


def test_a_full_disk_is_named_and_what_is_written_is_whole(commands, expected, tmp_path, capsys, cases, tally):
    short = [("prepare", 0.4), ("train", 0.5)]
    for verb, share in cases(short, [(verb, share) for verb in VERBS for share in SHARES]):
        whole = undisturbed(verb, commands, expected, tmp_path / f"whole-{verb}", capsys)
        size = sum(map(len, whole.values()))
        folder = tmp_path / f"disk-{verb}-{share}"
        try:
            with killing.small_disk(folder, max(8192, int(share * size))) as disk:
                code, _, told = call(capsys, *commands[verb], disk / "out")
                assert code == ResourceError.exit_code, told
                assert FULL in told
                assert str(disk / "out") in told
                assert len(told[told.index("error: ") :].splitlines()) <= 6
                killing.check_whole(disk)
                assert not list(disk.rglob(".uipad-*.tmp"))
                left = killing.contents(disk / "out") if (disk / "out").is_dir() else {}
                assert comparable(left).items() <= (comparable(whole) | passing(left)).items()
                subprocess.run(["mount", "-o", "remount,size=512m", str(disk)], check=True)
                code, _, told = call(capsys, *commands[verb], disk / "out")
                assert code == 0, told
                assert comparable(killing.contents(disk / "out")) == comparable(whole)
        except PermissionError as error:
            pytest.skip(str(error))
    tally(f"{cases(len(short), len(VERBS) * len(SHARES))} full disks")


def passing(left):
    """What lies there only while a command works."""
    return {
        name: left[name] for name in (".journal.jsonl", "run.json", "training.safetensors", "log.jsonl") if name in left
    }


def test_a_disk_that_is_only_read_is_named(commands, tmp_path, capsys):
    try:
        with killing.small_disk(tmp_path / "disk", 1 << 20) as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            for verb in VERBS:
                code, _, told = call(capsys, *commands[verb], disk / "out")
                assert code == ResourceError.exit_code, told
                assert f"{disk / 'out'}" in told
                assert REFUSED in told
    except PermissionError as error:
        pytest.skip(str(error))


def test_a_full_disk_behind_stdout_is_no_traceback(world, tmp_path):
    told = ["infer", world.prepared, "--model", world.run, "--out", tmp_path, "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            killing.command(*told), stdout=full, stderr=subprocess.PIPE, text=True,
            env=killing.environment(tmp_path / "cache"), check=False,
        )  # fmt: skip
    assert done.returncode == ResourceError.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize(("verb", "task"), [("prepare", "prepare"), ("train", "train"), ("eval", "pegs")])
def test_a_folder_that_vanishes_is_told_and_nothing_stands_for_it(verb, task, commands, tmp_path, capsys, monkeypatch):
    from uipad_cli import console

    out, gone = tmp_path / "out", []
    real = console._PlainReport.report

    def removing(self, step):
        if step.task == task and step.done >= 2 and not gone:
            gone.append(step)
            shutil.rmtree(out)
        real(self, step)

    monkeypatch.setenv("CI", "1")
    with monkeypatch.context() as patch:
        patch.setattr(console._PlainReport, "report", removing)
        code, _, told = call(capsys, *commands[verb], out)
    assert gone
    assert code in (ResourceError.exit_code, DataError.exit_code), told
    assert str(out) in told
    for name in ("manifest.json", "checkpoint.json", "metrics.json"):
        assert not (out / name).exists()
    if out.exists():
        killing.check_whole(out)
    shutil.rmtree(out, ignore_errors=True)
    assert call(capsys, *commands[verb], out)[0] == 0


def test_a_second_program_in_the_same_folder_is_refused_and_the_first_one_ends_well(
    commands, expected, tmp_path, capsys, cases
):
    for verb in cases(["prepare"], ["prepare", "train", "eval", "watch"]):
        whole = undisturbed(verb, commands, expected, tmp_path / f"{verb}-whole", capsys)
        out = tmp_path / verb
        first = subprocess.Popen(
            killing.command(*commands[verb], out), env=killing.environment(tmp_path / "cache"), stderr=subprocess.PIPE
        )
        while first.poll() is None and not (out.is_dir() and any(out.iterdir())):
            time.sleep(0.005)
        code, _, told = call(capsys, *commands[verb], out)
        ended = first.poll() is not None
        assert first.wait() == 0, first.stderr.read()
        assert not ended, "the first one was too fast: this test has tested nothing"
        assert code == ResourceError.exit_code, told
        assert "another uipad writes it" in told
        assert comparable(killing.contents(out)) == comparable(whole)


def test_of_many_writers_one_holds_the_folder(tmp_path, cases):
    inside, most, refused = [], [], []

    def write():
        for _ in range(cases(30, 1000)):
            try:
                with sole_writer(tmp_path / "a" / "b", silent):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0005)
                    inside.pop()
            except ResourceError:
                refused.append(1)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert set(most) == {1}
    assert len(refused) > 0
    with sole_writer(tmp_path / "alone" / "b", silent):
        assert (tmp_path / "alone" / "b" / locking.LOCK).exists()
    assert not (tmp_path / "alone").exists()


def test_what_a_killed_writer_left_is_swept_but_not_behind_a_link(tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    for folder in (out / "a" / "b", elsewhere):
        folder.mkdir(parents=True)
        (folder / ".uipad-0.tmp").touch()
    (out / "linked").symlink_to(elsewhere)
    (out / locking.LOCK).touch()  # of a process that was killed: it holds nobody up
    with sole_writer(out, silent, deep=True):
        assert [path.name for path in out.rglob("*.tmp")] == []
    assert (elsewhere / ".uipad-0.tmp").exists()
    assert not (out / locking.LOCK).exists()


def test_what_another_program_is_writing_is_not_swept(tmp_path):
    alive = subprocess.Popen(["sleep", "60"])
    try:
        for name in (f".uipad-{alive.pid}-a.tmp", ".uipad-4194304-b.tmp", f".uipad-{alive.pid}-old.tmp"):
            (tmp_path / name).touch()
        os.utime(tmp_path / f".uipad-{alive.pid}-old.tmp", (0, 0))
        with sole_writer(tmp_path, silent):
            assert [path.name for path in tmp_path.glob("*.tmp")] == [f".uipad-{alive.pid}-a.tmp"]
    finally:
        alive.kill()
        alive.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc on this system")
def test_a_killed_writer_that_nobody_has_asked_for_has_ended(tmp_path):
    dead = subprocess.Popen(["sleep", "60"])
    left = tmp_path / f".uipad-{dead.pid}-a.tmp"
    left.touch()
    dead.kill()
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    with sole_writer(tmp_path, silent):
        assert not left.exists()
    dead.wait()


def test_a_place_where_nothing_can_be_is_told():
    with pytest.raises(ResourceError, match="cannot be written"), sole_writer(Path("/proc/uipad-nowhere/out"), silent):
        pass


def test_a_lock_that_another_user_left_holds_nobody_up(tmp_path, monkeypatch):
    real = os.open

    def refusing(path, flags, *mode):
        if Path(path).name == locking.LOCK and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    (tmp_path / locking.LOCK).touch()
    monkeypatch.setattr(os, "open", refusing)
    refused = pytest.raises(ResourceError, match="another uipad")
    with sole_writer(tmp_path, silent), refused, sole_writer(tmp_path, silent):
        pass
