"""What a backbone sees in a pair, as colours: patches that look alike to it have like colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from uipad_cli.core.backbone import Encoder, group_means
from uipad_cli.core.compute import Compute
from uipad_cli.methods.patchcore import GROUPS
from uipad_cli.records import Batch
from uipad_cli.render import tile

Picture = npt.NDArray[np.uint8]
COMPONENTS = 3
REST = (0.02, 0.98)  # quantiles of a component that become black and full colour


@torch.no_grad()
def feature_picture(encoder: Encoder, batch: Batch, compute: Compute) -> Picture:
    """The first pair of a batch: photograph and geometry image, each beside its principal components in colour."""
    images = torch.cat((batch.rgb[:1], batch.geometry[:1]))
    with compute.autocast():
        groups = group_means(encoder.to(compute.device)(images.to(compute.device)), GROUPS)
    tokens = functional.normalize(groups.float().cpu(), dim=-1).permute(0, 2, 1, 3).flatten(2)  # [2,N,G*D]
    size = int(images.shape[-1])
    rows = []
    for image, seen in zip(images, tokens, strict=True):
        colours = principal_colours(seen).reshape(*encoder.grid, COMPONENTS)
        large = functional.interpolate(colours.permute(2, 0, 1)[None], size=(size, size), mode="nearest")[0]
        rows.append([_bytes(image), _bytes(large)])
    return tile(rows)


def principal_colours(tokens: Tensor) -> Tensor:
    """Tokens [N,F] → their first three principal components [N,3], stretched to 0..1."""
    centred = tokens - tokens.mean(dim=0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    scores = centred @ directions[:COMPONENTS].T
    low, high = torch.quantile(scores, torch.tensor(REST), dim=0)
    return torch.clamp((scores - low) / (high - low).clamp(min=1e-6), 0, 1)


def _bytes(image: Tensor) -> Picture:
    return np.ascontiguousarray((image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())
