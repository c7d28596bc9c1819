"""Commands of those who study methods, runs and lines: options and help, as in cli.py, which takes them up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from uipad_cli import console
from uipad_cli import options as opt


def pretrain(
    out: Annotated[Path, typer.Argument(help="Folder for the weights, their card, curve and pictures.")],
    images: Annotated[Path | None, typer.Option(help="Unlabelled images or pairs for half of the lessons.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    resume: opt.Resume = False,
    json: opt.Json = False,
) -> None:
    """Train the backbone `tiny` from scratch, on made-up parts and, if you like, your own images."""
    from uipad_cli.engine import pretrain as engine

    config = engine.PretrainConfig(steps=steps, seed=seed, device=device, precision=precision)
    with console.progress() as report:
        summary = engine.pretrain(out, config=config, images=images, report=report)
    console.note(summary.sentence())
    if json:
        console.data(summary.card)


def backbones(
    data: Annotated[Path, typer.Argument(help="Folder that `uipad prepare` made.")],
    backbone: Annotated[list[str] | None, typer.Option(help="Only this one; repeatable; default built in.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights for one more row, tiny with this file.")] = None,
    category: opt.Categories = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value, dotted, as in train; repeatable.")] = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for the table and pictures of features.")] = None,
    json: opt.Json = False,
) -> None:
    """Compare backbones: PatchCore on the features of each, on both images and on each alone; nothing is trained."""
    from uipad_cli.config import merge
    from uipad_cli.engine import backbones as engine

    merged = merge([], set_ or [], {"device": device, "precision": precision})
    with console.progress() as report:
        table = engine.compare(
            data, merged, backbones=backbone or (), weights=weights, categories=category or (), out=out, report=report
        )  # fmt: skip
    console.table(f"{data}", *table.rows())
    if json:
        console.data(table.document())


def ablate(
    data: Annotated[Path, typer.Argument(help="Folder that `uipad prepare` made.")],
    config: Annotated[list[Path], typer.Option("--config", help="YAML file of a row, or a folder; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder for the table and a record of every run; run again to go on.")],
    set_: opt.Settings = None,
    category: opt.Categories = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row on each category: seeds 0, 1, 2.")] = 3,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder of each run.")] = False,
    device: opt.OwnDevice = None,
    precision: opt.OwnPrecision = None,
    json: opt.Json = False,
) -> None:
    """Train and judge a list of configurations over several seeds; one row for each, named after its file."""
    from uipad_cli.engine import ablate as engine

    rows = engine.read_rows(config, set_ or [], {"device": device, "precision": precision})
    with console.progress() as report:
        table = engine.ablate(data, out, rows, seeds=seeds, categories=category or (), keep=keep, report=report)
    console.table(f"{data}", *table.figures())
    if json:
        console.data(table.document())


def compare(
    run_a: Annotated[Path, typer.Argument(help="A run, or a folder of runs.")],
    run_b: Annotated[Path, typer.Argument(help="Another, of the same categories.")],
    data: Annotated[Path, typer.Argument(help="Prepared or raw data set with a test split.")],
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json.")] = None,
    missing: opt.Missing = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    json: opt.Json = False,
) -> None:
    """Is one run better than another? Paired tests of image AUROC and AUPRO, per category and over all."""
    from uipad_cli.engine import compare as engine

    with console.progress() as report:
        comparison = engine.compare(
            run_a, run_b, data, out=out, missing=missing, device=device, precision=precision, report=report
        )  # fmt: skip
    console.table(f"{data}", *comparison.rows())
    console.notes(comparison.sentences())
    if json:
        console.data(comparison.document())


def drift(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    folder: Annotated[Path, typer.Argument(help="Incoming pairs, or a data set with a test split.")],
    alpha: Annotated[float, typer.Option(min=0.002, max=1, help="Chance of a false alarm on a steady line.")] = 0.01,
    category: Annotated[str | None, typer.Option(help="What the parts are, for a run of all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page; default RUN/drift.")] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 11: line changed, more defects.")] = False,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    json: opt.Json = False,
) -> None:
    """Has the line changed, or the parts? Compares incoming pairs with the good ones of the calibration; a page."""
    from uipad_cli.engine import drift as engine

    with console.progress() as report:
        found = engine.drift(
            run, folder, alpha=alpha, category=category, device=device, precision=precision, out=out, report=report
        )  # fmt: skip
    console.table(f"{folder}", *found.rows())
    console.notes(found.sentences())
    if json:
        console.data(found.document())
    raise typer.Exit(found.exit_code() if exit_code else 0)


def export(
    run: Annotated[Path, typer.Argument(help="A finished run.")],
    out: Annotated[Path, typer.Option(help="New folder for the exported model.")],
    engine_of: Annotated[Literal["openvino", "onnx"], typer.Option("--format", help="For which engine of infer.")],
    data: Annotated[
        Path | None, typer.Option(help="Pairs to compare it with torch on; default: built-in scenes.")
    ] = None,
    json: opt.Json = False,
) -> None:
    """Write a run as a model that `infer` judges by without torch, by OpenVINO or ONNX Runtime; compares both."""
    from uipad_cli.engine import export as engine

    with console.progress() as report:
        done = engine.export(engine.Request(run, out, engine_of, data), report=report)
    console.notes(done.sentences())
    if json:
        console.data(done.document())


def bench(
    run: Annotated[Path | None, typer.Argument(help="A finished run; default: a method as training leaves it.")] = None,
    data: Annotated[Path | None, typer.Option(help="Prepared or raw pairs; default: rendered ones.")] = None,
    method: Annotated[str | None, typer.Option(help="Method; default uipad.")] = None,
    backbone: Annotated[str | None, typer.Option(help="tiny, dinov2-base (default), any timm ViT, gabor.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Backbone weights: .safetensors, or a plain .pth.")] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="A backbone without its weights: they do not matter for time.")
    ] = False,
    against: Annotated[list[str] | None, typer.Option(help="Another method beside it; repeatable.")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Pairs at once; repeatable; default 1, 2, 4, ...")] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="fp32, bf16 or fp16; repeatable; the first is the reference.")
    ] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Also compiled, in the fastest precision.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Also how time and memory grow; some minutes.")] = False,
    seconds: Annotated[float, typer.Option(help="Time of each measurement.")] = 3.0,
    parts: Annotated[int, typer.Option(help="Good parts that a memory without a run is as large as.")] = 223,
    set_: opt.Settings = None,
    device: opt.Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json.")] = None,
    json: opt.Json = False,
) -> None:
    """How fast, how large and how exact: stages, throughput, memory, operations, and what fast paths give away."""
    from uipad_cli.config import merge
    from uipad_cli.engine import bench as engine
    from uipad_cli.engine import bench_table as shown
    from uipad_cli.engine.bench_subject import Request

    merged = merge([], set_ or [], {"method": method, "backbone": backbone})
    request = Request(
        merged, run, data, against or (), batch or (), precision or (), compile_, device, seconds, parts,
        random_weights, weights, growth, out,
    )  # fmt: skip
    with console.progress() as report:
        done = engine.bench(request, report=report)
    console.notes(shown.sentences(done))
    for title, columns, rows in shown.tables(done):
        console.table(title, columns, rows)
    console.notes(shown.remarks(done))
    if json:
        console.data(done.document())


COMMANDS: tuple[Callable[..., None], ...] = (drift, compare, export, pretrain, backbones, ablate, bench)
