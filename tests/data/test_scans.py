"""Geometry files → points: every format, every marker of missing, every unit, and what is refused."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from encoded import GREY16, XYZ, encode, npy_bytes, random_rgb, raw_tiff, tiff_bytes

from uipad_cli.data.geometry import measured, normals
from uipad_cli.data.scans import kind_of, read_file
from uipad_cli.data.sensor import Intrinsics, Sensor
from uipad_cli.errors import DataError


def xyz_of(path: Path) -> Any:
    return read_file(path, "xyz")


def depth_of(path: Path, unit: float) -> Any:
    return read_file(path, "depth", Sensor(unit=unit))[..., 2]


class TestGeometry:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_xyz_keeps_channel_order(self, tmp_path: Path, dtype: Any) -> None:
        tiff, npy = tmp_path / "a.tiff", tmp_path / "a.npy"
        tiff.write_bytes(tiff_bytes(XYZ.astype(dtype), photometric="rgb"))
        npy.write_bytes(npy_bytes(XYZ.astype(dtype)))
        for path in (tiff, npy):
            xyz = xyz_of(path)
            assert xyz.dtype == np.float32
            np.testing.assert_array_equal(xyz, XYZ.astype(dtype).astype(np.float32))

    def test_planar_big_endian_and_deflated_tiff(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tiff"
        planar = np.moveaxis(XYZ, -1, 0)
        path.write_bytes(tiff_bytes(planar, photometric="rgb", planarconfig="separate", byteorder=">"))
        np.testing.assert_array_equal(xyz_of(path), XYZ)
        path.write_bytes(tiff_bytes(XYZ, photometric="rgb", compression="zlib"))
        np.testing.assert_array_equal(xyz_of(path), XYZ)

    def test_what_opencv_writes(self, tmp_path: Path) -> None:
        """LZW, unless told otherwise, and blue first."""
        assert cv2.imwrite(str(tmp_path / "xyz.tif"), XYZ[..., ::-1])
        assert cv2.imwrite(str(tmp_path / "depth.tif"), GREY16)
        assert tifffile.TiffFile(tmp_path / "depth.tif").pages[0].compression == 5
        np.testing.assert_array_equal(xyz_of(tmp_path / "xyz.tif"), XYZ)
        np.testing.assert_allclose(depth_of(tmp_path / "depth.tif", 0.001), GREY16 / 1000, rtol=1e-6)
        data = (tmp_path / "depth.tif").read_bytes()
        (tmp_path / "depth.tif").write_bytes(data[:200] + bytes(40) + data[240:])
        with pytest.raises(DataError, match=r"depth\.tif"):
            depth_of(tmp_path / "depth.tif", 0.001)

    def test_nan_and_infinity_become_missing(self, tmp_path: Path) -> None:
        broken = XYZ.copy()
        broken[0, 0, 0], broken[1, 1, 2], broken[2, 2, 1] = np.nan, np.inf, -np.inf
        path = tmp_path / "a.npy"
        np.save(path, broken)
        xyz = xyz_of(path)
        assert np.isfinite(xyz).all()
        for place in (0, 1, 2):
            assert not xyz[place, place].any()
        np.testing.assert_array_equal(xyz[3:], XYZ[3:])

    def test_depth_units(self, tmp_path: Path) -> None:
        png, tiff, metres = tmp_path / "d.png", tmp_path / "d.tiff", tmp_path / "m.npy"
        png.write_bytes(encode(".png", GREY16))
        tiff.write_bytes(tiff_bytes(GREY16))
        np.save(metres, (GREY16 * 0.0002).astype(np.float32))
        for path in (png, tiff, metres):
            depth = depth_of(path, 0.0002)
            assert depth.dtype == np.float32
            np.testing.assert_allclose(depth, GREY16 * 0.0002, rtol=1e-6)

    def test_depth_marks_missing(self, tmp_path: Path) -> None:
        path = tmp_path / "d.npy"
        np.save(path, np.array([[1.0, np.nan, np.inf], [-1.0, 0.0, 1e300]]))
        np.testing.assert_array_equal(depth_of(path, 1), [[1, 0, 0], [0, 0, 0]])

    def test_kind_is_told_apart(self, tmp_path: Path) -> None:
        xyz, depth = tmp_path / "x.npy", tmp_path / "d.png"
        np.save(xyz, XYZ)
        depth.write_bytes(encode(".png", GREY16))
        assert [kind_of(path) for path in (xyz, depth)] == ["xyz", "depth"]
        with pytest.raises(DataError, match="depth image is expected"):
            depth_of(xyz, 1)
        with pytest.raises(DataError, match="xyz is expected"):
            xyz_of(depth)

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("colour.png", encode(".png", random_rgb()), "8-bit colour png"),
            ("grey.png", encode(".png", random_rgb()[..., 0]), "8-bit grey png"),
            ("colour.jpg", encode(".jpg", random_rgb()), "8-bit colour jpeg"),
            ("grey.tif", tiff_bytes(random_rgb()[..., 0]), "uint8"),
            ("zero.png", encode(".png", GREY16 * 0), "every pixel is missing"),
            ("zero.npy", npy_bytes(XYZ * 0), "every point is missing"),
            ("behind.npy", npy_bytes(-XYZ), "every point is missing"),
            ("nan.npy", npy_bytes(XYZ * np.nan), "every point is missing"),
            ("counts.npy", npy_bytes(XYZ.astype(np.int32)), "float channels"),
            ("complex.npy", npy_bytes(XYZ[..., 0] * 1j), "complex"),
            ("two.npy", npy_bytes(XYZ[..., :2]), r"\[H,W\]"),
            ("flat.npy", npy_bytes(XYZ.ravel()), r"\[H,W\]"),
            ("none.npy", npy_bytes(XYZ[:0]), r"\[H,W\]"),
            ("objects.npy", npy_bytes(np.array([[{}, 1]], dtype=object)), "Python objects"),
            ("lying.npy", npy_bytes(XYZ).replace(b"(8, 9, 3)", b"(999, 9,)")[:-1], "promises"),
            ("four.tif", tiff_bytes(np.dstack([XYZ, XYZ[..., 0]]), photometric="rgb"), "4 channels"),
            ("huge.tif", raw_tiff(2**31 - 1, 2**31 - 1, 1, b""), "limit"),
            ("lzma.tif", raw_tiff(10, 10, 34925, b"1234"), "compression"),
            ("bomb.tif", raw_tiff(10, 10, 8, zlib.compress(bytes(10**7))), "unpacks to more"),
            ("short.tif", raw_tiff(10, 10, 1, bytes(100)), "damaged"),
            ("text.tif", b"not a tiff at all", "not an image"),
        ],
    )
    def test_bad_geometry_is_refused(self, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=reason) as caught:
            read_file(path, kind_of(path))
        assert name in caught.value.message

    @pytest.mark.parametrize("make", [npy_bytes, lambda array: tiff_bytes(array, photometric="rgb")])
    def test_truncation_is_noticed(self, tmp_path: Path, make: Callable[[Any], bytes]) -> None:
        data = make(XYZ)
        path = tmp_path / "cut"
        for size in range(0, len(data) - 16, 17):
            path.write_bytes(data[:size])
            with pytest.raises(DataError, match="cut"):
                xyz_of(path)

    def test_mutated_tiffs_are_read_or_refused(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        data = tiff_bytes(XYZ, photometric="rgb", compression="zlib")
        path = tmp_path / "mutated.tiff"
        for _ in range(300):
            mutated = bytearray(data)
            for place in generator.integers(0, min(len(data), 400), 3):
                mutated[place] = generator.integers(256)
            path.write_bytes(mutated)
            try:
                xyz = xyz_of(path)
            except DataError:
                continue
            assert xyz.ndim == 3
            assert np.isfinite(xyz).all()

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::SyntaxWarning")  # numpy parses the header
    def test_mutated_npy_files_are_read_or_refused(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        data = npy_bytes(XYZ)
        path = tmp_path / "mutated.npy"
        for _ in range(600):
            mutated = bytearray(data)
            for place in generator.integers(0, 128, 2):
                mutated[place] = generator.choice(np.frombuffer(b"(){}[]'\",: 019\n\\\x00OV|>f", np.uint8))
            path.write_bytes(mutated)
            try:
                read_file(path, kind_of(path))
            except DataError:
                continue

    def test_only_the_first_page_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "pages.tiff"
        with tifffile.TiffWriter(path) as writer:
            writer.write(XYZ, photometric="rgb")
            writer.write(XYZ * 7, photometric="rgb")
        np.testing.assert_array_equal(xyz_of(path), XYZ)

    def test_ome_does_not_lead_to_another_file(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret.tiff"
        tifffile.imwrite(secret, np.full((8, 9), 4242, np.float32))
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="float" SizeX="9" SizeY="8" SizeZ="1" SizeC="1" '
            'SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1">'
            f'<UUID FileName="secret.tiff">urn:uuid:{"0" * 8}-0000-0000-0000-{"0" * 12}</UUID></TiffData></Pixels>'
            "</Image></OME>"
        )
        path = tmp_path / "pointer.ome.tiff"
        tifffile.imwrite(path, XYZ[..., 0], description=xml, metadata=None)
        depth = depth_of(path, 1)
        np.testing.assert_array_equal(depth, XYZ[..., 0])

    def test_real_depth_images(self, shared: Path) -> None:
        grabber = shared / "pcl_organised" / "grabber" / "frame_20121214T142255.814212_depth.tiff"  # PackBits
        depth = depth_of(grabber, 0.001)
        assert depth.shape == (480, 640)
        assert depth.max() == pytest.approx(1.713)
        assert (depth == 0).mean() == pytest.approx(0.116, abs=1e-3)
        redwood = depth_of(shared / "open3d_rgbd" / "redwood" / "depth" / "00000.png", 0.001)
        assert redwood.max() == pytest.approx(2.702)
        assert (redwood == 0).mean() == pytest.approx(0.130, abs=1e-3)

    def test_real_xyz_with_infinities(self, shared: Path) -> None:
        xyz = xyz_of(shared / "open3d_rgbd" / "maps" / "vertex_map.npy")
        assert np.isfinite(xyz).all()
        assert (xyz[..., 2] == 0).mean() == pytest.approx(0.165, abs=1e-3)


class TestOtherFrames:
    def test_points_before_an_opengl_camera(self, tmp_path: Path) -> None:
        np.save(tmp_path / "away.npy", XYZ)
        np.save(tmp_path / "gl.npy", XYZ * np.array([1, -1, -1], np.float32))
        toward = Sensor(axis="toward")
        np.testing.assert_array_equal(read_file(tmp_path / "gl.npy", "xyz", toward), xyz_of(tmp_path / "away.npy"))
        np.save(tmp_path / "depth.npy", -XYZ[..., 2])
        np.testing.assert_array_equal(read_file(tmp_path / "depth.npy", "depth", toward)[..., 2], XYZ[..., 2])

    def test_a_cloud_before_an_opengl_camera_is_projected_as_any_other(self, tmp_path: Path) -> None:
        camera = Intrinsics(fx=40, fy=40, cx=15.5, cy=15.5)
        row, column = np.mgrid[:32, :32]
        whole = np.stack([(column - 15.5) / 40, (row - 15.5) / 40, np.ones((32, 32))], axis=-1).astype(np.float32)
        mixed = np.random.default_rng(0).permutation(whole.reshape(-1, 3)) * np.array([1, -1, -1], np.float32)
        np.save(tmp_path / "cloud.npy", mixed)
        seen = read_file(tmp_path / "cloud.npy", "xyz", Sensor(axis="toward", camera=camera), size=(32, 32))
        np.testing.assert_allclose(seen, whole, atol=1e-6)
        with pytest.raises(DataError, match="in no order"):  # a height map has no camera
            read_file(tmp_path / "cloud.npy", "xyz", Sensor(axis="up", camera=camera), size=(32, 32))

    @pytest.mark.parametrize("down", [1, -1])
    def test_height_maps_whose_y_grows_either_way(self, tmp_path: Path, down: int) -> None:
        row, column = np.mgrid[:32, :32] * 0.001
        points = np.stack([column, down * row, 0.002 * np.sin(200 * column)], axis=-1).astype(np.float32)
        np.save(tmp_path / "rows.npy", points.reshape(-1, 3))
        np.save(tmp_path / "map.npy", points)
        up = Sensor(axis="up", missing=())
        seen = read_file(tmp_path / "map.npy", "xyz", up)
        np.testing.assert_array_equal(read_file(tmp_path / "rows.npy", "xyz", up, size=(32, 32)), seen)
        found = normals(seen, measured(seen))[1:-1, 1:-1]
        assert (found[..., 2] < 0).all()  # they face the sensor

    @pytest.mark.parametrize("mark", [66036.0, -1.0, 500.5])
    def test_marks_that_a_count_cannot_be_are_no_other_count(self, tmp_path: Path, mark: float) -> None:
        np.save(tmp_path / "d.npy", GREY16)
        sensor = Sensor(missing=(0.0, mark))
        np.testing.assert_array_equal(read_file(tmp_path / "d.npy", "depth", sensor), depth_sensor(tmp_path / "d.npy"))


def depth_sensor(path: Path) -> Any:
    return read_file(path, "depth")
