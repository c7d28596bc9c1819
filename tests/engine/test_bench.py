"""What `bench` tells: its structure, what can be counted exactly, and what it refuses; never a time itself."""

import itertools
import json
from dataclasses import dataclass, replace

import pytest
import torch
from program import call
from torch import nn

from uipad_cli import config
from uipad_cli.core.compute import Compute
from uipad_cli.data.framing import Framing
from uipad_cli.engine import bench_clock, bench_growth, bench_subject
from uipad_cli.engine import bench_table as shown
from uipad_cli.engine.bench import bench
from uipad_cli.engine.bench_accuracy import answers, compared, in_company
from uipad_cli.engine.bench_clock import LEAST, MOST, WARM_UP, Clock, Machine, peak
from uipad_cli.engine.bench_growth import Growth, Row
from uipad_cli.engine.bench_measure import Measured
from uipad_cli.engine.bench_memory import growth, weights
from uipad_cli.engine.bench_stages import MODEL_STAGES, Seam, metered, model_seams, operations
from uipad_cli.engine.bench_subject import Request, opened
from uipad_cli.errors import UsageError, WeightsError
from uipad_cli.records import silent

CPU = torch.device("cpu")
SIZE = 112
SMALL = [f"framing.resize={SIZE}", f"framing.crop={SIZE}"]
OWN = ("method", "precision")


def request(*settings, method=None, backbone="tiny", **more):
    configuration = config.merge([], [*SMALL, *settings], {"backbone": backbone, "method": method})
    return replace(Request(configuration, batches=(1, 2), precisions=("fp32", "bf16"), seconds=0.01, parts=3), **more)


@pytest.fixture(scope="module", autouse=True)
def small():
    """Small scenes and small products."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_subject, "SCENE_SIZE", SIZE)
        patch.setattr(bench_clock, "LARGEST", 512)
        yield


@pytest.fixture(scope="module")
def done():
    return bench(request(against=("patchcore", "inp_former")))


class Ticks:
    """A clock that moves on by one second at each look."""

    def __init__(self, step=1.0):
        self.time, self.step = 0.0, step

    def __call__(self):
        self.time += self.step
        return self.time


@pytest.mark.parametrize(("step", "count"), [(2.0, LEAST), (0.0, MOST)])
def test_repetitions_end_with_the_time_and_are_all_told(step, count):
    calls = []
    found = Clock(CPU, 3.0, now=Ticks(step)).timed(lambda: calls.append(1))
    assert found.count == count
    assert found.median == found.low == found.high == step
    warm = len(calls) - count
    assert warm == (WARM_UP if step == 0 else 1)  # a slow warm-up is cut short


def test_the_median_is_of_the_repetitions_alone():
    turns = itertools.chain([100.0] * WARM_UP, itertools.cycle([1.0, 2.0, 3.0]))
    clock = Ticks(0.0)

    def work():
        clock.time += next(turns)

    found = Clock(CPU, 1000.0, now=clock).timed(work)
    assert (found.low, found.median, found.high, found.count) == (1.0, 2.0, 3.0, MOST)


def test_inner_stages_are_not_counted_twice_and_everything_is_put_back():
    @dataclass
    class Kettle:
        time: float = 0.0

        def outer(self):
            self.time += 1
            self.inner()
            self.time += 2

        def inner(self):
            self.time += 4

    kettle = Kettle()
    seams = [Seam("outer", kettle, "outer"), Seam("inner", kettle, "inner"), Seam("never", Kettle, "__repr__")]
    own = Kettle.__repr__
    with metered(seams, lambda: kettle.time) as totals:
        kettle.outer()
        kettle.inner()
    assert dict(totals) == {"outer": 3, "inner": 8}
    assert set(vars(kettle)) == {"time"}
    assert Kettle.__repr__ is own


def test_wrappers_go_when_the_work_fails():
    module = nn.Linear(2, 2)

    def fail(*_):
        raise RuntimeError("broken")

    module.forward = fail
    with pytest.raises(RuntimeError, match="broken"), metered([Seam("one", module, "forward")], lambda: 0.0):
        module(torch.zeros(1, 2))
    assert module.forward is fail


def test_bytes_are_counted_once_wherever_they_lie():
    @dataclass
    class Bank:
        patches: torch.Tensor

    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    assert weights(module) == 4 * (12 + 3) + 4 * 4 * 3 + 8
    module[1] = nn.Linear(4, 3)
    module[1].weight = module[0].weight
    module.banks = [Bank(torch.zeros(5, 2)), Bank(module[0].weight.detach().T)]
    assert weights(module) == 4 * (12 + 3 + 3) + 4 * 10


def test_memory_is_at_least_what_is_filled():
    found = growth(lambda: torch.ones(20 * 2**20).sum(), CPU)
    assert found is None or found >= 70 * 2**20


def test_a_square_product_has_a_rate():
    found = peak(torch.float32, Clock(CPU, 0.01, least=1))
    assert found.rate > 0
    assert found.edge >= 256


@pytest.fixture(scope="module")
def opened_up(tmp_path_factory):
    subject, workload, record = opened(request(), tmp_path_factory.mktemp("pairs"))
    assert record is None
    return subject, workload


def test_operations_of_the_encoder_are_those_of_its_layers(opened_up):
    subject, workload = opened_up
    method = subject.method(Compute(CPU))
    found = operations(method, workload.batch(1))
    assert list(found) == list(MODEL_STAGES)
    places, width = (SIZE // 14) ** 2, 192
    mlp = 8 * 2 * 2 * 4 * width * width * places  # 8 blocks, two products of D x 4D
    attention = 4 * 2 * width * width * places + 2 * 2 * places * places * width  # qkv and projection; both products
    cells = (SIZE + 2 * 5 - 4) // 2 + 1
    stem = 2 * 3 * 4 * 4 * 32 * cells**2 + 2 * 32 * 11 * 11 * width * places
    near = 6 * 2 * 9 * width * places
    assert found["encoder"] == 2 * (mlp + attention + stem + near)  # both images
    twice = operations(method, workload.batch(2))
    assert twice["encoder"] == 2 * found["encoder"]
    assert {seam.stage for seam in model_seams(method)} == set(MODEL_STAGES[:3])


def test_every_method_has_its_stages(done):
    for name, stages in (("uipad", 4), ("patchcore", 2), ("inp_former", 4)):
        assert len(done.operations[name]) == stages
        for one in done.of(name):
            assert list(one.stages) == list(done.operations[name])
            assert sum(one.stages.values()) == pytest.approx(1)
            assert all(share > 0 for share in one.stages.values())


def test_what_is_measured_has_its_place(done):
    assert [(one.method, one.path) for one in done.measured] == [
        (name, kind) for name in ("uipad", "patchcore", "inp_former") for kind in ("fp32", "bf16")
    ]
    for one in done.of("uipad"):
        assert [point.batch for point in one.points] == [1, 2]
        assert one.best in one.points
    assert sorted(len(one.points) for one in done.of("patchcore")) == [1, 2]  # the fastest alone, in all sizes
    for one in done.measured:
        assert one.memory.weights > 0
        assert all(point.model.count > 0 and point.rate > 0 and point.copied is None for point in one.points)
        assert done.share(one, 0) > 0
    assert done.peaks.keys() == {"fp32", "bf16"}


def test_the_road_from_files_is_whole(done):
    assert list(done.road.stages) == ["decode", "geometry", "framing", "model", "map", "write", "rest"]
    assert sum(done.road.stages.values()) == pytest.approx(1)
    assert all(done.road.stages[stage] > 0 for stage in ("decode", "geometry", "framing", "model", "map", "write"))
    assert done.road.times_model > 1


def test_fast_paths_are_held_against_float32(done):
    told = [(one.method, one.path, one.batch) for one in done.accuracy]
    assert told == [("uipad", "fp32", 2), ("uipad", "bf16", 1), ("patchcore", "bf16", 1), ("inp_former", "bf16", 1)]
    company, *reduced = done.accuracy
    assert company.equal
    assert company.image.largest == 0
    for one in reduced:
        assert not one.equal
        assert one.map.largest >= one.map.mean > 0
        assert one.harmless is None  # no labels


def test_bitwise_means_bitwise(opened_up):
    subject, workload = opened_up
    method = subject.method(Compute(CPU))
    reference = answers(method, workload)
    again = compared(reference, answers(method, workload), "uipad", "fp32")
    assert again.equal
    assert again.map.largest == again.image.largest == 0
    moved = replace(reference, images=torch.nextafter(reference.images, torch.tensor(9.0)))
    assert not compared(reference, moved, "uipad", "fp32").equal
    company = in_company(reference, method, workload, 3, ("uipad", "fp32"))
    assert company.batch == 3
    assert company.equal


def test_the_document_comes_back_as_it_was(done, tmp_path):
    told = done.document()
    assert json.loads(json.dumps(told, allow_nan=False)) == json.loads(json.dumps(told))
    assert told["method"] == "uipad"
    assert told["image_size"] == SIZE
    assert [tuple(one[key] for key in OWN) for one in told["methods"]] == [
        tuple(getattr(one, key) for key in OWN) for one in done.measured
    ]
    point = told["methods"][0]["points"][0]
    assert point["pairs_per_second"] == pytest.approx(1 / point["model"]["median"])
    assert told["operations"]["uipad"] == dict(done.operations["uipad"])


def test_tables_are_whole(done):
    found = shown.tables(done)
    assert [title.split(",")[0].split(":")[0] for title, _, _ in found] == [
        "model", "files to verdict", "throughput", "memory", "operations", "against fp32", "methods",
    ]  # fmt: skip
    for _, columns, rows in found:
        assert rows
        assert {len(row) for row in rows} == {len(columns)}
    throughput = found[2][2]
    assert sum(row[-1] == "best" for row in throughput) == 2
    assert [row[0] for row in found[-1][2]] == ["uipad", "patchcore", "inp_former"]
    assert found[-1][2][0][-1] == "1.00"
    assert any("coreset=0.1" in told for told in shown.remarks(done))


def test_a_busy_machine_is_told():
    quiet = Machine("cpu", "a processor", "2", 1, 2, 0.5)
    assert not quiet.busy
    assert len(quiet.sentences()) == 1
    busy = replace(quiet, load=1.5)
    assert busy.busy
    assert "worthless" in busy.sentences()[1]
    assert not replace(quiet, load=None).busy


def test_a_run_and_its_test_split(world):
    asked = Request(config.merge([], []), world.run, world.prepared, batches=(1,), precisions=("bf16",), seconds=0.01)
    found = bench(asked)
    assert found.size == SIZE
    (reduced,) = found.accuracy
    assert 0 <= reduced.auroc <= 1
    assert 0 <= reduced.reference_auroc <= 1
    assert isinstance(reduced.harmless, bool)
    assert found.road.stages["decode"] > 0  # of prepared files
    assert any("AUROC" in columns for _, columns, _ in shown.tables(found))


def test_a_run_on_rendered_pairs_and_raw_pairs_without_a_run(world, tmp_path):
    _, workload, record = opened(Request(config.merge([], []), world.run), tmp_path)
    assert record.preparation == workload.pairs.preparation
    assert not workload.labelled
    subject, workload, record = opened(request(data=world.raw), tmp_path)
    assert (record, subject.state) == (None, None)
    assert "pegs" in workload.source
    assert workload.batch(2).rgb.shape == (2, 3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"batches": (0,)}, "--batch 0"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds"),
        ({"parts": 0}, "--parts"),
        ({"against": ("patchcor",)}, "unknown method 'patchcor'"),
        ({"against": ("uipad",)}, "measured anyway"),
        ({"precisions": ("int4",)}, "unknown precision"),
        ({"method": "patchcor"}, "unknown method"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(asked, told):
    with pytest.raises(UsageError, match=told):
        bench(request(**asked))


@pytest.mark.parametrize(
    ("configuration", "more", "told"),
    [
        (([], {"method": "uipad"}), {}, "--method: the run has its own method"),
        ((["options.blocks=2"], {}), {}, "the run has its own options.blocks"),
        (([], {}), {"random_weights": True}, "--random-weights"),
        (([], {}), {"weights": "tiny.pth"}, "--weights"),
    ],
)
def test_a_run_keeps_its_own(world, tmp_path, configuration, more, told):
    with pytest.raises(UsageError, match=told):
        opened(Request(config.merge([], *configuration), world.run, **more), tmp_path)


def test_weights_that_are_not_there_need_not_be(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("uipad_cli.engine.weights.cached_weights", lambda repository: None)
    with pytest.raises(WeightsError) as fault:
        opened(request(backbone="vit_tiny_patch16_224"), tmp_path)
    assert "--random-weights" in fault.value.cure
    subject, _, _ = opened(request(backbone="vit_tiny_patch16_224", random_weights=True), tmp_path)
    assert subject.source == "random weights"


def test_growth_has_its_rows_and_powers(monkeypatch, opened_up):
    sizes = {"PAIRS": (2, 4), "PIXELS": (56, 112), "PROTOTYPES": (6, 12), "TOGETHER": (1, 2), "EACH": 2, "STEPS": 2}
    for name, value in {**sizes, "FRAMING": Framing(resize=SIZE, crop=SIZE)}.items():
        monkeypatch.setattr(bench_growth, name, value)
    found = bench_growth.growths(opened_up[0], Compute(CPU), Clock(CPU, 0.01), silent)
    assert [(one.of, [row.size for row in one.rows]) for one in found] == [
        ("pairs", [2, 4]), ("pixels along an edge", [56, 112]), ("prototypes", [6, 12]), ("categories", [1, 2]),
    ]  # fmt: skip
    for one in found:
        assert all(row.seconds > 0 for row in one.rows)
        assert one.exponent is not None
        assert one.of in one.sentences()[0]
    assert all(0 < row.encoding < row.seconds for row in found[0].rows)
    assert all(row.encoding is None for row in found[1].rows)
    assert "encoding seconds" in found[0].sentences()[0]
    assert "a model for each of 2" in found[-1].sentences()[1]


def test_a_power_is_told_of_what_is_known():
    rows = [Row(8, 1.0, None, None), Row(16, 2.0, None, 5)]
    found = Growth("scoring", "pairs", rows)
    assert found.sentences() == ["scoring: seconds grow as pairs^1.00"]
    assert found.document()["bytes_exponent"] is None


def test_compiled_points_keep_their_own_path():
    found = Measured("uipad", "bf16", True, 1.0, {}, (), None)
    assert found.path == "bf16 compiled"


@pytest.mark.slow
def test_a_compiled_network_says_the_same():
    found = bench(request(compiled=True, precisions=("fp32",), batches=(1, 2)))
    if found.notes:
        pytest.skip(found.notes[0])
    compiled = found.measured[-1]
    assert compiled.compiled
    assert compiled.cold > 0
    assert found.accuracy[-1].path == "fp32 compiled"
    assert found.accuracy[-1].map.relative < 1e-3


def test_a_compiler_that_is_missing_costs_a_note(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no C++ compiler\nhere")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    found = bench(request(compiled=True, precisions=("fp32",), batches=(1,)))
    assert found.notes == ["could not be compiled here: the network cannot be compiled here: no C++ compiler"]
    assert "no C++ compiler" in shown.remarks(found)[-1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_on_cuda_copies_are_told_apart():
    found = bench(request(device="cuda", precisions=("fp32", "fp16"), against=("patchcore",)))
    for one in found.of("uipad"):
        assert all(point.copied is not None for point in one.points)
        assert one.memory.activations > 0


def test_bench_as_scripts_call_it(capsys, tmp_path):
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["bench", "--backbone", "tiny", "--seconds", 0.01, "--parts", 2, "--precision", "fp32", *settings]
    code, out, err = call(capsys, *arguments, "--batch", 1, "--out", tmp_path)
    assert (code, out) == (0, "")
    assert json.loads((tmp_path / "bench.json").read_text())["method"] == "uipad"
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    assert call(capsys, *arguments, "--against", "patchcor", "--out", tmp_path)[0] == 2
    assert json.loads((tmp_path / "bench.json").read_text())["method"] == "uipad"  # of the run before
    assert "files to verdict" in err
    code, out, err = call(capsys, *arguments, "--batch", 0)
    assert (code, out) == (2, "")
    assert "--batch 0" in err
