"""How a backbone of our own learns to see: patches of one part are alike in every view, flaws are like nothing in it.

Two views of a made-up part differ in pose, light and noise, and the second has flaws. The features that are trained are
the very ones that methods use: the group means of the kept blocks. Two losses ask of them what anomaly detection needs.
Contrast (InfoNCE, Oord et al. 2018, over patches as in DenseCL, Wang et al. 2021): a patch finds itself in the other
view among all patches of the batch. Novelty: the distance of a patch to its nearest neighbour in the good view, the
PatchCore score, picks the flawed patches out of the sound ones of their image. Besides, colours and edges of a patch
must be readable from its features by a linear map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.backbone import group_means
from uipad_cli.core.tiny import PATCH, TinyViT

SOUND, FLAWED = 0.0, 0.05  # share of a patch that shows a flaw: none, or more than this; between, it is left out
NEAR = 1.5  # patches closer than this to the right one are not wrong answers
ALIKE = 0.4  # total difference of content up to which patches of one part are not wrong answers either
SHARPNESS, SHARPEST = 40.0, 150.0  # of the softmax over distances 1 - cosine: at first, and as far as it may learn
CONTRAST_WEIGHT, NOVELTY_WEIGHT = 0.25, 1.5
ORIENTATIONS = 8
DESCRIBED = 6 + 2 * ORIENTATIONS
ANCHORS = 48  # patches per view pair that contrast is asked of
NONE = -1e4  # as good as minus infinity in a sum of exponentials, and its gradient is a number where all are left out


@dataclass(frozen=True)
class Lesson:
    """Two views of B parts: images [2,B,3,S,S], poses [2,B,2,3] (pixel from middle → part), flawed [B,S,S].

    content [B,K,h,w]: what fills each patch of the first view; laid_out [B]: 1 where both views show the same layout.
    """

    images: Tensor
    poses: Tensor
    flawed: Tensor
    content: Tensor
    laid_out: Tensor


class Pupil(nn.Module):
    """A backbone that learns, and what its lessons need besides."""

    def __init__(self, vit: TinyViT, groups: int = 2, temperature: float = 0.1) -> None:
        super().__init__()
        self.vit, self.groups, self.temperature = vit, groups, temperature
        self.describe = nn.Linear(groups * vit.embed_dim, DESCRIBED)
        self.sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))

    def features(self, images: Tensor) -> Tensor:
        """[V,3,S,S] → unit vectors [V,N,F]: the group means of all blocks, each of unit length, side by side."""
        layers = torch.stack(self.vit.forward_intermediates(images), dim=1)
        means = functional.normalize(group_means(layers.float(), self.groups), dim=-1)
        return torch.div(means.permute(0, 2, 1, 3).flatten(2), self.groups**0.5)  # [V,G,N,D] -> [V,N,G*D]

    def forward(self, lesson: Lesson, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of one lesson and its parts."""
        good = self.features(lesson.images[0])
        other = self.features(lesson.images[1])
        place, sound, flawed = truth(lesson)
        content = lesson.content.flatten(2).transpose(1, 2)
        asked = sound & (lesson.laid_out > 0)[:, None]
        description = self.description(good, lesson.images[0]) + self.description(other, lesson.images[1])
        contrast = self.contrast(good, other, place, asked, content, generator)
        novelty, ratio = self.novelty(good, other, sound, flawed)
        parts = {"contrast": float(contrast.detach()), "novelty": float(novelty.detach()), "ratio": ratio}
        parts["description"] = float(description.detach()) / 2
        return CONTRAST_WEIGHT * contrast + NOVELTY_WEIGHT * novelty + description, parts

    def judge(self, lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
        """How far the second view's patches are from the first view, which are sound, which flawed: each [B,N]."""
        good = self.features(lesson.images[0])
        other = self.features(lesson.images[1])
        _, sound, flawed = truth(lesson)
        return nearest(other, good), sound, flawed

    def contrast(
        self, good: Tensor, other: Tensor, place: Tensor, sound: Tensor, content: Tensor, generator: torch.Generator
    ) -> Tensor:
        """InfoNCE of ANCHORS sound patches per pair: the right patch against all of the first views."""
        views, count, width = good.shape
        edge = round(count**0.5)
        lottery = torch.rand(views, count, generator=generator, device=good.device) * sound
        anchors = lottery.topk(min(ANCHORS, count), dim=1).indices  # [B,A]
        asked = torch.gather(other, 1, anchors[..., None].expand(-1, -1, width))
        spots = torch.gather(place, 1, anchors[..., None].expand(-1, -1, 2))
        right = functional.normalize(_sample(good, spots, edge), dim=-1)
        positive = (asked * right).sum(-1) / self.temperature  # [B,A]
        wrong = asked.flatten(0, 1) @ good.flatten(0, 1).T / self.temperature  # [B*A, B*N]
        axis = torch.arange(edge, device=good.device, dtype=spots.dtype)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")[::-1], dim=-1).flatten(0, 1)  # [N,2] x, y
        near = (spots[:, :, None] - grid).norm(dim=-1) < NEAR  # [B,A,N]
        near |= torch.cdist(_sample(content, spots, edge), content, p=1.0) < ALIKE
        own = torch.zeros(views, anchors.shape[1], views, count, dtype=torch.bool, device=good.device)
        index = torch.arange(views, device=good.device)
        own[index, :, index] = near
        wrong = wrong.masked_fill(own.flatten(0, 1).flatten(1), float("-inf"))
        positive = positive.flatten()
        loss = torch.logaddexp(positive, wrong.logsumexp(dim=1)) - positive
        chosen = torch.gather(sound, 1, anchors).flatten().float()
        return (loss * chosen).sum() / chosen.sum().clamp(min=1)

    def description(self, features: Tensor, images: Tensor) -> Tensor:
        """Mean squared error of what a linear layer reads about colours and edges, all of unit variance."""
        wanted = described(images)
        wanted = (wanted - wanted.mean(dim=(0, 1))) / wanted.std(dim=(0, 1)).clamp(min=1e-3)
        told = self.describe(features * features.shape[-1] ** 0.5)
        return functional.mse_loss(told.float(), wanted)

    def novelty(self, good: Tensor, other: Tensor, sound: Tensor, flawed: Tensor) -> tuple[Tensor, float]:
        """How surely the flawed patches are picked out of the sound ones of their image by distance to the good view.

        Cross-entropy of a softmax over the distances to the nearest neighbour: no common threshold is asked for, as
        every kind of part gets its own. Half of it asks every flawed patch, half all of an image's flawed patches
        together: where a large piece is missing, what lies there instead may be nothing strange but at its rim.
        Also the ratio of the mean distances, flawed to sound.
        """
        distance = nearest(other, good)
        strange = self.sharpness.exp().clamp(max=SHARPEST) * distance
        crowd = strange.masked_fill(~sound, NONE).logsumexp(dim=1, keepdim=True)
        each = _masked_mean(torch.logaddexp(strange, crowd) - strange, flawed, dim=1)  # [B]
        together = strange.masked_fill(~flawed, NONE).logsumexp(dim=1, keepdim=True)
        surprise = each + (torch.logaddexp(together, crowd) - together)[:, 0]
        ratio = _masked_mean(distance, flawed) / _masked_mean(distance, sound).clamp(min=1e-6)
        asked = flawed.any(dim=1) & sound.any(dim=1)
        return _masked_mean(surprise, asked) / 2, float(ratio.detach())


def nearest(asked: Tensor, known: Tensor) -> Tensor:
    """1 - cosine of each unit vector [B,N,F] to the nearest of [B,M,F] → [B,N], in float32.

    Sound patches lie a few hundredths from their neighbours, which is less than half precision tells apart.
    """
    with torch.autocast(asked.device.type, enabled=False):
        return 1 - (asked.float() @ known.float().transpose(1, 2)).amax(dim=2)


@torch.no_grad()
def described(images: Tensor) -> Tensor:
    """Colours and edges of each patch [V,3,S,S] → [V,N,DESCRIBED]: means, deviations, orientations at two scales."""
    means = functional.avg_pool2d(images, PATCH)
    spread = (functional.avg_pool2d(images.square(), PATCH) - means.square()).clamp(min=0).sqrt()
    found = [means, spread]
    grey = images.mean(dim=1, keepdim=True)
    for scale in (1, 2):
        coarse = functional.avg_pool2d(grey, scale) if scale > 1 else grey
        padded = functional.pad(coarse, (1, 1, 1, 1), mode="replicate")
        right = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
        down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
        turns = torch.arange(ORIENTATIONS, device=images.device) * (torch.pi / ORIENTATIONS)
        along = right * turns.cos().view(1, -1, 1, 1) + down * turns.sin().view(1, -1, 1, 1)
        found.append(functional.avg_pool2d(along.abs(), PATCH // scale).sqrt())
    return torch.cat(found, dim=1).flatten(2).transpose(1, 2)


def truth(lesson: Lesson) -> tuple[Tensor, Tensor, Tensor]:
    """Places of the second view's patches in the first [B,N,2], and which are sound, which flawed [B,N] bool."""
    edge = lesson.images.shape[-1] // PATCH
    place = patch_places(lesson.poses, edge)
    share = functional.avg_pool2d(lesson.flawed[:, None], PATCH).flatten(1)
    seen = ((place >= 0) & (place <= edge - 1)).all(dim=-1)
    return place, seen & (share <= SOUND), seen & (share > FLAWED)


def patch_places(poses: Tensor, edge: int) -> Tensor:
    """Where the patches of the second views lie in the first ones [B,edge*edge,2]: x, y in patches, 0 = the first."""
    axis = (torch.arange(edge, device=poses.device) - (edge - 1) / 2) * PATCH
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="ij")[::-1], dim=-1).flatten(0, 1)  # [N,2] x, y
    part = pixels @ poses[1, :, :, :2].transpose(1, 2) + poses[1, :, None, :, 2]
    back = torch.linalg.inv(poses[0, :, :, :2])
    back_there = torch.matmul(part - poses[0, :, None, :, 2], back.transpose(1, 2))
    return torch.div(back_there, PATCH) + (edge - 1) / 2


def _sample(tokens: Tensor, spots: Tensor, edge: int) -> Tensor:
    """Tokens [B,N,F] interpolated at spots [B,A,2] in patches → [B,A,F]."""
    grid = (2 * spots + 1) / edge - 1
    image = tokens.transpose(1, 2).reshape(len(tokens), -1, edge, edge)
    found = functional.grid_sample(image, grid[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


def _masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    return (values * mask).sum(dim) / mask.sum(dim).clamp(min=1)
