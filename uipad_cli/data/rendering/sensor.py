"""What the two sensors record: a photograph with its noise, and a scan with its noise and missing points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uipad_cli.data.rendering.canvas import FloatArray, smooth_noise
from uipad_cli.data.rendering.optics import Camera

_READ_NOISE = 0.003  # of full scale
_SHOT_NOISE = 0.008  # of full scale, at full scale
_DEPTH_NOISE = 0.00006  # metres


def photograph(radiance: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """8-bit sRGB image [H,W,3] of linear radiance [H,W,3]: lens blur, vignette, tone curve, grain."""
    size = radiance.shape[0]
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    vignette = 1 - 0.09 * (axis[:, None] ** 2 + axis**2)
    exposure = rng.uniform(0.97, 1.03)
    seen = np.maximum(_soften(radiance) * vignette[..., None] * np.float32(exposure), 0.0)
    tone = 1.12 * seen / (1 + 0.3 * seen**2)
    noise = rng.standard_normal(radiance.shape, dtype=np.float32)
    noise = 0.7 * noise + 0.5 * _soften(noise)
    tone = tone + noise * (_READ_NOISE + _SHOT_NOISE * np.sqrt(tone))
    encoded = np.clip(tone, 0.0, 1.0) ** np.float32(1 / 2.2)
    contrast = encoded - np.float32(0.055) * np.sin(np.float32(2 * np.pi) * encoded)
    return np.rint(contrast * 255).astype(np.uint8)


def scan(
    depth: FloatArray, *, weak: FloatArray, hidden: FloatArray, camera: Camera, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Organised points [H,W,3] float32 metres, (0,0,0) where nothing was measured.

    depth [H,W] metres; weak [H,W] 0..1 chance to lose a point (dark, steep); hidden [H,W] 0..1 out of the
    projector's sight.
    """
    shape = (depth.shape[0], depth.shape[1])
    jitter = rng.standard_normal(shape, dtype=np.float32) + 0.6 * smooth_noise(rng, shape, (9.0, 9.0))
    measured = depth + jitter * _DEPTH_NOISE * (1 + 2 * weak)
    patchy = 0.5 * rng.random(shape, dtype=np.float32) + 0.5 * (0.5 + 0.3 * smooth_noise(rng, shape, (2.0, 2.0)))
    speckle = rng.random(shape, dtype=np.float32) < rng.uniform(0.002, 0.007)
    lost = speckle | (hidden > 0.5) | (patchy < weak)
    u, v = np.arange(shape[1]) - camera.cx, np.arange(shape[0])[:, None] - camera.cy
    points = np.stack([u * measured / camera.focal, v * measured / camera.focal, measured], -1)
    points[lost] = 0.0
    return points.astype(np.float32)


def _soften(image: FloatArray) -> FloatArray:
    """A lens' point spread: [1 4 1] / 6 along both axes; image [H,W,C]."""
    wide = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
    image = (wide[:-2] + 4 * wide[1:-1] + wide[2:]) / 6
    wide = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return (wide[:, :-2] + 4 * wide[:, 1:-1] + wide[:, 2:]) / 6
