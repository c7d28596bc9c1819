"""What a page draws of a category beyond its figures: curves, intervals, and a few parts as points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from uipad_cli.data.surface import grid
from uipad_cli.engine.calibration import Calibration
from uipad_cli.engine.collecting import Collected
from uipad_cli.engine.judging import Judged
from uipad_cli.engine.pictures import found_mask, heat_overlay
from uipad_cli.engine.scratch import told
from uipad_cli.engine.shown import Shown
from uipad_cli.metrics.comparison import bootstrap_aupro
from uipad_cli.metrics.curves import Points, count_pixels, pro_curve, roc_curve, thin
from uipad_cli.metrics.ranking import auroc_interval
from uipad_cli.records import GOOD
from uipad_cli.report.cloud import Cloud, thinned

CURVE_POINTS = 400
CLOUD_POINTS = 40_000
DEFECTS_IN_3D = 3

Interval = tuple[float, float]


@dataclass(frozen=True)
class Charts:
    """Curves of a category, None where undefined; bootstrap intervals of 95 %, by figure and by kind of defect."""

    roc: Points | None
    pro: Points | None
    intervals: Mapping[str, Interval]
    by_defect: Mapping[str, Interval]
    clouds: list[Cloud]

    @staticmethod
    def of(found: Collected, shown: Shown, calibration: Calibration) -> Charts:
        """From everything that was judged, and the parts that are shown. Raises ResourceError where a disk is full."""
        with told():
            counts = count_pixels(found.maps, found.masks, found.seen)
        pro = pro_curve(counts)
        area = bootstrap_aupro(counts, found.labels)
        image = auroc_interval(found.scores, found.labels)
        named = {"image_auroc": image, "aupro_30": None if area is None else (area.low, area.high)}
        kinds = {kind: _interval(found, kind) for kind in sorted(set(found.defects) - {GOOD})}
        return Charts(
            roc_curve(found.scores, found.labels, most=CURVE_POINTS),
            None if pro is None else thin(pro, CURVE_POINTS),
            {name: bounds for name, bounds in named.items() if bounds is not None},
            {kind: bounds for kind, bounds in kinds.items() if bounds is not None},
            [cloud for part in _in_3d(shown) if (cloud := cloud_of(part, calibration)) is not None],
        )


def cloud_of(judged: Judged, calibration: Calibration) -> Cloud | None:
    """A part as points over its pixels, its scores in calibrated units; None where nothing was measured."""
    points = grid(judged.sample).points
    there = np.isfinite(points).all(axis=2)
    if not there.any():
        return None
    score = calibration.excess(judged.map)
    heat = heat_overlay(judged, calibration, found_mask(judged, calibration))
    item = judged.item
    whole = Cloud(
        f"{item.defect}/{item.stem}: {calibration.verdict(judged.score)}",
        points[there],
        judged.sample.rgb[there],
        heat[there],
        score[there].astype(np.float32),
    )
    return thinned(whole, CLOUD_POINTS)


def _in_3d(shown: Shown) -> list[Judged]:
    """The first good part, and the highest scores of as many kinds of defect."""
    loudest = [max((judged for judged, _ in parts), key=lambda one: one.score) for parts in shown.kinds.values()]
    defects = sorted((one for one in loudest if not one.item.is_good), key=lambda one: -one.score)
    good = [parts[0][0] for kind, parts in shown.kinds.items() if kind == GOOD]
    return [*defects[:DEFECTS_IN_3D], *good]


def _interval(found: Collected, kind: str) -> Interval | None:
    chosen = [place for place, defect in enumerate(found.defects) if defect in (GOOD, kind)]
    return auroc_interval([found.scores[place] for place in chosen], [found.labels[place] for place in chosen])
