"""Features of equal weight, and residuals as multiples of what good parts show: all in closed form, from good parts.

Whitening: features of a frozen encoder vary a hundred times more along some directions than along others, and a cosine
or a square sees nothing but those. After it, every direction counts alike (Mahalanobis' distance; PaDiM, Defard et al.
2021, uses it per place, here once for all places). What a reconstruction cannot know, grain or an edge's exact place,
differs from place to place, so a residual is judged by what good parts have at places with such features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from uipad_cli.core.compute import Compute

HIDDEN = 500  # random directions of the expectation
ALIGNED = 8  # products in half the precision are fast where widths are multiples of this
DAMPING = 0.01  # of its least squares, as a share of the mean variance
OWN = 0.5  # half of the measure is the place's own expectation, half what is usual everywhere


class Whitening(nn.Module):
    """Means and matrices that give features unit variance in every direction, for each of `sets` kinds [K,D]."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, sets: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(sets, width))
        self.register_buffer("matrix", torch.eye(width).repeat(sets, 1, 1))

    def fit(self, samples: Tensor, floor: float) -> None:
        """From samples [n,K,D]. floor: least variance of a direction, as a share of the mean one."""
        self.centre(samples)
        for place, points in enumerate(samples.unbind(dim=1)):
            moved = points.double() - self.mean[place].double()
            variances, directions = torch.linalg.eigh(moved.T @ moved / len(moved))
            scales = (variances.clamp(min=0) + floor * variances.mean() + 1e-12).rsqrt()
            self.matrix[place] = (directions * scales) @ directions.T

    def centre(self, samples: Tensor) -> None:
        """Only take the mean of samples [n,K,D] away."""
        self.mean.copy_(samples.double().mean(dim=0))

    def forward(self, features: Tensor) -> Tensor:
        """[...,K,N,D] → the same shape."""
        moved = features - self.mean[:, None]
        if moved.ndim == 4 and moved.device.type == "cuda":  # one product per kind, not one per image and kind
            sides = torch.bmm(moved.transpose(0, 1).flatten(1, 2), self.matrix)
            return sides.reshape(len(self.mean), -1, *moved.shape[2:]).transpose(0, 1)
        whitened: Tensor = moved @ self.matrix
        return whitened


@dataclass(frozen=True)
class Light:
    """A `Surprise` in half the precision: mean [F]; columns [504,inputs], shifts [504], rest [500] of the logarithm."""

    mean: Tensor
    columns: Tensor
    shifts: Tensor
    rest: Tensor


class Surprise(nn.Module):
    """Residuals [N,F] of one image → distance of every place [N] as a multiple of what good parts show there."""

    deviation: Tensor
    directions: Tensor
    offsets: Tensor
    weights: Tensor
    usual: Tensor
    bounds: Tensor

    def __init__(self, width: int, inputs: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.whitening = Whitening(1, width)
        self.register_buffer("deviation", torch.ones(inputs))
        self.register_buffer("directions", torch.randn(inputs, HIDDEN, generator=generator) / inputs**0.5)
        self.register_buffer("offsets", torch.randn(HIDDEN, generator=generator))
        self.register_buffer("weights", torch.zeros(1 + inputs + HIDDEN))
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("bounds", torch.zeros(2))  # of the expectation's logarithm; nothing is expected beyond
        self.light: Light | None = None

    def fit(self, residuals: Tensor, features: Tensor, floor: float) -> None:
        """From residuals [n,F] and features [n,inputs] of good places; floor as in Whitening.

        The expected distance is a regression of its logarithm on the features and on random rectified directions of
        them (extreme learning machine, Huang et al. 2006): no training, and one solution.
        """
        self.whitening.fit(residuals[:, None], floor)
        goal = self._distances(residuals).double().clamp(min=1e-6).log()
        self.deviation.copy_(features.double().std(dim=0).clamp(min=1e-6))
        basis = self._basis(features).double()
        mean = basis.mean(dim=0)
        moved = basis - mean
        products = moved.T @ moved / len(moved)
        products.diagonal().add_(DAMPING * products.diagonal().mean())
        slopes = torch.linalg.solve(products, moved.T @ (goal - goal.mean()) / len(moved))
        self.weights.copy_(torch.cat(((goal.mean() - mean @ slopes)[None], slopes)))
        self.bounds.copy_(torch.stack((goal.min(), goal.max())))
        self.usual.copy_(self._expected(features).mean())

    def plain(self, residuals: Tensor) -> Tensor:
        """[...,F] → [...]: the whitened residual's length as a multiple of what is usual everywhere."""
        return self._distances(residuals) / self.usual

    def forward(self, residuals: Tensor, features: Tensor) -> Tensor:
        """[...,F] and features [...,inputs] → [...]; about 1 on good parts."""
        return self._distances(residuals) / (OWN * self._expected(features) + (1 - OWN) * self.usual)

    def lighten(self, compute: Compute) -> None:
        """Keep what products need there and in this precision, ready to use; to score only."""
        scaled = self.directions / self.deviation[:, None]
        own, rest = self.weights[1 : 1 + len(self.deviation)], self.weights[1 + len(self.deviation) :]
        columns = torch.cat((scaled, (own / self.deviation)[:, None]), dim=1)  # after the directions the features' own
        columns = functional.pad(columns, (0, -columns.shape[1] % ALIGNED))
        shifts = functional.pad(torch.cat((self.offsets, self.weights[:1])), (0, columns.shape[1] - HIDDEN - 1))
        kept = (self.whitening.mean[0], columns.T.contiguous(), shifts, rest)
        self.light = Light(*(one.to(compute.dtype).to(compute.device) for one in kept))
        self.whitening.matrix = self.whitening.matrix.to(compute.dtype)
        self.directions = self.directions.new_empty(0)

    def _distances(self, residuals: Tensor) -> Tensor:
        mean = self.whitening.mean[0] if self.light is None else self.light.mean
        whitened = (residuals - mean) @ self.whitening.matrix[0]
        lengths: Tensor = torch.linalg.vector_norm(whitened, dim=-1, dtype=torch.float32)
        return lengths

    def _expected(self, features: Tensor) -> Tensor:
        if self.light is None:
            basis = self._basis(features)
            # no product of matrices: half the precision would be too little for a logarithm
            logarithm = self.weights[0] + (basis * self.weights[1:]).sum(dim=-1)
        else:
            found = functional.linear(features, self.light.columns, self.light.shifts)
            rest = (functional.relu(found[..., :HIDDEN]) * self.light.rest).sum(dim=-1, dtype=torch.float32)
            logarithm = found[..., HIDDEN].float() + rest
        expected: Tensor = logarithm.clamp(self.bounds[0], self.bounds[1]).exp()
        return expected

    def _basis(self, features: Tensor) -> Tensor:
        scaled = features / self.deviation
        return torch.cat((scaled, functional.relu(scaled @ self.directions + self.offsets)), dim=-1)


def soft_maximum(surprises: Tensor) -> Tensor:
    """Power mean with exponent 4 over the first axis, [V,...] → [...]: near the highest, and 1 where all are 1."""
    # squares and roots are rounded correctly wherever a value lies; a fourth root by `pow` is not
    powers = surprises.square().square()
    total = powers[0]
    for one in powers[1:]:  # one by one: how a sum over the first axis is taken depends on the length of the others
        total = total + one
    return (total / len(powers)).sqrt().sqrt()
