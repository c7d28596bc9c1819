"""The command line: options, help and exit codes. Every body hands over to a function in engine/."""

from __future__ import annotations

import signal
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from uipad_cli import __version__, console
from uipad_cli import options as opt
from uipad_cli.cli_study import COMMANDS
from uipad_cli.errors import EXIT_INTERRUPT, Terminated

app = typer.Typer(
    name="uipad",
    help="Find defects in parts from a colour image and a registered 3D scan, having seen only good parts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: list[str] | None = None) -> int:
    """Run the program, or in a process of someone else's on these arguments; returns the exit code."""
    from uipad_cli.engine.runtime import run_program

    return run_program(_run, console.last_words) if argv is None else _run(argv)


def _run(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]  # wherever it stands
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app(args=arguments, prog_name="uipad")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPT:  # Typer says nothing of it
            return console.explain(KeyboardInterrupt())
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (Exception, KeyboardInterrupt, Terminated) as fault:  # noqa: BLE001 - where a failure becomes an exit code
        if debug:
            traceback.print_exc()
        return console.explain(fault)
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated("terminated")


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"uipad {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Find defects in parts from a colour image and a registered 3D scan, having seen only good parts."""


@app.command()
def prepare(
    src: opt.Source,
    dst: opt.Destination,
    dataset: opt.Dataset = "auto",
    category: opt.Categories = None,
    check: opt.Check = False,
    unit: opt.Unit = "auto",
    missing: opt.Sentinel = "auto",
    intrinsics: opt.Camera = None,
    axis: opt.Axis = "auto",
    pitch: opt.Pitch = None,
    light: opt.Light = None,
    longest: opt.Longest = None,
    plane: opt.BackgroundPlane = "border",
    workers: opt.Workers = 0,
    verbose: opt.Verbose = False,
    json: opt.Json = False,
) -> None:
    """Raw pairs → a prepared copy: colour, height above the background, ground truth; tells what SRC is made of."""
    from uipad_cli.engine import prepare as engine
    from uipad_cli.engine.sensing import settings

    told = settings(plane=plane, unit=unit, missing=missing, intrinsics=intrinsics, axis=axis, pitch=pitch,
                    light=light, longest=longest)  # fmt: skip
    with console.progress(every=verbose) as report:
        summary = engine.prepare(
            src, dst, dataset=dataset, categories=category or (), preparation=told, workers=workers, check=check,
            report=report,
        )  # fmt: skip
    console.table(f"prepared {dst}", *summary.rows())
    if json:
        console.data(summary.document())
    summary.raise_for_failures()


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder that `uipad prepare` made.")],
    category: Annotated[str, typer.Option(help="Category to learn, or all: one model of every category.")],
    out: Annotated[Path, typer.Option(help="Folder for the run.")],
    method: Annotated[str | None, typer.Option(help="Method; default uipad.")] = None,
    backbone: Annotated[str | None, typer.Option(help="tiny, dinov2-base (default), any timm ViT, gabor.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Backbone weights: .safetensors, or a plain .pth.")] = None,
    config: Annotated[list[Path] | None, typer.Option("--config", help="YAML file; later ones win.")] = None,
    set_: opt.Settings = None,
    framing: opt.Framed = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Learn from so many good pairs, drawn by seed.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random; default 0.")] = None,
    device: opt.OwnDevice = None,
    precision: opt.OwnPrecision = None,
    resume: opt.Resume = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Keep no features on disk for the next run.")] = False,
    json: opt.Json = False,
) -> None:
    """Learn what good parts look like."""
    from uipad_cli.config import merge
    from uipad_cli.engine import train as engine

    flags = {"method": method, "backbone": backbone, "framing": framing, "shots": shots, "seed": seed}
    merged = merge(config or [], set_ or [], {**flags, "device": device, "precision": precision})
    with console.progress() as report:
        summary = engine.train(
            data, out, category=category, configuration=merged, weights=weights, cache=not no_cache, report=report
        )
    console.notes(summary.sentences())
    if json:
        console.data(summary.document())


@app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="A finished run, or a folder of runs.")],
    data: Annotated[Path | None, typer.Argument(help="Good parts, or labelled ones; default: those it kept.")] = None,
    fpr: Annotated[float | None, typer.Option(help="Chance that a good part raises an alarm, such as 0.01.")] = None,
    unsure: Annotated[
        float | None, typer.Option(help="Chance that a good part is not called good; default 0.05.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Your own: alarm above this score, nothing unsure.")] = None,
    f1: Annotated[bool, typer.Option("--f1", help="From labelled parts: the best F1.")] = False,
    cost_miss: Annotated[float | None, typer.Option(help="From labelled parts: what a missed defect costs.")] = None,
    cost_false_alarm: Annotated[
        float | None, typer.Option(help="... and a false alarm; each is 1 unless told.")
    ] = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    json: opt.Json = False,
) -> None:
    """Where to raise the alarm: from good parts alone, with what they can promise, or from labelled ones."""
    from uipad_cli.engine import calibrate as engine

    request = engine.Request(run, data, fpr, unsure, threshold, f1, cost_miss, cost_false_alarm, device, precision)
    with console.progress() as report:
        done = engine.calibrate(request, report=report)
    for one in done:
        console.notes(one.sentences())
    if json:
        console.data({"runs": [one.document() for one in done]})


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run, or a folder of runs (one per category).")],
    data: Annotated[Path, typer.Argument(help="Prepared or raw data set with a test split.")],
    out: Annotated[Path | None, typer.Option(help="Folder for figures and pictures; default RUN/eval.")] = None,
    page: Annotated[bool, typer.Option("--report", help="Also write OUT/report.html, a page of it all.")] = False,
    least: Annotated[list[str] | None, typer.Option("--min", help="Gate: image_auroc=0.95; repeatable.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Gate: metrics.json of an eval that must be reached.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="With --baseline: so much lower is let pass.")] = 0.005,
    missing: opt.Missing = None,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    compiled: opt.Compile = False,
    json: opt.Json = False,
) -> None:
    """Measure a run on the test split: figures per defect type, contact sheets, a page; or a gate: exit code 11."""
    from uipad_cli.engine import evaluate as engine
    from uipad_cli.engine.eval_page import report_page

    demands = engine.demanded(
        run, data, out, missing, least=least or [], baseline=baseline, tolerance=tolerance
    )  # fmt: skip
    with console.progress() as report:
        results = engine.evaluate(
            run, data, out=out, device=device, precision=precision, compiled=compiled, missing=missing, charts=page,
            report=report,
        )  # fmt: skip
    console.table(f"{data}", *engine.rows(results))
    if page:
        console.note(f"open {report_page(results, run, data, out, missing)}")
    gate = demands.gate(engine.figures(results))
    if gate.checks:
        console.table("gate", *gate.rows())
    if json:
        console.data(engine.timed(results) | ({"gate": gate.document()} if gate.checks else {}))
    raise typer.Exit(gate.exit_code())


@app.command()
def infer(
    rgb: opt.RgbOrFolder,
    model: Annotated[Path, typer.Option(help="Folder of a finished run, or of an export.")],
    depth: Annotated[Path | None, typer.Argument(help="Depth image or organised xyz of the same part.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for maps and heat maps.")] = Path("uipad-results"),
    threshold: Annotated[float | None, typer.Option(help="Alarm above this score, not the run's own.")] = None,
    unit: Annotated[str | None, typer.Option(help="Of the geometry: m, mm, 1/5000, ...; default as prepared.")] = None,
    missing: opt.Missing = None,
    ply: opt.Ply = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the folder: judge each pair once, as it arrives.")
    ] = False,
    idle: Annotated[
        float | None, typer.Option(min=0, help="With --watch: stop after so many seconds of nothing.")
    ] = None,
    on_error: opt.OnError = "skip",
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 10: anomalous; 12: unsure; 0: good.")
    ] = False,
    runs_by: opt.Engine = "torch",
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
    compiled: opt.Compile = False,
    json: opt.Json = False,
) -> None:
    """Judge one pair, or every pair of a folder: score, p-value, verdict, regions, anomaly map and pictures."""
    from uipad_cli.engine import infer as engine
    from uipad_cli.engine.inspector import Settings

    show = console.data_line if json else console.verdict
    with console.progress() as report:
        settings = Settings(model, out, threshold, device, precision, unit, missing, ply, runs_by, compiled)
        outcome = engine.infer(engine.Request(rgb, depth, settings, watch, idle, on_error), tell=show, report=report)
    outcome.raise_for_failures()
    raise typer.Exit(outcome.exit_code() if exit_code else 0)


@app.command()
def heatmap(
    run_or_map: Annotated[Path, typer.Argument(metavar="RUN|MAP.tiff", help="A run, or one anomaly map.")],
    data: Annotated[Path | None, typer.Argument(help="Prepared or raw data set (with RUN).")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("uipad-heatmaps"),
    rgb: Annotated[Path | None, typer.Option(help="Colour image below the map (with MAP.tiff).")] = None,
    prototypes: Annotated[bool, typer.Option("--prototypes", help="Also show which places each owns.")] = False,
    device: opt.Device = "auto",
    precision: opt.Precision = "auto",
) -> None:
    """Draw heat maps: of a whole test split, or of one map that `infer` wrote."""
    from uipad_cli.engine import heatmap as engine

    with console.progress() as report:
        request = engine.Request(run_or_map, data, out, rgb, device, precision, prototypes)
        written = engine.heatmap(request, report=report)
    console.note(f"pictures in {out}: {len(written)}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for data, runs and the page.")] = Path("uipad-demo"),
    category: opt.Categories = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the scenes and of training.")] = 0,
    device: opt.Device = "auto",
    json: opt.Json = False,
) -> None:
    """Built-in scenes → train → eval → heat maps → a page to open. Needs no download."""
    from uipad_cli.engine import demo as engine
    from uipad_cli.engine import evaluate as figures

    with console.progress() as report:
        results, page = engine.demo(out, categories=category or (), seed=seed, device=device, report=report)
    console.table("built-in scenes", *figures.rows(results))
    console.note(f"open {page}")
    if json:
        console.data(figures.timed(results) | {"page": str(page)})


for _command in COMMANDS:
    app.command()(_command)


@app.command()
def doctor(json: opt.Json = False) -> None:
    """What would fail on this machine, and how to mend it: versions, device, precision, weights, disk."""
    from uipad_cli.engine import doctor as engine

    findings = engine.examine()
    console.table("uipad doctor", *engine.rows(findings))
    if json:
        console.data(engine.document(findings))
    raise typer.Exit(engine.exit_code(findings))
