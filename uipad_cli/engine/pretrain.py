"""Made-up parts, or images of the user's own → a backbone: `tiny` trained from scratch."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from uipad_cli.core.backbone import IMAGENET_MEAN, IMAGENET_STD, new_tiny
from uipad_cli.core.compute import Compute
from uipad_cli.core.pretraining import Lesson, Pupil
from uipad_cli.core.tiny import PATCH
from uipad_cli.data import files
from uipad_cli.data.procedural.photos import Photos, find_photos
from uipad_cli.data.procedural.views import Views, make_views
from uipad_cli.engine.checkpoint import load_tensors, save_tensors
from uipad_cli.engine.locking import sole_writer
from uipad_cli.engine.record import BEGIN_AGAIN, LOG_FILE, TRAINING_FILE, file_hash, versions
from uipad_cli.engine.recorder import Recorder
from uipad_cli.engine.runtime import StopRequest, choose_compute, precision_name
from uipad_cli.engine.sealed import read_sealed, write_sealed
from uipad_cli.errors import UsageError, WeightsError
from uipad_cli.methods.base import hash_seed
from uipad_cli.methods.descent import Descent, descend
from uipad_cli.metrics.ranking import auroc
from uipad_cli.records import Progress, Report, silent
from uipad_cli.render import curve, tile

WEIGHTS_FILE, CARD_FILE, RUN_FILE = "tiny.safetensors", "tiny.json", "run.json"
CURVE_FILE, VIEWS_FILE = "curve.png", "views.png"
# Edge of the views in pixels, pairs per lesson, share of the lessons. Most are small: more parts are seen in the same
# time. The large ones teach attention over the 784 patches of a real image.
LESSONS = ((112, 48, 0.08), (168, 24, 0.47), (252, 10, 0.25), (392, 4, 0.20))
EXAM_PAIRS, EXAM_EDGE, EXAM_EVERY = 24, 252, 200
EXAM_SEED = 77  # parts of the exam are never trained on


class PretrainConfig(BaseModel):
    """What decides the weights that come out.

    photos_share: share of the lessons that show the user's images, where there are any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=3000, ge=1)
    seed: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    photos_share: float = Field(default=0.5, ge=0, le=1)
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class PretrainSummary:
    """What came out: the card of the weights."""

    folder: Path
    card: dict[str, Any]

    def sentence(self) -> str:
        """For people."""
        return (
            f"{self.folder / WEIGHTS_FILE}: {self.card['steps']} steps, {self.card['pairs']} pairs of views, "
            f"{self.card['seconds']:.0f} s; tells flawed from sound patches with AUROC {self.card['exam_auroc']:.3f}; "
            f"use it with --backbone tiny --weights {self.folder / WEIGHTS_FILE}"
        )


def pretrain(
    out: Path,
    *,
    config: PretrainConfig,
    images: Path | None = None,
    report: Report = silent,
) -> PretrainSummary:
    """Train `tiny` from scratch and write its weights, card, curve and a picture of what it saw into `out`.

    An unfinished one of the same settings goes on where it stood, a finished one is left as it is.
    images: a folder of unlabelled colour images, or a data set of pairs, that half of the lessons show.
    Raises UsageError, DataError, ResourceError; Terminated or KeyboardInterrupt, after saving, when asked to stop.
    """
    photos = None if images is None else find_photos(images)
    identity = {"config": config.model_dump(mode="json"), "photos": None if photos is None else photos.digest()}
    with sole_writer(out, report):
        if (out / CARD_FILE).is_file():
            return PretrainSummary(out, _finished(out, identity, report))
        return _pretrained(out, config, photos, identity, report)


def _pretrained(
    out: Path, config: PretrainConfig, photos: Photos | None, identity: dict[str, Any], report: Report
) -> PretrainSummary:
    started = time.perf_counter()
    saved = _look(out, identity)
    compute = choose_compute(config.device, config.precision, "train")
    school = School(config, compute, photos, first=0 if saved is None else int(saved["step"]))
    write_sealed(out / RUN_FILE, identity)
    files.write_png(out / VIEWS_FILE, school.picture())
    with StopRequest() as stop, Recorder(out, report, stop, done=school.step) as recorder:
        descend(
            school.pupil, school.lesson_loss, school.recipe,
            samples=1, seed=config.seed, report=recorder.report, resume=saved,
        )  # fmt: skip
    state = {name: value.detach().half().cpu() for name, value in school.pupil.vit.state_dict().items()}
    save_tensors(out / WEIGHTS_FILE, state)
    files.write_png(out / CURVE_FILE, curve(_log(out), left="loss", right="exam_auroc"))
    card = _card(out, config, photos, compute, recorder.last, time.perf_counter() - started) | {"made_with": identity}
    files.write_json(out / CARD_FILE, card)
    _leave(out)
    return PretrainSummary(out, card)


class School:
    """The pupil, its lessons, and the exam that nothing is learned from."""

    def __init__(self, config: PretrainConfig, compute: Compute, photos: Photos | None, *, first: int) -> None:
        self.config, self.compute, self.photos, self.step = config, compute, photos, first
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(config.seed, 3))
            self.pupil = Pupil(new_tiny(PATCH, config.seed)).to(compute.device).train()
        self.recipe = Descent(
            epochs=config.steps,
            batch=1,
            learning_rate=config.learning_rate,
            final_learning_rate=config.learning_rate / 100,
            warmup_steps=100,
            weight_decay=config.weight_decay,
            beta2=0.98,  # gradients of the first steps are large, and must not slow all that come after
            amsgrad=False,
            clip=1.0,
        )
        self.mean = torch.tensor(IMAGENET_MEAN, device=compute.device).view(3, 1, 1)
        self.std = torch.tensor(IMAGENET_STD, device=compute.device).view(3, 1, 1)

    def lesson_loss(self, _: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """One lesson; every EXAM_EVERY steps, and after the last, the exam's figure is among the values."""
        self.step += 1
        own = self._own(generator.initial_seed())
        lesson = self._lesson(self.views(own))
        with self.compute.training_autocast():
            loss, values = self.pupil(lesson, own)
        if self.step % EXAM_EVERY == 0 or self.step == self.config.steps:
            values["exam_auroc"] = self.exam()
        return loss, values

    def views(self, generator: torch.Generator) -> Views:
        """The views of a lesson, drawn or photographed."""
        draws = torch.rand(2, generator=generator, device=generator.device).tolist()
        place = next(
            (place for place in range(len(LESSONS)) if draws[0] < sum(lesson[2] for lesson in LESSONS[: place + 1])),
            len(LESSONS) - 1,
        )
        edge, pairs, _ = LESSONS[place]
        if self.photos is not None and draws[1] < self.config.photos_share:
            return self.photos.views(generator, pairs, edge)
        return make_views(generator, pairs, edge)

    @torch.no_grad()
    def exam(self) -> float:
        """How well the nearest neighbour tells flawed patches of an image: mean AUROC, on parts never learned from."""
        generator = self._own(hash_seed(EXAM_SEED, 0))
        lesson = self._lesson(make_views(generator, EXAM_PAIRS, EXAM_EDGE))
        self.pupil.eval()
        with self.compute.training_autocast():
            told = [part.cpu().numpy() for part in self.pupil.judge(lesson)]
        self.pupil.train()
        images = [auroc(far[sound | flawed], flawed[sound | flawed]) for far, sound, flawed in zip(*told, strict=True)]
        return float(np.mean([value for value in images if value is not None] or [0.0]))

    def picture(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Pairs of views as training sees them: good above, flawed in the middle, the flaws below."""
        generator = self._own(hash_seed(self.config.seed, 2))
        source = make_views if self.photos is None else self.photos.views
        views = source(generator, 24, 168)
        flaws = views.flawed[:, None].expand(-1, 3, -1, -1)
        rows = torch.stack((views.images[0], views.images[1], flaws))  # [3,B,3,S,S]
        shown = (rows.clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
        return tile([list(shown[row, start : start + 8]) for start in range(0, 24, 8) for row in range(3)])

    def _own(self, seed: int) -> torch.Generator:
        return torch.Generator(self.compute.device).manual_seed(seed)

    def _lesson(self, views: Views) -> Lesson:
        return Lesson((views.images - self.mean) / self.std, views.poses, views.flawed, views.content, views.laid_out)


def _look(out: Path, identity: dict[str, Any]) -> dict[str, Tensor] | None:
    """The saved training state of `out` where it has one. Raises UsageError where `out` is another's."""
    if not (out / RUN_FILE).is_file():
        return None
    if read_sealed(out / RUN_FILE, BEGIN_AGAIN) != identity:
        raise UsageError(f"{out} holds a pretraining with other settings or images", "choose another folder")
    if not (out / TRAINING_FILE).is_file():
        return None
    saved = load_tensors(out / TRAINING_FILE)
    if "step" not in saved:
        raise WeightsError(f"{out / TRAINING_FILE}: not a training state", BEGIN_AGAIN)
    return saved


def _finished(out: Path, identity: dict[str, Any], report: Report) -> dict[str, Any]:
    """The card of a finished pretraining with these settings. Raises UsageError when it was made with others."""
    card: dict[str, Any] = files.read_json(out / CARD_FILE)
    if card.get("made_with") != identity:
        raise UsageError(f"{out} holds a backbone made with other settings or images", "choose another folder")
    report(Progress("note", 0, 0, note=f"note: {out} holds this backbone already, finished; nothing is done"))
    _leave(out)  # should it have been killed right after its last file was written
    return card


def _leave(out: Path) -> None:
    """Remove what only an unfinished one needs."""
    for name in (TRAINING_FILE, RUN_FILE):
        (out / name).unlink(missing_ok=True)


def _log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text(encoding="utf-8").splitlines()]


def _card(
    out: Path, config: PretrainConfig, photos: Photos | None, compute: Compute, last: dict[str, float], seconds: float
) -> dict[str, Any]:
    pairs = sum(share * count for _, count, share in LESSONS) * config.steps
    command = f"uipad pretrain {out.name} --steps {config.steps} --seed {config.seed}"
    return {
        "sha256": file_hash(out / WEIGHTS_FILE),
        "command": command if photos is None else f"{command} --images DIR",
        "data": "rendered on the fly: no photograph, no part of the built-in benchmark, nothing of third parties"
        if photos is None
        else f"rendered on the fly, and {len(photos)} images of {photos.root.name}",
        "objective": "novelty of flaws, contrast between two views of a part, description (core/pretraining.py)",
        "steps": config.steps,
        "pairs": round(pairs),
        "seed": config.seed,
        "seconds": round(seconds, 1),
        "device": str(compute.device),
        "precision": precision_name(compute),
        "exam_auroc": round(last.get("exam_auroc", 0.0), 4),
        "licence": "MIT" if photos is None else "that of the images",
        "versions": versions(),
    }
