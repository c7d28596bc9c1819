"""Which places each prototype of a part owns, as a picture."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import numpy.typing as npt

from uipad_cli.render import Panel

Picture = npt.NDArray[np.uint8]
SHOWN = 5  # most used prototypes that get a tile of their own
TITLES = ("photo", "owners", *(f"no. {place} in use" for place in range(1, SHOWN + 1)))


def prototype_row(photo: Picture, owners: npt.NDArray[np.integer], caption: str) -> list[Panel]:
    """Tiles titled by TITLES: framed photo [H,W,3], every place in its owner's colour, the most used owners alone.

    owners [h,w]: index of the prototype of every place. A tile stays blank where fewer prototypes are in use.
    """
    height, width = photo.shape[:2]
    large = cv2.resize(owners.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    shares = np.bincount(owners.ravel()) / owners.size
    order = [int(index) for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    colours = np.array([_colour(index) for index in range(len(shares))])
    grey = photo.mean(axis=2, keepdims=True)
    tinted = (0.45 * grey + 0.55 * colours[large]).round().astype(np.uint8)
    panels = [Panel(photo, caption), Panel(tinted, f"{len(order)} in use")]
    for index in order[:SHOWN]:
        alone = np.where((large == index)[..., None], photo, photo // 5)
        panels.append(Panel(alone.astype(np.uint8), f"prototype {index + 1}: {100 * shares[index]:.0f} %"))
    return panels + [Panel(None)] * (len(TITLES) - len(panels))


def _colour(index: int) -> tuple[float, float, float]:
    """Of the index-th prototype: hues far from those before (golden ratio), full red, green and blue are 255."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 1.0)
    return 255 * red, 255 * green, 255 * blue
