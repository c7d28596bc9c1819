"""Out of memory: smaller batches are tried, that is said, and the results are the same."""

import numpy as np
import pytest
import torch
from program import call

from uipad_cli.core.backbone import Encoder
from uipad_cli.engine.checkpoint import load_run
from uipad_cli.engine.judges import scored
from uipad_cli.engine.judging import judge, split_pairs
from uipad_cli.engine.runtime import choose_compute
from uipad_cli.errors import ResourceError
from uipad_cli.methods.parts import in_parts
from uipad_cli.methods.uipad import UIPADMethod


class Short:
    """A judge whose memory takes so many pairs at a time, and fails otherwise as devices and machines do."""

    def __init__(self, method, most, failure):
        self.method, self.most, self.failure, self.sizes = method, most, failure, []

    def score(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise self.failure
        return self.method.score(batch)


FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


@pytest.fixture(scope="module")
def ready(world):
    record, method = load_run(world.run, choose_compute("cpu", "fp32", "score"))
    return method, split_pairs(record, world.prepared, "test")


@pytest.mark.parametrize("failure", FAILURES, ids=["device", "machine", "python"])
@pytest.mark.parametrize("most", [1, 3])
def test_smaller_batches_are_tried_and_say_the_same(most, failure, ready):
    method, pairs = ready
    said = []
    short = Short(method, most, failure)
    usual = list(judge(method, pairs, lambda _: None))
    told = list(judge(short, pairs, said.append))
    assert len(usual) == len(told) == 9
    for one, other in zip(usual, told, strict=True):
        assert one.score == other.score
        assert np.array_equal(one.map, other.map, equal_nan=True)
        assert all(np.array_equal(one.voices[name], other.voices[name]) for name in one.voices)
    fits = 1 if most == 1 else 2  # halves of four
    notes = [step.note for step in said if not step.total]
    expected = [size for size in (2, 1) if size >= fits]
    assert [f"{size} pair(s) at a time" in note for size, note in zip(expected, notes, strict=True)] == [True] * len(
        expected
    )
    assert short.sizes.count(4) == 1  # what did not fit is not tried again
    assert max(short.sizes[len(expected) + 1 :]) <= fits


def test_one_pair_too_many_is_a_matter_of_resources(ready):
    method, pairs = ready
    short = Short(method, 0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore"))
    with pytest.raises(ResourceError, match=r"not enough memory for one pair \(CUDA out of memory.*GiB\)"):
        list(judge(short, pairs, lambda _: None))


def test_another_fault_is_not_taken_for_a_lack_of_memory(ready):
    method, pairs = ready
    short = Short(method, 2, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(judge(short, pairs, lambda _: None))
    assert short.sizes == [4]


def test_slices_come_in_order_and_cover_all():
    shrunk = []

    def work(chosen):
        if chosen.stop - chosen.start > 3:
            raise MemoryError
        return list(range(chosen.start, chosen.stop))

    parts = list(in_parts(work, 11, 100, shrunk.append))
    assert [place for part in parts for place in part] == list(range(11))
    assert shrunk == [6, 3]


def test_features_of_good_parts_are_encoded_in_smaller_batches_to_the_same_run(
    world, quick, tmp_path, capsys, monkeypatch
):
    real = Encoder.group_means

    def short(self, images, groups):
        if len(images) > 4:  # two pairs
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, images, groups)

    settings = [part for one in quick for part in ("--set", one)]
    train = ["train", world.prepared, "--category", "pegs", *settings, "--no-cache", "--out", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "group_means", short)
        code, _, told = call(capsys, *train)
    assert code == 0, told
    assert "not enough memory for a batch; 2 pair(s) are encoded at a time from here on" in told
    assert (tmp_path / "run" / "method.safetensors").read_bytes() == (world.run / "method.safetensors").read_bytes()


def test_a_step_that_does_not_fit_is_told_with_what_would_help(world, quick, tmp_path, capsys, monkeypatch):
    def short(self, *_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(UIPADMethod, "fit", short)
    settings = [part for one in quick for part in ("--set", one)]
    code, _, told = call(capsys, "train", world.prepared, "--category", "pegs", *settings, "--out", tmp_path / "run")
    assert code == ResourceError.exit_code
    assert "error: not enough memory: CUDA out of memory" in told
    assert "options.training.batch" in told


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_a_device_that_is_full_is_used_in_smaller_batches(world):
    """A real lack of memory: so much of the device is taken that a batch does not fit."""
    record, method = load_run(world.run, choose_compute("cuda", "fp32", "score"))
    pairs = split_pairs(record, world.prepared, "test")
    framed = [pairs.arrays([pairs.sample(item)]) for item in pairs.items] * 40
    usual = scored(method, framed[:9], print)
    torch.cuda.empty_cache()
    taken = torch.cuda.mem_get_info()[0] - 300 * 2**20
    room = torch.empty(taken, dtype=torch.uint8, device="cuda")
    said = []
    told = scored(method, framed, said.append)
    del room
    assert said
    assert np.allclose(told.image[:9], usual.image, atol=1e-4)
