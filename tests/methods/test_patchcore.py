import torch

from uipad_cli.core.backbone import build_encoder
from uipad_cli.core.compute import Compute
from uipad_cli.core.memory import moved
from uipad_cli.methods.patchcore import PatchCoreMethod, PatchCoreOptions
from uipad_cli.records import Batch, silent

SIZE = 112


def edges():
    rgb = torch.zeros(1, 3, SIZE, SIZE)
    rgb[:, :, 31:60, 17:75] = 1
    return Batch(rgb, rgb.clone(), torch.ones(1, SIZE, SIZE, dtype=torch.bool))


def fitted(phases):
    options = PatchCoreOptions(phases=phases, coreset=1.0)
    method = PatchCoreMethod(build_encoder("gabor", SIZE), options, Compute(torch.device("cpu")), 0)
    method.fit([edges()], silent)
    return method


def test_looks_half_a_patch_apart_make_parts_that_are_moved_by_half_a_patch_familiar():
    batch = edges()
    other = Batch(moved(batch.rgb, 7, 7), moved(batch.geometry, 7, 7), batch.valid)
    one, two = fitted(1), fitted(2)
    assert [len(two.bank), len(fitted(3).bank)] == [4 * len(one.bank), 9 * len(one.bank)]
    assert one.score(batch).image < 1e-2
    assert one.score(other).image > 0.05
    assert two.score(other).image < 1e-2
