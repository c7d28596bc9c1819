"""The readings of UIP-AD: every place where the paper is silent or fails as printed is an option here."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from uipad_cli.core.attention import AttentionKind
from uipad_cli.core.losses import AssignmentKind, Distance
from uipad_cli.core.model import Comparison, FusionKind, Query, Refinement
from uipad_cli.methods.descent import Descent


class UIPADTraining(Descent):
    """Fewer and longer steps than INP-Former's: whitened features let every direction learn at one speed."""

    epochs: int = Field(default=25, ge=1)
    least_steps: int = Field(default=300, ge=1)
    batch: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=5e-3, gt=0)
    final_learning_rate: float = Field(default=5e-4, ge=0)
    warmup_steps: int = Field(default=20, ge=0)
    clip: float = Field(default=1.0, gt=0)


class UIPADOptions(BaseModel):
    """Every reading of the paper in one place; configs/ablations/literal.yaml is the printed text.

    prototypes M · gather: drawn from the sample, or the same for all · blocks per decoder · features: as the encoder
    gives them (`plain`), of unit length without each modality's mean (`centred`), or with unit variance in every
    direction besides (`white`) · fusion Ψ · query: whose tokens a decoder starts from, its own modality's or the
    other's · attention, residual: eq. 4's · refine: eq. 5's prototypes averaged over both decoders, kept private, or
    none · target of eq. 8: each decoder's modality (`modalities`), the detached fused feature (`fused`) or x̃
    (`prototypes`) · distance of eq. 8 · comparison: two groups or the single map · score: 1 − cos (eq. 11), the
    whitened residual's length, that as a multiple of what good parts show there (`calibrated`), or how far the fused
    feature is from its mixture of prototypes, whatever the decoders say (`prototypes`) · assignment in eq. 9, 10 ·
    temperature τ of eq. 7 · weights λ · dropout: share of training steps that see one modality alone, so that the other
    may be missing later · memory: so many good patches of each modality are remembered, and the distance to the nearest
    of them is one more view; 0 = none, as in the paper · phases: looks at each good part along either side, a fraction
    of a patch apart · tokens: share of places decoded per training step · blur in pixels of the framed image · top:
    share of pixels that make the image score · measured: least share of a patch that the 3D sensor must have seen for
    it to count there · training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prototypes: int = Field(default=12, ge=1)
    gather: bool = True
    blocks: int = Field(default=2, ge=2, multiple_of=2)
    features: Literal["plain", "centred", "white"] = "white"
    fusion: FusionKind = "mean"
    query: Query = "other"
    attention: AttentionKind = "softmax"
    residual: bool = True
    refine: Refinement = "averaged"
    target: Literal["modalities", "fused", "prototypes"] = "modalities"
    distance: Distance = "squared"
    comparison: Comparison = "groups"
    score: Literal["cosine", "whitened", "calibrated", "prototypes"] = "calibrated"
    assignment: AssignmentKind = "soft"
    temperature: float = Field(default=0.1, gt=0)
    coherence_weight: float = Field(default=0.2, ge=0)
    consistency_weight: float = Field(default=0.1, ge=0)
    entropy_weight: float = Field(default=0.01, ge=0)
    dropout: float = Field(default=0.3, ge=0, le=1)
    memory: int = Field(default=8_000, ge=0)
    phases: Literal[1, 2, 3] = 2
    tokens: float = Field(default=0.25, gt=0, le=1)
    blur: float = Field(default=4.0, ge=0)
    top: float = Field(default=0.01, gt=0, le=1)
    measured: float = Field(default=0.25, ge=0, le=1)
    training: UIPADTraining = UIPADTraining()
