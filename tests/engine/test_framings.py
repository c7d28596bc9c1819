"""The paper's crop, all of the image at once, and all of it in tiles: the same road for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uipad_cli import config
from uipad_cli.cli import main
from uipad_cli.data import files, prepared
from uipad_cli.data.framing import Framing
from uipad_cli.engine.record import RunConfig, read_record
from uipad_cli.engine.train import complete

QUICK = ["backbone=gabor", "method=patchcore", "precision=fp32", "batch=2"]
TILES = ["framing.resize=112", "framing.crop=56", "framing.tiles=2"]


@pytest.mark.parametrize("name", ["crop", "full", "tile"])
def test_a_name_is_a_framing(name: str) -> None:
    built = config.build(RunConfig, config.merge([], [], {"framing": name}))
    assert built.framing == Framing.model_validate(name)
    base = complete(config.merge([], ["method=patchcore", f"framing={name}"], {"backbone": "vit_base_patch16_224"}))
    assert base.framing.crop == 384
    assert base.framing.tiles * base.framing.crop == base.framing.resize or name == "crop"


def run(world: Any, out: Path, *settings: str) -> None:
    told = [part for setting in (*QUICK, *settings) for part in ("--set", setting)]
    assert main(["train", str(world.prepared), "--category", "pegs", "--out", str(out), *told]) == 0


def test_tiles_see_all_and_find_what_is_planted(world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, tmp_path / "run", *TILES)
    record = read_record(tmp_path / "run")
    assert record.config.framing == Framing(resize=112, crop=56, tiles=2)
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), str(world.prepared), "--json"]) == 0
    seen = capsys.readouterr()
    assert json.loads(seen.out)["categories"]["pegs"]["unseen_share"] == 0
    assert "never looked at" not in seen.err
    item = next(item for item in prepared.scan(world.prepared, "pegs", "test") if item.is_good)
    photo = files.read_rgb(item.rgb)
    photo[-24:-4, -24:-4] = (255, 0, 255)
    files.write_png(tmp_path / "own" / "rgb" / "a.png", photo)
    source = next(world.raw.rglob(f"test/good/xyz/{item.stem}.tiff"))
    files.write_bytes(tmp_path / "own" / "xyz" / "a.tiff", source.read_bytes())
    pair = [str(tmp_path / "own" / "rgb" / "a.png"), str(tmp_path / "own" / "xyz" / "a.tiff")]
    assert main(["infer", *pair, "--model", str(tmp_path / "run"), "--out", str(tmp_path / "o"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    scores, _ = files.read_map(Path(said["map"]))
    assert scores.shape == photo.shape[:2]
    assert np.isfinite(scores).all()
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    assert min(row, column) > 0.75 * len(scores)


def test_eval_says_what_the_crop_never_saw(world: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(world, tmp_path / "run", "framing.resize=112", "framing.crop=84")
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), str(world.prepared), "--json"]) == 0
    seen = capsys.readouterr()
    share = json.loads(seen.out)["categories"]["pegs"]["unseen_share"]
    assert share == pytest.approx(1 - (84 / 112) ** 2, abs=0.02)
    assert f"{share:.0%} of the image was never looked at" in " ".join(seen.err.split())
    assert "--framing full" in " ".join(seen.err.split())


def test_prototypes_of_tiles_are_a_row_for_each(world: Any, tmp_path: Path) -> None:
    small = ["backbone=tiny", "batch=4", "options.blocks=2", "options.training.steps=4", "options.training.batch=4"]
    run(world, tmp_path / "run", "method=uipad", *small, *TILES)
    arguments = ["heatmap", str(tmp_path / "run"), str(world.prepared), "--out", str(tmp_path / "o"), "--prototypes"]
    assert main(arguments) == 0
    (first, *_) = sorted((tmp_path / "o").rglob("*_prototypes.png"))
    height, width, _ = files.read_rgb(first).shape
    assert height > 0.5 * width  # seven tiles wide, four rows of them high
