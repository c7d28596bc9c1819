"""Real sensor files that say the same thing twice: what is read from one must agree with the other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uipad_cli.data import files
from uipad_cli.data.detect import Look, examine
from uipad_cli.data.geometry import measured, normals
from uipad_cli.data.scans import read_file, read_raster
from uipad_cli.data.sensor import Intrinsics, Sensor
from uipad_cli.errors import DataError

FRAME = "pcl_organised/grabber/frame_20121214T142255.814212"


def found(path: Path) -> Sensor:
    return examine([Look(path, "depth", read_raster(path))], {})[0]


def depths(path: Path) -> np.ndarray:
    return read_file(path, "depth", found(path))[..., 2]


def test_every_point_of_mvtec_projects_onto_its_own_pixel(cable_gland: Path) -> None:
    """With the division model of its calibration: radius / (1 + kappa radius²) undoes the lens."""
    folder = cable_gland / "cable_gland"
    camera = json.loads((folder / "calibration" / "camera_parameters.json").read_text())
    for path in sorted(folder.glob("*/good/xyz/*.tiff"))[::10]:
        xyz = read_file(path, "xyz").astype(np.float64)
        there = measured(xyz.astype(np.float32))
        assert 0.5 < there.mean() < 0.7
        x, y, z = xyz[there].T
        u, v = camera["focus"] * x / z, camera["focus"] * y / z
        stretch = 2 / (1 + np.sqrt(1 - 4 * camera["kappa"] * (u**2 + v**2)))
        row, column = np.nonzero(there)
        right = np.abs(u * stretch / camera["sx"] + camera["cx"] - column)
        down = np.abs(v * stretch / camera["sy"] + camera["cy"] - row)
        assert max(right.max(), down.max()) < 5
        assert right.mean() < 0.5
        assert 0.9 < down.mean() < 1.3  # a constant offset of one row


def test_one_frame_as_points_depth_and_colour(shared: Path) -> None:
    cloud, depth, colour = (shared / f"{FRAME}{end}" for end in (".pcd", "_depth.tiff", "_rgb.tiff"))
    points = read_file(cloud, "xyz")
    counts = read_raster(depth)
    assert found(depth) == Sensor()
    there = measured(points)
    np.testing.assert_array_equal(there, counts > 0)
    assert np.abs(points[..., 2] - counts / 1000)[there].max() <= 1.3e-7
    np.testing.assert_array_equal(files.read_rgb(cloud), files.read_rgb(colour))
    camera = Intrinsics(fx=525, fy=525, cx=320, cy=240)
    again = read_file(depth, "depth", Sensor(camera=camera))
    np.testing.assert_allclose(again, points, atol=1e-6)
    column = points[..., 0][there] * 525 / points[..., 2][there] + 320
    assert np.abs(column - np.nonzero(there)[1]).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "sensor", "nearest", "farthest", "missing"),
    [
        ("redwood/depth/00000.png", {}, 0.955, 2.702, 0.130),
        ("other_formats/TUM_depth.png", {"unit": 1 / 5000}, 1.464, 9.331, 0.192),
        ("other_formats/SUN_depth.png", {"encoding": "rotated"}, 1.057, 9.870, 0.182),
        (
            "other_formats/NYU_depth.pgm",
            {"encoding": "disparity", "swapped": True, "missing": (0.0, 2047.0)},
            351.3 / (1092.5 - 839),
            351.3 / (1092.5 - 1040),
            0.072,
        ),
    ],
)
def test_units_of_four_data_sets_are_found(
    shared: Path, name: str, sensor: dict[str, object], nearest: float, farthest: float, missing: float
) -> None:
    path = shared / "open3d_rgbd" / name
    assert found(path) == Sensor.model_validate(sensor)
    depth = depths(path)
    assert depth[depth > 0].min() == pytest.approx(nearest, rel=1e-4)
    assert depth.max() == pytest.approx(farthest, rel=1e-4)
    assert (depth == 0).mean() == pytest.approx(missing, abs=1e-3)


def test_points_with_infinities(shared: Path) -> None:
    path = shared / "open3d_rgbd" / "maps" / "vertex_map.npy"
    raster = read_raster(path)
    sensor, findings = examine([Look(path, "xyz", raster)], {})
    assert sensor == Sensor()
    assert any("not finite in 16.5%" in finding for finding in findings)
    points = read_file(path, "xyz", sensor)
    there = measured(points)
    np.testing.assert_array_equal(there, np.isfinite(raster).all(axis=2))
    column = points[..., 0][there] * 525 / points[..., 2][there] + 319.5
    assert np.abs(column - np.nonzero(there)[1]).max() < 3.1e-5


def test_normals_agree_with_those_of_another_program(shared: Path) -> None:
    points = read_file(shared / "open3d_rgbd" / "maps" / "vertex_map.npy", "xyz")
    theirs = np.load(shared / "open3d_rgbd" / "maps" / "normal_map.npy")
    ours = normals(points, measured(points))
    theirs[~np.isfinite(theirs)] = 0
    # theirs look at one neighbour on either side, ours at two: equal where the surface is smooth
    here, left, above, corner = theirs[1:-1, 1:-1], theirs[1:-1, :-2], theirs[:-2, 1:-1], theirs[:-2, :-2]
    smooth = np.min([(here * other).sum(axis=2) for other in (left, above, corner)], axis=0) > np.cos(np.radians(5))
    smooth &= np.abs(ours[1:-1, 1:-1]).sum(axis=2) > 0
    assert smooth.mean() > 0.2
    angles = np.degrees(np.arccos(np.clip((ours[1:-1, 1:-1] * here).sum(axis=2)[smooth], -1, 1)))
    assert np.quantile(angles, 0.95) < 0.1
    lengths = np.sqrt((ours**2).sum(axis=2))
    np.testing.assert_allclose(lengths[lengths > 0], 1, atol=1e-6)
    assert (ours * points).sum(axis=2)[lengths > 0].max() < 0  # they face the sensor


def test_a_cloud_in_no_order_needs_a_camera(shared: Path) -> None:
    for path in (shared / "open3d_rgbd" / "fragment.pcd", shared / "open3d_rgbd" / "fragment_000.ply"):
        with pytest.raises(DataError, match="points in no order") as caught:
            read_file(path, "xyz", size=(480, 640))
        assert "--intrinsics" in caught.value.cure
    with pytest.raises(DataError, match="0 of 113662 points fall into the image"):  # it is not in a camera's frame
        wrong = Sensor(camera=Intrinsics(fx=525, fy=525, cx=319.5, cy=239.5))
        read_file(shared / "open3d_rgbd" / "fragment.pcd", "xyz", wrong, size=(480, 640))


def test_a_cloud_in_no_order_goes_through_the_camera(shared: Path, tmp_path: Path) -> None:
    whole = read_file(shared / f"{FRAME}.pcd", "xyz")
    cloud = whole[measured(whole)]
    hidden = cloud[::7] * 1.01  # behind others: the nearer one is seen
    mixed = np.random.default_rng(0).permutation(np.concatenate([cloud, hidden]))
    np.save(tmp_path / "cloud.npy", mixed)
    sensor = Sensor(camera=Intrinsics(fx=525, fy=525, cx=320, cy=240))
    np.testing.assert_array_equal(read_file(tmp_path / "cloud.npy", "xyz", sensor, size=(480, 640)), whole)
    np.save(tmp_path / "rows.npy", whole.reshape(-1, 3))  # one point for each pixel, row by row: no camera is needed
    np.testing.assert_array_equal(read_file(tmp_path / "rows.npy", "xyz", size=(480, 640)), whole)
