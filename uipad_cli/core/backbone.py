"""The frozen vision transformer that both modalities share: images in, kept layers out.

Blocks 2..9 of a 12-block ViT are kept (0-based, as INP-Former and the paper do); other depths keep eight blocks at the
same relative places. Blocks behind the last kept one are removed, so they cost neither time nor memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from timm.layers import PatchEmbed  # type: ignore[attr-defined]
from timm.models.vision_transformer import (  # type: ignore[attr-defined]
    Block,
    LayerScale,
    VisionTransformer,
    checkpoint_filter_fn,
)
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.gabor import GaborBank
from uipad_cli.core.tiny import TinyViT

KEPT_LAYERS = 8
TINY = "tiny"
TINY_RANDOM = "tiny-random"  # the control: tiny, untrained for good
GABOR = "gabor"
BUILT_IN = (TINY, GABOR, TINY_RANDOM)
TINY_SEED = 20260
ALIASES = {
    "dinov2-small": "vit_small_patch14_dinov2",
    "dinov2-base": "vit_base_patch14_dinov2",
    "dinov2-large": "vit_large_patch14_dinov2",
}
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLASSIFIER_PARTS = ("head.", "fc_norm.")


class Encoder(nn.Module):
    """A frozen ViT, cut off behind its last kept block.

    mean, std: [3], the colour statistics that the weights were trained with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, vit: Any, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.layers = kept_layers(len(vit.blocks))
        vit.prune_intermediate_layers(self.layers, prune_norm=True, prune_head=True)
        self.vit: Any = vit
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self._dtype = torch.float32
        self.requires_grad_(False).eval()

    @property
    def width(self) -> int:
        """Token width D."""
        return int(self.vit.embed_dim)

    @property
    def grid(self) -> tuple[int, int]:
        """Token grid (h, w)."""
        h, w = self.vit.patch_embed.grid_size
        return int(h), int(w)

    @property
    def patch(self) -> int:
        """Edge of a patch in pixels."""
        return int(self.vit.patch_embed.patch_size[0])

    def train(self, mode: bool = True) -> Encoder:
        """Stay in evaluation mode: the backbone is frozen, also inside a module that trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[B,3,H,W] in 0..1 → kept layers [B,L,N,D], float32; class and register tokens are dropped."""
        return torch.stack(list(self._kept(images)), dim=1).float()  # L x [B,N,D] -> [B,L,N,D]

    @torch.no_grad()
    def group_means(self, images: Tensor, groups: int) -> Tensor:
        """[B,3,H,W] in 0..1 → `group_means` of the kept layers [B,G,N,D], float32, without holding every layer."""
        run = len(self.layers) // groups
        assert run * groups == len(self.layers), f"{len(self.layers)} kept layers do not split into {groups} groups"
        sums: list[Tensor] = []
        for place, layer in enumerate(self._kept(images)):  # in the order of `mean`: the same to the last bit
            if place % run == 0:
                sums.append(layer.float())
            else:
                sums[-1] = sums[-1] + layer
        return torch.stack([total / run for total in sums], dim=1)

    def _kept(self, images: Tensor) -> Iterator[Tensor]:
        """Each kept layer [B,N,D] as soon as it is there."""
        normalised = ((images - self.mean) / self.std).to(self._dtype)
        if type(self.vit) is not VisionTransformer:
            kept = self.vit.forward_intermediates(
                normalised, indices=self.layers, norm=False, stop_early=True, output_fmt="NLC", intermediates_only=True
            )
            yield from kept
            return
        # the same steps as there, but it would hold all kept layers until the last is done
        tokens = self.vit.norm_pre(self.vit._pos_embed(self.vit.patch_embed(normalised)))
        for place, block in enumerate(self.vit.blocks):
            tokens = block(tokens)
            if place in self.layers:
                yield tokens[:, self.vit.num_prefix_tokens :]

    @torch.no_grad()
    def lighten(self, dtype: torch.dtype) -> None:
        """Keep everything in `dtype`, half the memory and more than twice the speed; features come out as float32.

        Scales that follow a product (LayerScale) become part of its weights.
        """
        if isinstance(self.vit, GaborBank):
            return  # computes in float32 whatever is asked for
        blocks: Any = self.vit.blocks if type(self.vit) is VisionTransformer else ()
        for block in blocks:
            if type(block) is not Block:
                continue
            parts: Any = block
            for product, place in ((parts.attn.proj, "ls1"), (parts.mlp.fc2, "ls2")):
                if isinstance(scale := getattr(parts, place), LayerScale):
                    product.weight.mul_(scale.gamma[:, None])
                    if product.bias is not None:
                        product.bias.mul_(scale.gamma)
                    setattr(parts, place, nn.Identity())
        embed: Any = self.vit.patch_embed
        if isinstance(embed, PatchEmbed) and isinstance(embed.proj, nn.Conv2d):
            embed.proj = PatchProduct(embed.proj)  # type: ignore[assignment]
        self.vit.to(dtype)
        self._dtype = dtype


class PatchProduct(nn.Module):
    """A convolution whose windows do not overlap, as one product: [B,C,H,W] → [B,D,h,w]."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.edge = convolution.stride[0]
        weight = convolution.weight.flatten(1)  # [D,C·edge²]
        self.spare = -weight.shape[1] % 8  # zeros up to a width that products in half the precision like
        self.weight = nn.Parameter(functional.pad(weight, (0, self.spare)), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, images: Tensor) -> Tensor:
        """Images of whole patches."""
        batch, channels, height, width = images.shape
        rows, columns = height // self.edge, width // self.edge
        windows = images.reshape(batch, channels, rows, self.edge, columns, self.edge)
        windows = windows.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * columns, -1)  # [B,N,C·edge²]
        seen = functional.linear(functional.pad(windows, (0, self.spare)), self.weight, self.bias)
        return seen.transpose(1, 2).reshape(batch, -1, rows, columns)


def kept_layers(depth: int) -> list[int]:
    """0-based indices of the kept blocks: 2..9 of 12, 4,6,..,18 of 24; all, in pairs, of eight or fewer."""
    if depth <= KEPT_LAYERS:
        return list(range(depth - depth % 2))
    start, end = depth / 6, max(0.75 * depth, depth / 6 + KEPT_LAYERS - 1)
    step = (end - start) / (KEPT_LAYERS - 1)
    return [int(start + step * place) for place in range(KEPT_LAYERS)]


def group_means(layers: Tensor, groups: int) -> Tensor:
    """[B,L,N,D] → means of `groups` consecutive runs of layers [B,G,N,D] (section 4.1; two groups as INP-Former)."""
    batch, count, tokens, width = layers.shape
    assert count % groups == 0, f"{count} kept layers do not split into {groups} equal groups"
    return layers.reshape(batch, groups, count // groups, tokens, width).mean(dim=2)


def timm_name(name: str) -> str:
    """The timm model name behind `name`: an alias such as `dinov2-base`, or any timm ViT itself."""
    return ALIASES.get(name, name)


def build_encoder(
    name: str, image_size: int, *, pretrained: bool | str = False, weights: Mapping[str, Tensor] | None = None
) -> Encoder:
    """Build one of BUILT_IN, an alias or any timm ViT for square images of `image_size` pixels.

    pretrained: let timm load its weights, from the hub (raises whatever the hub raises when it is out of reach) or from
    the hub's file of the given name that is already on this machine.
    weights: a full ViT state dict instead; position embeddings are resampled to the grid, a classifier head is left
    out, every other key must fit.
    Raises ValueError for a name that timm does not have, a model that is not a ViT, or keys that do not fit.
    """
    vit, mean, std = _create(name, image_size, pretrained)
    if weights is not None:
        kernel = "patch_embed.proj.weight"  # the filter below would resample another patch size without a word
        if kernel in weights:
            check_state({kernel: vit.state_dict()[kernel]}, {kernel: weights[kernel]})
        if isinstance(vit, VisionTransformer) and "pos_embed" in weights:
            weights = checkpoint_filter_fn(dict(weights), vit)
        weights = {key: value for key, value in weights.items() if not key.startswith(CLASSIFIER_PARTS)}
        check_state(vit.state_dict(), weights)
        vit.load_state_dict(weights)
    return Encoder(vit, mean=mean, std=std)


def hub_repository(name: str) -> str | None:
    """Hub repository that holds timm's weights of `name`, None where timm knows none."""
    configuration = timm.models.get_pretrained_cfg(timm_name(name))
    return str(configuration.hf_hub_id) if configuration and configuration.hf_hub_id else None


def patch_size(name: str) -> int:
    """Edge of a patch in pixels, read without giving the weights any memory. Raises ValueError as build_encoder."""
    with torch.device("meta"):
        vit, _, _ = _create(name, None, False)
    return int(vit.patch_embed.patch_size[0])


def check_state(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming keys that are missing, unexpected or of the wrong shape."""
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    shapes = [
        f"{key} is {list(found[key].shape)}, expected {list(expected[key].shape)}"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    faults = [("missing", missing), ("unexpected", unexpected), ("wrong shape", shapes)]
    told = [f"{kind}: {', '.join(keys[:3])}{_more(keys)}" for kind, keys in faults if keys]
    if told:
        raise ValueError("; ".join(told))


def _more(keys: list[str]) -> str:
    return f" and {len(keys) - 3} more" if len(keys) > 3 else ""


def _create(
    name: str, image_size: int | None, pretrained: bool | str
) -> tuple[Any, tuple[float, ...], tuple[float, ...]]:
    """The whole ViT and its colour statistics; image_size None keeps the model's own."""
    if name in (TINY, TINY_RANDOM):
        return new_tiny(image_size or 392), IMAGENET_MEAN, IMAGENET_STD
    if name == GABOR:
        return GaborBank(image_size or 392), (0.0,) * 3, (1.0,) * 3
    full_name = timm_name(name)
    if not timm.is_model(full_name.split(".")[0]):
        raise ValueError(f"timm has no model {full_name!r}")
    options: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    if isinstance(pretrained, str):
        options["pretrained_cfg_overlay"] = {"file": pretrained}
    try:
        vit: Any = timm.create_model(full_name, pretrained=bool(pretrained), num_classes=0, **options)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"{full_name} is not a plain vision transformer ({error})") from error
    except RuntimeError as error:
        if "pretrained" not in str(error):
            raise
        raise ValueError(f"timm has no weights {full_name!r} ({error})") from error
    parts = ("blocks", "patch_embed", "prune_intermediate_layers", "pretrained_cfg")
    if not all(hasattr(vit, part) for part in parts) or not hasattr(vit.patch_embed, "grid_size"):
        raise ValueError(f"{full_name} is not a plain vision transformer: it has no patch grid with blocks")
    if hasattr(vit.patch_embed, "backbone"):
        raise ValueError(f"{full_name} does not cut the image into patches by itself: a hybrid cannot be used")
    return vit, tuple(vit.pretrained_cfg["mean"]), tuple(vit.pretrained_cfg["std"])


def new_tiny(image_size: int, seed: int = TINY_SEED) -> TinyViT:
    """`tiny` with initial weights: the same on every machine, whatever the global seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TinyViT(image_size)
