"""What a sensor's files hold is found with its evidence, or nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uipad_cli.data.detect import Look, examine
from uipad_cli.data.intrinsics import parse_intrinsics
from uipad_cli.data.sensor import Intrinsics, Sensor, parse_missing, parse_unit
from uipad_cli.errors import DataError, UsageError


def look(raster: Any, kind: Any = "depth", name: str = "a.png") -> Look:
    return Look(Path(name), kind, raster)


def hill(low: float, high: float, size: int = 64, seed: int = 0) -> Any:
    """A smooth bump between two numbers, with a little noise."""
    row, column = np.mgrid[:size, :size] / size - 0.5
    bump = np.exp(-8 * (row**2 + column**2)) + 0.01 * np.random.default_rng(seed).random((size, size))
    return low + (high - low) * (1 - bump)


def points(distance: float, width: float, size: int = 64) -> Any:
    """Organised points of a bump, seen from `distance`, over `width`, in float32."""
    row, column = np.mgrid[:size, :size] / size - 0.5
    z = hill(distance - 0.1 * width, distance, size)
    return np.stack([column * width, row * width, z], axis=-1).astype(np.float32)


def told_by(findings: list[str], word: str) -> str:
    (line,) = [finding for finding in findings if finding.startswith(word)]
    return line


class TestUnit:
    def test_millimetres(self) -> None:
        sensor, findings = examine([look(hill(700, 900).astype(np.uint16))], {})
        assert sensor == Sensor()
        assert "millimetres" in told_by(findings, "unit")
        assert "0.8" in told_by(findings, "unit")

    def test_fivefold_millimetres_are_a_five_thousandth(self) -> None:
        raster = (5 * hill(1700, 2100).round()).astype(np.uint16)
        sensor, findings = examine([look(raster)], {})
        assert sensor.unit == pytest.approx(1 / 5000)
        assert "divisible by 5" in told_by(findings, "unit")

    def test_fivefold_or_in_steps_of_five_cannot_be_told(self) -> None:
        raster = (5 * hill(200, 300).round()).astype(np.uint16)
        with pytest.raises(DataError, match=r"by 5: 1/5000 m, 0\.27 m away, or millimetres in steps") as caught:
            examine([look(raster)], {})
        assert "--unit 1/5000" in caught.value.cure
        assert examine([look(raster)], parse_unit("mm"))[0].unit == 0.001

    def test_rarer_units_are_named(self) -> None:
        _, findings = examine([look(hill(2700, 3000).astype(np.uint16))], {})
        assert "some sensors count in 1/4000 m (0.73 m) or 1/10000 m (0.29 m)" in told_by(findings, "unit")

    def test_a_coarse_sensor_is_no_other_unit(self) -> None:
        raster = (10 * hill(70, 90).round()).astype(np.uint16)
        assert examine([look(raster)], {})[0] == Sensor()

    def test_rotated_bits(self) -> None:
        millimetres = hill(700, 8200, 200).round().astype(np.uint16)
        raster = (millimetres << 3) | (millimetres >> 13)
        sensor, findings = examine([look(raster)], {})
        assert sensor.encoding == "rotated"
        assert "SUN" in told_by(findings, "unit")

    def test_rotated_or_in_steps_of_eight_cannot_be_told(self) -> None:
        raster = (8 * hill(75, 113).round()).astype(np.uint16)
        with pytest.raises(DataError, match=r"by 8: .* SUN RGB-D, 0\.1 m away, or in steps of eight, 0\.8") as caught:
            examine([look(raster)], {})
        assert "--unit sun" in caught.value.cure
        assert examine([look(raster)], parse_unit("mm"))[0].encoding == "linear"
        assert examine([look(raster)], parse_unit("sun"))[0].encoding == "rotated"

    def test_kinect_disparities(self) -> None:
        raster = hill(840, 1030).round().astype(np.uint16)
        raster[:9, :9] = 2047
        sensor, findings = examine([look(raster)], {})
        assert sensor.encoding == "disparity"
        assert 2047 in sensor.missing
        assert "Kinect" in told_by(findings, "unit")

    @pytest.mark.parametrize("counts", [(20_000, 40_000), (3, 11)])
    def test_counts_that_fit_nothing_are_not_guessed(self, counts: tuple[int, int]) -> None:
        raster = hill(*counts).astype(np.uint16) | 1
        with pytest.raises(DataError, match="in millimetres the part would be") as caught:
            examine([look(raster)], {})
        assert "--unit" in caught.value.cure
        assert examine([look(raster)], parse_unit("0.00005"))[0].unit == 0.00005

    @pytest.mark.parametrize(("distance", "unit"), [(0.6, 1.0), (2.5, 1.0), (600, 0.001), (2500, 0.001)])
    def test_floats_in_metres_or_millimetres(self, distance: float, unit: float) -> None:
        depth = hill(0.9 * distance, distance).astype(np.float32)
        assert examine([look(depth)], {})[0].float_unit == unit
        assert examine([look(points(distance, 0.3 * distance), "xyz")], {})[0].float_unit == unit

    @pytest.mark.parametrize("distance", [8.0, 20.0, 0.001, 1e5])
    def test_floats_that_fit_nothing(self, distance: float) -> None:
        with pytest.raises(DataError, match="metres or millimetres"):
            examine([look(hill(0.9 * distance, distance).astype(np.float32))], {})

    def test_negative_counts_are_a_height_map(self) -> None:
        raster = hill(-500, 900).astype(np.int16)
        with pytest.raises(DataError, match="height map") as caught:
            examine([look(raster)], {})
        assert "--axis up" in caught.value.cure


class TestMissing:
    def test_zero(self) -> None:
        raster = hill(700, 900).astype(np.uint16)
        raster[:20] = 0
        sensor, findings = examine([look(raster)], {})
        assert sensor.missing == (0.0,)
        assert "0 in 31.2%" in told_by(findings, "missing")

    @pytest.mark.parametrize(("mark", "dtype"), [(65535, np.uint16), (-9999, np.float32), (1e10, np.float32)])
    def test_a_number_far_from_all_others(self, mark: float, dtype: Any) -> None:
        raster = hill(700, 900).astype(dtype)
        raster[10:20, 10:20] = mark
        sensor, findings = examine([look(raster)], {})
        assert np.float32(mark) in np.asarray(sensor.missing, np.float32)
        assert f"{mark:g} in" in told_by(findings, "missing")

    def test_a_flat_top_is_no_mark(self) -> None:
        raster = np.minimum(hill(700, 900), 890).astype(np.float32)
        assert examine([look(raster)], {})[0].missing == (0.0,)

    def test_a_level_table_is_no_mark(self) -> None:
        raster = np.full((64, 64), 600, np.uint16)
        raster[20:40, 20:40] = 570
        assert examine([look(raster)], {})[0].missing == (0.0,)
        assert examine([look(raster.astype(np.float32))], {})[0].missing == (0.0,)

    def test_what_is_not_finite(self) -> None:
        raster = points(0.6, 0.2)
        raster[:3] = np.nan
        raster[5:7] = np.inf
        _, findings = examine([look(raster, "xyz")], {})
        assert "not finite in 7.8%" in told_by(findings, "missing")

    def test_a_height_map_may_be_zero_but_not_in_a_heap(self) -> None:
        heights = points(0, 100)
        told = {"float_unit": 0.001}
        assert examine([look(heights, "xyz")], told)[0].missing == ()
        heights[:20] = 0
        assert examine([look(heights, "xyz")], told)[0].missing == (0.0,)


class TestBytesAndAxis:
    def test_the_other_byte_order(self) -> None:
        raster = hill(700, 900).astype(np.uint16)
        sensor, findings = examine([look(raster.byteswap())], {})
        assert sensor.swapped
        assert sensor.unit == 0.001
        assert "byte order" in told_by(findings, "byte order")
        assert not examine([look(raster)], {})[0].swapped

    def test_eight_bits_scaled_up_are_not_swapped(self) -> None:
        raster = hill(7, 18).astype(np.uint16) << 8
        assert not examine([look(raster)], {})[0].swapped

    def test_all_below_zero_points_toward_the_sensor(self) -> None:
        behind = points(0.6, 0.2) * np.array([1, -1, -1], np.float32)
        sensor, findings = examine([look(behind, "xyz")], {})
        assert (sensor.axis, sensor.float_unit) == ("toward", 1.0)
        assert "OpenGL" in told_by(findings, "axis")

    def test_what_is_told_and_not_used_is_said(self) -> None:
        told: dict[str, object] = {"camera": Intrinsics(fx=500, fy=500), "pitch": 1e-4}
        _, findings = examine([look(points(0.6, 0.2), "xyz")], told)
        assert "not used" in told_by(findings, "camera")
        assert "not used" in told_by(findings, "pitch")

    def test_a_height_map_points_up(self) -> None:
        sensor, findings = examine([look(points(0, 100), "xyz")], {})
        assert (sensor.axis, sensor.float_unit) == ("up", 0.001)
        assert "below zero" in told_by(findings, "axis")

    def test_wider_than_any_lens_is_a_height_map(self) -> None:
        sensor, findings = examine([look(points(12, 100), "xyz")], {})
        assert sensor.axis == "up"
        assert "lens" in told_by(findings, "axis")

    def test_what_is_told_is_not_looked_for(self) -> None:
        told = {"axis": "away", "float_unit": 1.0, "missing": (-1.0,)}
        sensor, _ = examine([look(points(12, 100), "xyz")], told)
        assert sensor == Sensor.model_validate(told)

    def test_a_camera_is_asked_for(self) -> None:
        raster = hill(700, 900).astype(np.uint16)
        assert "not told" in told_by(examine([look(raster)], {})[1], "camera")
        told: dict[str, object] = {"camera": Intrinsics(fx=500, fy=500)}
        assert not any(finding.startswith("camera") for finding in examine([look(raster)], told)[1])

    def test_nothing_measured(self) -> None:
        with pytest.raises(DataError, match="missing"):
            examine([look(np.zeros((9, 9), np.uint16))], {})
        with pytest.raises(DataError, match="missing"):
            examine([look(np.full((9, 9, 3), np.nan, np.float32), "xyz")], {})
        assert examine([], {}) == (Sensor(), [])


class TestTold:
    @pytest.mark.parametrize(
        ("text", "metres"),
        [("m", 1), ("mm", 0.001), ("um", 1e-6), ("1/5000", 0.0002), ("2.5e-4", 2.5e-4), ("MM", 0.001)],
    )
    def test_units(self, text: str, metres: float) -> None:
        assert parse_unit(text) == {
            "unit": pytest.approx(metres),
            "float_unit": pytest.approx(metres),
            "encoding": "linear",
        }

    def test_other_units(self) -> None:
        assert parse_unit("auto") == {}
        assert parse_unit("kinect") == {"encoding": "disparity"}
        assert parse_unit("sun") == {"encoding": "rotated"}

    @pytest.mark.parametrize("text", ["inch", "0", "-1", "nan", "1/0", "1/x", "", "1e9"])
    def test_wrong_units(self, text: str) -> None:
        with pytest.raises(UsageError, match="--unit"):
            parse_unit(text)

    def test_missing(self) -> None:
        assert parse_missing("auto") == {}
        assert parse_missing("nan") == {"missing": ()}
        assert parse_missing("0,65535") == {"missing": (0.0, 65535.0)}
        for wrong in ("zero", "0,", "1e999", ""):
            with pytest.raises(UsageError, match="--missing"):
                parse_missing(wrong)


class TestIntrinsics:
    def test_numbers(self) -> None:
        assert parse_intrinsics("525,526,320,240") == Intrinsics(fx=525, fy=526, cx=320, cy=240)
        assert parse_intrinsics("525") == Intrinsics(fx=525, fy=525)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.json", '{"intrinsic_matrix": [525, 0, 0, 0, 526, 0, 320, 240, 1]}'),
            ("a.json", '{"camera": {"fx": 525, "fy": 526, "cx": 320, "cy": 240}}'),
            ("a.yaml", "K: [525, 0, 320, 0, 526, 240, 0, 0, 1]"),
            ("a.yaml", "camera_matrix:\n  rows: 3\n  data: [525, 0, 320, 0, 526, 240, 0, 0, 1]"),
            ("a.yaml", "camera_matrix: [[525, 0, 320], [0, 526, 240], [0, 0, 1]]"),
            (
                "a.xml",
                "<depth><focal_length_x>525</focal_length_x><focal_length_y>526</focal_length_y>"
                "<principal_point_x>320</principal_point_x><principal_point_y>240</principal_point_y></depth>",
            ),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        assert parse_intrinsics(str(tmp_path / name)) == Intrinsics(fx=525, fy=526, cx=320, cy=240)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[1, 2]", "a: " * 9, "<xml>", "fx: 1", '{"K": [1, 2]}', "fx: 0\nfy: 1\ncx: 1\ncy: 1", "\udcff"],
    )
    def test_files_without_a_camera(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "camera"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UsageError, match="--intrinsics"):
            parse_intrinsics(str(path))

    @pytest.mark.parametrize("text", ["1,2,3", "-525", "0", "nan", "nowhere.json"])
    def test_wrong_numbers(self, text: str) -> None:
        with pytest.raises(UsageError, match="--intrinsics"):
            parse_intrinsics(text)

    def test_real_cameras(self, shared: Path) -> None:
        primesense = parse_intrinsics(str(shared / "open3d_rgbd" / "camera_primesense.json"))
        assert primesense == Intrinsics(fx=525, fy=525, cx=319.5, cy=239.5)
        (grabber,) = (shared / "pcl_organised" / "grabber").glob("*.xml")
        assert parse_intrinsics(str(grabber)) == Intrinsics(fx=525, fy=525, cx=320, cy=240)
