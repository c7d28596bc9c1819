"""Eq. 7-10 of the paper, one function each, and the gauges that tell a collapsed model from a good one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

AssignmentKind = Literal["soft", "hard", "straight", "balanced"]
Distance = Literal["cosine", "squared"]
EPSILON = 1e-8
BALANCINGS = 5  # rounds of Sinkhorn and Knopp


def cosine_distance(left: Tensor, right: Tensor) -> Tensor:
    """1 − cos along the last axis: [...,D] x [...,D] → [...]."""
    return 1 - functional.cosine_similarity(left, right, dim=-1)


def similarities(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every token with every prototype: [B,N,D] x [B,M,D] → [B,N,M]."""
    return functional.normalize(tokens, dim=-1) @ functional.normalize(prototypes, dim=-1).transpose(1, 2)


def assignments(tokens: Tensor, prototypes: Tensor, *, temperature: float, kind: AssignmentKind) -> Tensor:
    """Share of each prototype in each token [B,N,M]: softmax(cos/τ) (eq. 2), or another reading of eq. 9 and 10.

    hard: the one-hot nearest, piecewise constant, so that no gradient flows; straight: the same with the gradient of
    `soft` (straight-through, Bengio et al. 2013); balanced: every prototype has the same share of a sample's tokens
    (entropic optimal transport, Cuturi 2013).
    """
    cosines = similarities(tokens, prototypes)
    if kind == "balanced":
        return _balanced(cosines / temperature)
    soft = (cosines / temperature).softmax(dim=-1)
    if kind == "soft":
        return soft
    nearest = functional.one_hot(cosines.argmax(dim=-1), prototypes.shape[1]).to(cosines.dtype)
    return nearest if kind == "hard" else nearest + (soft - soft.detach())


def _balanced(scores: Tensor) -> Tensor:
    """[B,N,M] → shares that sum to 1 for a token, and about to N/M for a prototype."""
    for _ in range(BALANCINGS):
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
        scores = scores - scores.logsumexp(dim=2, keepdim=True)
    return scores.exp()


def soft_reconstruction(tokens: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """x̃ of eq. 7: every token as a mixture of prototypes, [B,N,D] x [B,M,D] → [B,N,D]."""
    return assignments(tokens, prototypes, temperature=temperature, kind="soft") @ prototypes


def reconstruction_loss(rebuilt: Tensor, target: Tensor, distance: Distance = "cosine") -> Tensor:
    """L_s, eq. 8: mean of 1 − cos over all tokens; or the squared error as a share of the target's own square."""
    if distance == "squared":
        return (rebuilt - target).square().mean() / target.square().mean().clamp(min=1e-12)
    return cosine_distance(rebuilt, target).mean()


def coherence_loss(tokens: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """Mean of 1 − cos(x, x̃): ties the prototypes to the data (INP-Former++ eq. 3).

    `tokens` are detached: if this term flowed into a trained fusion, the features would contract to one point.
    """
    tokens = tokens.detach()
    return reconstruction_loss(soft_reconstruction(tokens, prototypes, temperature), tokens)


def assignment_consistency_loss(
    rgb: Tensor, geometry: Tensor, prototypes: Tensor, *, temperature: float, kind: AssignmentKind
) -> Tensor:
    """L_a, eq. 9: L1 between the prototype shares of a place in colour and in geometry, mean over places."""
    seen = assignments(rgb, prototypes, temperature=temperature, kind=kind)
    felt = assignments(geometry, prototypes, temperature=temperature, kind=kind)
    return (seen - felt).abs().sum(dim=-1).mean()


def prototype_entropy_loss(tokens: Tensor, prototypes: Tensor, *, temperature: float, kind: AssignmentKind) -> Tensor:
    """L_p, eq. 10: negative entropy of how often each prototype is used over the batch; −log M at best."""
    frequency = assignments(tokens, prototypes, temperature=temperature, kind=kind).mean(dim=(0, 1))
    return (frequency * (frequency + EPSILON).log()).sum()


@torch.no_grad()
def effective_prototypes(tokens: Tensor, prototypes: Tensor) -> Tensor:
    """exp(entropy) of the nearest-prototype frequency over a batch, []: M at best, 1 = collapsed."""
    return (-prototype_entropy_loss(tokens, prototypes, temperature=1.0, kind="hard")).exp()


@torch.no_grad()
def prototype_cosine(prototypes: Tensor) -> Tensor:
    """Mean cosine between different prototypes of a sample, [B,M,D] → []; 1 = they are one point."""
    count = prototypes.shape[1]
    if count < 2:
        return prototypes.new_zeros(())
    cosines = similarities(prototypes, prototypes)
    off_diagonal = cosines.sum(dim=(1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (off_diagonal / (count * (count - 1))).mean()


@torch.no_grad()
def spread(tokens: Tensor) -> Tensor:
    """Mean over tokens of 1 − cos(x, mean x), [B,N,D] → []; 0 = every place looks the same."""
    return cosine_distance(tokens, tokens.mean(dim=1, keepdim=True)).mean()
