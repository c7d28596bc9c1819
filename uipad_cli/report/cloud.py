"""Point clouds of inspected parts → what the 3D view of a page reads, and the script that draws it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SCORE_CEILING = 5.0  # multiples of the threshold; beyond it one step of a byte would show in the second decimal
UNSEEN = 255  # byte of a score that is NaN; 0..254 span 0..score_high

_STEPS = 65535
_MORTON_BITS = 10
_ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True)
class Cloud:
    """One part as points.

    points [N,3] float32 metres, x right and y down in the image, z towards the sensor; colours [N,3] uint8, the photo;
    heat [N,3] uint8, the photo under its heat map; score [N] float32 in calibrated units (1 = the upper end
    of good parts), NaN where the model never looked.
    """

    caption: str
    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    heat: NDArray[np.uint8]
    score: NDArray[np.float32]


def thinned(cloud: Cloud, most: int) -> Cloud:
    """The cloud with at most `most` points, spread over the part as evenly as the points themselves.

    The same points are kept every time. Raises ValueError for `most` below 1 and as `document` does.
    """
    _check(cloud)
    if most < 1:
        raise ValueError(f"at least one point must be kept, not {most}")
    count = len(cloud.points)
    if count <= most:
        return cloud
    order = np.argsort(_along_a_curve(cloud.points), kind="stable")
    kept = np.sort(order[np.arange(most) * count // most])
    parts = {name: getattr(cloud, name)[kept] for name in ("points", "colours", "heat", "score")}
    return replace(cloud, **parts)


def document(clouds: Sequence[Cloud]) -> str:
    """JSON text of the parts of one figure, safe between the tags of a script element.

    Points are rounded to 1/65535 of the extent of their part along each axis, scores to 1/254 of the highest one; what
    is above `SCORE_CEILING` is shown as that "or more", what is below 0 as 0. Raises ValueError, naming the part, for
    arrays of another shape or type, a part without points, and numbers that are not finite (a score may be NaN).
    """
    for cloud in clouds:
        _check(cloud)
    return json.dumps([_written(cloud) for cloud in clouds], separators=(",", ":")).translate(_ESCAPED)


def viewer_script() -> str:
    """The script that draws every figure of the page, as it must stand between its tags."""
    return (Path(__file__).parent / "viewer" / "viewer.js").read_text(encoding="utf-8")


def script_hash(text: str) -> str:
    """What a content security policy calls an inline script of this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _check(cloud: Cloud) -> None:
    count = len(cloud.points)
    wanted = {
        "points": ((count, 3), np.float32),
        "colours": ((count, 3), np.uint8),
        "heat": ((count, 3), np.uint8),
        "score": ((count,), np.float32),
    }
    for name, (shape, kind) in wanted.items():
        array: NDArray[np.generic] = getattr(cloud, name)
        if array.shape != shape or array.dtype != kind:
            expected = f"{kind.__name__} {list(shape)}"
            raise ValueError(f"{name} of {cloud.caption!r}: {array.dtype} {list(array.shape)} instead of {expected}")
    if count == 0:
        raise ValueError(f"{cloud.caption!r} has no points")
    if not np.isfinite(cloud.points).all():
        raise ValueError(f"points of {cloud.caption!r} must be finite")
    if np.isinf(cloud.score).any():
        raise ValueError(f"scores of {cloud.caption!r} must be finite or NaN")


def _written(cloud: Cloud) -> dict[str, object]:
    points = cloud.points.astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.where(high > low, high - low, 1.0)
    seen = ~np.isnan(cloud.score)
    top = float(cloud.score[seen].max(initial=0.0))
    score_high = min(top, SCORE_CEILING) if top > 0 else 1.0
    share = np.clip(np.where(seen, cloud.score, 0) / score_high, 0, 1)
    levels = np.where(seen, np.rint((UNSEEN - 1) * share), UNSEEN)
    return {
        "caption": cloud.caption,
        "count": len(points),
        "low": low.tolist(),
        "high": high.tolist(),
        "points": _text(np.rint((points - low) / extent * _STEPS).astype("<u2")),
        "colours": _text(cloud.colours),
        "heat": _text(cloud.heat),
        "score": _text(levels.astype(np.uint8)),
        "score_high": score_high,
        "score_clipped": top > SCORE_CEILING,
    }


def _text(array: NDArray[np.generic]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _along_a_curve(points: NDArray[np.float32]) -> NDArray[np.int64]:
    """Place of each point [N,3] on a Z-order curve over x and y: neighbours on the curve are neighbours on the part."""
    across = points[:, :2].astype(np.float64)
    across -= across.min(axis=0)
    cells = (across / (across.max() or 1.0) * (2**_MORTON_BITS - 1)).astype(np.int64)
    place = np.zeros(len(points), np.int64)
    for bit in range(_MORTON_BITS):
        for axis in (0, 1):
            place |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    return place
