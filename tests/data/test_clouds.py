from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from mutations import mutations

from uipad_cli.data.clouds import cloud_colours, read_pcd, read_ply
from uipad_cli.errors import DataError

PATH = Path("part.cloud")
XYZ = (np.random.default_rng(0).random((12, 3)) + 1).astype(np.float32)
RGB = np.random.default_rng(1).integers(0, 256, (12, 3), dtype=np.uint8)
WIDE = "binary_little_endian"
NUMPY = {"float": "f4", "double": "f8", "uchar": "u1", "int": "i4", "uint": "u4", "ushort": "u2"}


def ply(
    columns: dict[str, tuple[str, Any]],
    order: str = WIDE,
    *,
    remarks: Iterable[str] = (),
    count: int | None = None,
    before: str = "",
    after: str = "",
    front: bytes = b"",
    tail: bytes = b"",
    end: str = "\n",
) -> bytes:
    """A ply file of the columns {name: (type, values)}, whose header may lie; before, after: header lines."""
    rows = len(next(iter(columns.values()))[1])
    header = ["ply", f"format {order} 1.0", *remarks, *before.splitlines()]
    header += [f"element vertex {rows if count is None else count}"]
    header += [f"property {kind} {name}" for name, (kind, _) in columns.items()]
    header += [*after.splitlines(), "end_header", ""]
    if order == "ascii":
        lines = (" ".join(str(values[row]) for _, values in columns.values()) for row in range(rows))
        body = "".join(line + end for line in lines).encode()
    else:
        sign = ">" if "big" in order else "<"
        table = np.empty(rows, [(name, sign + NUMPY[kind]) for name, (kind, _) in columns.items()])
        for name, (_, values) in columns.items():
            table[name] = values
        body = table.tobytes()
    return end.join(header).encode() + front + body + tail


def axes(xyz: Any = XYZ, kind: str = "float") -> dict[str, tuple[str, Any]]:
    return {name: (kind, xyz[:, place]) for place, name in enumerate("xyz")}


def coloured() -> dict[str, tuple[str, Any]]:
    return {**axes(), **{name: ("uchar", RGB[:, place]) for place, name in enumerate(("red", "green", "blue"))}}


def lzf(data: bytes) -> bytes:
    """Literal runs of up to 32 bytes, and nothing else."""
    return b"".join(bytes([len(data[at : at + 32]) - 1]) + data[at : at + 32] for at in range(0, len(data), 32))


def pcd(
    fields: dict[str, Any],
    encoding: str = "binary",
    *,
    height: int | None = 1,
    tail: bytes = b"",
    size: int | None = None,
    change: tuple[str, str] = ("", ""),
) -> bytes:
    """A pcd file of {name: values [N] or [N,COUNT]}; change: a replacement in its header."""
    arrays = [np.asarray(values) for values in fields.values()]
    points = len(arrays[0])
    kinds = {"f": "F", "u": "U", "i": "I"}
    header = ["# .PCD v0.7", "VERSION 0.7", "FIELDS " + " ".join(fields)]
    header += ["SIZE " + " ".join(str(array.dtype.itemsize) for array in arrays)]
    header += ["TYPE " + " ".join(kinds[array.dtype.kind] for array in arrays)]
    header += ["COUNT " + " ".join(str(array[0].size) for array in arrays)]
    header += [f"WIDTH {points // (height or 1)}", *([f"HEIGHT {height}"] if height else [])]
    header += ["VIEWPOINT 0 0 0 1 0 0 0", f"POINTS {points}", f"DATA {encoding}", ""]
    if encoding == "ascii":
        flat = [array.reshape(points, -1) for array in arrays]
        lines = (" ".join(str(value) for array in flat for value in array[row]) for row in range(points))
        body = "".join(line + "\n" for line in lines).encode()
    elif encoding == "binary":
        body = b"".join(array[row].tobytes() for row in range(points) for array in arrays)
    else:
        plain = b"".join(array.tobytes() for array in arrays)
        body = lzf(plain)
        body = struct.pack("<II", len(body), len(plain) if size is None else size) + body
    return "\n".join(header).replace(*change).encode() + body + tail


def spread(xyz: Any = XYZ) -> dict[str, Any]:
    return {name: xyz[:, place].copy() for place, name in enumerate("xyz")}


def bits() -> Any:
    return (RGB[:, 0].astype(np.uint32) << 16) | (RGB[:, 1].astype(np.uint32) << 8) | RGB[:, 2] | np.uint32(0xFF << 24)


class TestPly:
    @pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
    @pytest.mark.parametrize("kind", ["float", "double"])
    def test_every_encoding_gives_the_same_points(self, order: str, kind: str) -> None:
        xyz = XYZ.astype(np.float64) / 3 if kind == "double" else XYZ
        read = read_ply(ply(axes(xyz, kind), order), PATH)
        assert read.dtype == xyz.dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, xyz)

    @pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
    def test_other_columns_in_any_order_and_faces_behind(self, order: str) -> None:
        flat = axes()
        columns = {"nx": ("double", XYZ[:, 0]), "z": flat["z"], "red": ("uchar", RGB[:, 0]), "y": flat["y"]}
        columns |= {"label": ("int", np.arange(12) - 5), "x": flat["x"]}
        faces = b"3 0 1 2\n3 1 2 3\n" if order == "ascii" else bytes(26)
        data = ply(
            columns,
            order,
            remarks=["comment " + "long " * 500, "obj_info made by hand"],
            after="element face 2\nproperty list uchar int vertex_indices",
            tail=faces,
        )
        np.testing.assert_array_equal(read_ply(data, PATH), XYZ)

    @pytest.mark.parametrize("order", ["ascii", "binary_big_endian"])
    def test_an_element_in_front_is_skipped(self, order: str) -> None:
        front = b"1 2\n" if order == "ascii" else bytes(6)
        data = ply(axes(), order, before="element camera 1\nproperty float a\nproperty short b", front=front)
        np.testing.assert_array_equal(read_ply(data, PATH), XYZ)

    def test_windows_line_ends_and_values_that_are_no_numbers(self) -> None:
        data = ply(axes(), "ascii", end="\r\n").replace(str(XYZ[3, 1]).encode(), b"nan")
        read = read_ply(data, PATH)
        assert np.isnan(read[3, 1])
        assert np.isfinite(read).sum() == 35
        np.testing.assert_array_equal(read_ply(ply(axes(), end="\r\n"), PATH), XYZ)

    def test_a_mixture_of_float_and_double_is_double(self) -> None:
        read = read_ply(ply(axes() | {"z": ("double", XYZ[:, 2])}), PATH)
        assert read.dtype == np.float64

    @pytest.mark.parametrize(
        "remarks",
        [
            ["comment width 4", "comment height 3"],
            ["obj_info num_cols 4", "obj_info num_rows 3"],
            ["obj_info Maker PLY PointCloud (Width = 4; Height = 3; Ordered)"],
        ],
    )
    def test_a_remark_may_say_that_the_points_are_organised(self, remarks: list[str]) -> None:
        data = ply(coloured(), remarks=remarks)
        np.testing.assert_array_equal(read_ply(data, PATH), XYZ.reshape(3, 4, 3))
        np.testing.assert_array_equal(cloud_colours(data, PATH), RGB.reshape(3, 4, 3))

    def test_a_remark_of_another_size_is_no_matter(self) -> None:
        data = ply(coloured(), remarks=["comment width 40", "comment height 30"])
        assert read_ply(data, PATH).shape == (12, 3)
        assert cloud_colours(data, PATH) is None

    @pytest.mark.parametrize("order", ["ascii", "binary_little_endian", "binary_big_endian"])
    def test_a_range_grid_puts_each_point_into_its_cell(self, order: str) -> None:
        cells = np.full(20, -1)
        cells[[1, 2, 3, 5, 6, 7, 8, 11, 12, 13, 15, 19]] = np.arange(12)[::-1]
        data = ply(
            coloured(),
            order,
            remarks=["obj_info num_cols 5", "obj_info num_rows 4"],
            after="element note 1\nproperty uchar a\nelement range_grid 20\nproperty list uchar int vertex_indices",
            tail=(b"7\n" if order == "ascii" else b"7") + grid(cells, order),
        )
        xyz, colours = read_ply(data, PATH).reshape(20, 3), cloud_colours(data, PATH)
        assert colours is not None
        assert colours.shape == (4, 5, 3)
        np.testing.assert_array_equal(xyz[cells >= 0], XYZ[::-1])
        np.testing.assert_array_equal(colours.reshape(20, 3)[cells >= 0], RGB[::-1])
        assert np.isnan(xyz[cells < 0]).all()
        assert not colours.reshape(20, 3)[cells < 0].any()

    def test_real_fragment(self, shared: Path) -> None:
        path = shared / "open3d_rgbd" / "fragment_000.ply"
        xyz = read_ply(path.read_bytes(), path)
        assert xyz.shape == (5028, 3)
        assert xyz.dtype == np.float64
        assert np.isfinite(xyz).all()
        assert cloud_colours(path.read_bytes(), path) is None


def grid(cells: Any, order: str, index: str = "i4") -> bytes:
    if order == "ascii":
        return b"".join(b"0\n" if cell < 0 else f"1 {cell}\n".encode() for cell in cells)
    kind = np.dtype((">" if "big" in order else "<") + index)
    return b"".join(b"\0" if cell < 0 else b"\1" + np.array(cell, kind).tobytes() for cell in cells)


RANGE: dict[str, Any] = {"remarks": ["obj_info num_cols 4", "obj_info num_rows 3"]}
CELLS = "element range_grid 12\nproperty list uchar int vertex_indices"
GOOD = ply(axes())


class TestBadPly:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "no end_header"),
            (b"ply\nformat ascii 1.0\n" + b"comment x\n" * 10_000, "no end_header"),
            (GOOD.replace(b"ply\n", b"pty\n"), "begin with the line ply"),
            (GOOD.replace(b"format binary_little_endian 1.0\n", b""), "declares no format"),
            (GOOD.replace(b"little", b"middle"), "makes no sense"),
            (GOOD.replace(b"vertex", b"corner"), "no element vertex"),
            (GOOD.replace(b"vertex 12", b"vertex -12"), "whole number"),
            (GOOD.replace(b"vertex 12", b"vertex " + b"9" * 5000), "whole number"),
            (GOOD.replace(b"vertex 12", b"vertex 999999999999"), "more than the limits"),
            (GOOD.replace(b"vertex 12", b"vertex 60000000"), "ends before the last of the 60000000"),
            (GOOD.replace(b"vertex 12", b"vertex 13"), "ends before the last"),
            (GOOD.replace(b"vertex 12", b"vertex 11"), "12 bytes are left over"),
            (GOOD.replace(b"vertex 12", b"vertex 0"), "no points"),
            (GOOD.replace(b"float y", b"float y2"), "no single column y .it holds x, y2, z"),
            (GOOD.replace(b"float y", b"float x"), "twice"),
            (GOOD.replace(b"float y", b"half y"), "unknown type 'half'"),
            (GOOD.replace(b"float y", b"int y"), "float32, int32, float32, where floating"),
            (GOOD.replace(b"property float y", b"property list uchar float y"), "a list among"),
            (GOOD.replace(b"end_header", b"element vertex 2\nproperty float x\nend_header"), "twice"),
            (GOOD.replace(b"element vertex 12\n", b""), "makes no sense"),
            (GOOD[:-1], "ends before the last"),
            (ply(axes(), before="element face 1\nproperty list uchar int a"), "lists in front of its vertices"),
            (ply(axes(), "ascii", count=13), "after 12 of its 13"),
            (ply(axes(XYZ.astype(int)), "ascii", count=13, tail=b" " * 99), "ends after 12 of its 13"),
            (ply(axes(), "ascii", count=11), "but more follow"),
            (ply(axes(), "ascii", count=40_000_000), "40000000 points, more than the file can hold"),
            (ply(axes(), "ascii", count=60_000_000), "more than the limits"),
            (ply(axes(), "ascii").replace(str(XYZ[3, 1]).encode(), b"one"), "could not convert string 'one'"),
            (ply(axes(), "ascii").replace(str(XYZ[3, 1]).encode(), b""), "columns changed from 3 to 2 at row 4$"),
            (ply(axes(), "ascii", count=13, tail=b"1 " * 1_000_000), "a line of it is longer than 65536 bytes"),
            (ply(axes(), "ascii", before="element a 99\nproperty int b"), "before the first of its 12"),
            (ply(axes(), "ascii").replace(b"property float z\n", b"property float z\nproperty int w\n"), "promises 4"),
            (ply(axes(), after=CELLS, tail=bytes(12)), "num_cols 0 and num_rows 0"),
            (ply(axes(), after=CELLS, tail=bytes(11), **RANGE), "inside the 12 cells"),
            (ply(axes(), after=CELLS, tail=bytes(11) + b"\1\0\0", **RANGE), "inside the 12 cells"),
            (ply(axes(), after=CELLS, tail=b"\2" + bytes(40), **RANGE), "holds 2 vertices"),
            (ply(axes(), after=CELLS, tail=grid([12] * 12, WIDE), **RANGE), "beyond its 12 vertices"),
            (ply(axes(), after=CELLS, tail=grid([0] * 11 + [-7], WIDE)[:-1] + b"\1\0\0\0\x80", **RANGE), "beyond"),
            (ply(axes(), after=CELLS.replace("12", "13"), tail=bytes(13), **RANGE), "13 cells, but num_cols 4"),
            (ply(axes(), after=CELLS.replace("list uchar ", ""), tail=bytes(99), **RANGE), "not one list per cell"),
            (ply(axes(), after="element a 1\nproperty list char int b\n" + CELLS, **RANGE), "front of its range_grid"),
            (ply(axes(), "ascii", after=CELLS, tail=b"0\n" * 11, **RANGE), "after 11 of the 12 cells"),
            (ply(axes(), "ascii", after=CELLS, tail=b"2 1 1\n" * 12, **RANGE), "reads b'2 1 1"),
        ],
    )
    def test_it_is_refused_with_a_reason(self, data: bytes, reason: str) -> None:
        with pytest.raises(DataError, match=reason) as caught:
            read_ply(data, PATH)
        assert caught.value.message.startswith("part.cloud: ")
        assert caught.value.cure
        assert len(caught.value.message) < 400


class TestPcd:
    @pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
    @pytest.mark.parametrize("kind", [np.float32, np.float64])
    @pytest.mark.parametrize("height", [None, 1, 3])
    def test_every_encoding_gives_the_same_points(self, encoding: str, kind: Any, height: int | None) -> None:
        xyz = XYZ.astype(kind) / kind(3)
        xyz[5] = np.nan
        read = read_pcd(pcd(spread(xyz), encoding, height=height), PATH)
        assert read.dtype == kind
        np.testing.assert_array_equal(read, xyz.reshape((3, 4, 3) if height == 3 else (12, 3)))

    @pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
    def test_any_order_of_fields_and_counts_above_one(self, encoding: str) -> None:
        generator = np.random.default_rng(2)
        fields = {"label": np.arange(12, dtype=np.uint8), "z": XYZ[:, 2], "histogram": generator.random((12, 5))}
        fields |= {"_": np.zeros(12, np.int64), "x": XYZ[:, 0], "y": XYZ[:, 1]}
        np.testing.assert_array_equal(read_pcd(pcd(fields, encoding), PATH), XYZ)

    @pytest.mark.parametrize("name", ["rgb", "rgba"])
    @pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
    def test_colours_are_unpacked(self, name: str, encoding: str) -> None:
        whole = pcd({**spread(), name: bits()}, encoding, height=3)
        np.testing.assert_array_equal(cloud_colours(whole, PATH), RGB.reshape(3, 4, 3))
        assert cloud_colours(pcd({**spread(), name: bits()}, encoding), PATH) is None
        assert cloud_colours(pcd(spread(), encoding, height=3), PATH) is None
        assert cloud_colours(pcd({**spread(), name: bits().astype(np.uint64)}, encoding, height=3), PATH) is None

    @pytest.mark.parametrize("encoding", ["binary", "binary_compressed"])
    def test_colours_in_a_float_keep_their_bits(self, encoding: str) -> None:
        data = pcd({**spread(), "rgb": bits().view(np.float32)}, encoding, height=3)  # with alpha 255, half are NaN
        np.testing.assert_array_equal(cloud_colours(data, PATH), RGB.reshape(3, 4, 3))

    def test_colours_in_a_float_of_an_ascii_file(self) -> None:
        packed = (bits() & 0xFFFFFF).view(np.float32)
        words = np.array([f"{value:.9g}" for value in packed])
        words[4] = "nan"
        data = pcd({**spread(), "rgb": packed}, "ascii", height=3)
        rows = [" ".join([*map(str, XYZ[row]), words[row]]) for row in range(12)]
        data = data[: data.index(b"DATA ascii\n") + 11] + "\n".join(rows).encode()
        expected = RGB.copy()
        expected[4] = 0
        np.testing.assert_array_equal(cloud_colours(data, PATH), expected.reshape(3, 4, 3))

    def test_the_columns_of_an_old_header_and_padding(self) -> None:
        old = pcd(spread(), change=("FIELDS", "COLUMNS"), tail=bytes(100)).replace(b"COUNT 1 1 1\n", b"")
        np.testing.assert_array_equal(read_pcd(old, PATH), XYZ)
        bare = old.replace(b"WIDTH 12\nHEIGHT 1\n", b"")
        np.testing.assert_array_equal(read_pcd(bare, PATH), XYZ)

    def test_copies_of_what_was_unpacked(self) -> None:
        """Short, long, overlapping what they write, and from far back: as if copied byte by byte."""
        plain, packed = bytearray(np.random.default_rng(0).bytes(32)), b"\x1f"
        packed += plain
        for length, back in ((3, 1), (264, 7), (8, 299), (9, 300), (260, 260), (264, 2)):
            high = (length - 2 if length < 9 else 7) << 5 | back - 1 >> 8
            packed += bytes([high, *([length - 9] if length > 8 else []), back - 1 & 255])
            for _ in range(length):
                plain.append(plain[-back])
        data = pcd(spread(np.zeros((len(plain) // 12, 3), np.float32)), "binary_compressed")
        data = data[: data.index(b"compressed\n") + 11] + struct.pack("<II", len(packed), len(plain)) + packed
        np.testing.assert_array_equal(read_pcd(data, PATH), np.frombuffer(plain, "<f4").reshape(3, -1).T)

    def test_a_grabbed_frame_agrees_with_its_images(self, shared: Path) -> None:
        folder = shared / "pcl_organised" / "grabber"
        path = folder / "frame_20121214T142255.814212.pcd"
        xyz, colours = read_pcd(path.read_bytes(), path), cloud_colours(path.read_bytes(), path)
        depth = tifffile.imread(path.with_name(path.stem + "_depth.tiff"))
        rgb = tifffile.imread(path.with_name(path.stem + "_rgb.tiff"))
        assert xyz.shape == (480, 640, 3)
        seen = np.isfinite(xyz).all(axis=2)
        np.testing.assert_array_equal(seen, depth > 0)
        assert np.abs(xyz[seen][:, 2] - depth[seen] / 1000).max() <= 1.3e-7
        np.testing.assert_array_equal(colours, rgb)
        row, column = np.nonzero(seen)
        x, y, z = xyz[seen].astype(np.float64).T
        assert np.abs(x / z * 525 + 320 - column).max() < 1e-4
        assert np.abs(y / z * 525 + 240 - row).max() < 1e-4

    @pytest.mark.parametrize(
        ("name", "missing"),
        [
            ("five_people", 0.22),
            ("milk_cartoon_all_small_clorox", 0.21),
            ("table_scene_mug_stereo_textured", 0.32),
            ("organized_edge_1", 0.0),
            ("mOSD_learn13", 0.32),
            ("mOSD_test55", 0.43),
        ],
    )
    def test_real_organised_clouds(self, shared: Path, name: str, missing: float) -> None:
        path = shared / "pcl_organised" / f"{name}.pcd"
        xyz, colours = read_pcd(path.read_bytes(), path), cloud_colours(path.read_bytes(), path)
        assert xyz.shape == (480, 640, 3)
        assert xyz.dtype == np.float32
        assert 1 - np.isfinite(xyz).all(axis=2).mean() == pytest.approx(missing, abs=0.015)
        assert np.nanmin(xyz[..., 2]) > 0.3
        assert colours is not None
        assert colours.shape == (480, 640, 3)
        assert colours.std() > 20

    def test_a_real_cloud_without_order(self, shared: Path) -> None:
        path = shared / "open3d_rgbd" / "fragment.pcd"
        xyz = read_pcd(path.read_bytes(), path)
        assert xyz.shape == (113_662, 3)
        assert np.isfinite(xyz).all()
        assert cloud_colours(path.read_bytes(), path) is None


def bad(before: str, after: str, **settings: Any) -> bytes:
    return pcd(spread(), change=(before, after), **settings)


def copied(packed: bytes) -> bytes:
    data = pcd(spread(), "binary_compressed")
    return data[: data.index(b"compressed\n") + 11] + struct.pack("<II", len(packed), 144) + packed


class TestBadPcd:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "no DATA line"),
            (b"# only a comment\n" * 9999, "no DATA line"),
            (bad("DATA binary", "DATA"), "empty or comes twice"),
            (bad("DATA binary", "DATA zipped"), "DATA zipped is not supported"),
            (bad("VERSION 0.7", "WIDTH 3"), "empty or comes twice"),
            (bad("FIELDS x y z", "FIELDS x y"), "every field"),
            (bad("SIZE 4 4 4", "SIZE 4 4"), "every field"),
            (bad("TYPE F F F", "SORT F F F"), "every field"),
            (bad("TYPE F F F", "TYPE F F G"), "unknown TYPE G"),
            (bad("SIZE 4 4 4", "SIZE 4 4 2"), "TYPE F of SIZE 2"),
            (bad("TYPE F F F", "TYPE F F I"), "x, y, z are float32, float32, int32"),
            (bad("FIELDS x y z", "FIELDS x y w"), "no single column z"),
            (bad("FIELDS x y z", "FIELDS x y y"), "twice"),
            (bad("COUNT 1 1 1", "COUNT 1 1 0"), "COUNT 0"),
            (bad("COUNT 1 1 1", "COUNT 1 1 2"), "ends before the last"),
            (bad("COUNT 1 1 1", "COUNT 1 1 2000000000"), "more than the limits"),
            (bad("COUNT 1 1 1", "COUNT 1 1 two"), "whole number"),
            (bad("WIDTH 12", "WIDTH 11"), "WIDTH 11 x HEIGHT 1 is not its number of POINTS 12"),
            (bad("POINTS 12", "POINTS 0"), "is not its number of POINTS 0"),
            (bad("WIDTH 12", "WIDTH 0").replace(b"POINTS 12", b"POINTS 0"), "no points"),
            (bad("WIDTH 12", "WIDTH 99999999").replace(b"POINTS 12", b"POINTS 99999999"), "99999999 x 1 pixels"),
            (bad("WIDTH 12", "WIDTH 30000000").replace(b"POINTS 12", b"POINTS 30000000"), "ends before the last"),
            (bad("WIDTH 12", "WIDTH 11").replace(b"POINTS 12", b"POINTS 11"), "12 bytes are left over"),
            (pcd(spread())[:-1], "ends before the last"),
            (pcd(spread(), "ascii")[:-40], "columns changed from 3 to 2 at row 11$"),
            (pcd(spread(), "ascii", tail=b"1 2 3\n"), "but more follow"),
            (pcd(spread(), "ascii").replace(str(XYZ[2, 1]).encode(), b"0x10"), "could not convert"),
            (bad("COUNT 1 1 1", "COUNT 1 1 2", encoding="ascii"), "3 numbers in a line where its header promises 4"),
            (bad("COUNT 1 1 1", "COUNT 1 1 2000000000", encoding="ascii"), "more than the limits"),
            (pcd(spread(), "binary_compressed")[:-1], "inside its 149 compressed"),
            (pcd(spread(), "binary_compressed", size=2**32 - 1), "4294967295 bytes for 12 points"),
            (pcd(spread(), "binary_compressed", tail=b"more"), "left over"),
            (pcd(spread(), "binary_compressed")[:-150], "in front of its points"),
            (copied(b"\x20\0" + bytes(99)), "cannot be unpacked"),  # a copy from before the first byte
            (copied(b"\0\0\xe0"), "cannot be unpacked"),  # cut inside a copy
            (copied(b"\0\0\xe0\xff\0"), "cannot be unpacked"),  # 265 bytes
            (copied(b"\x1f" + bytes(20)), "cannot be unpacked"),  # cut inside a run
            (copied(lzf(bytes(143))), "cannot be unpacked"),
        ],
    )
    def test_it_is_refused_with_a_reason(self, data: bytes, reason: str) -> None:
        began = time.monotonic()
        with pytest.raises(DataError, match=reason) as caught:
            read_pcd(data, PATH)
        assert caught.value.message.startswith("part.cloud: ")
        assert caught.value.cure
        assert time.monotonic() - began < 5


PLYS = [ply(coloured(), order, **RANGE) for order in ("ascii", "binary_little_endian", "binary_big_endian")]
GRIDS = [
    ply(coloured(), order, after=CELLS, tail=grid(np.arange(12)[::-1], order), **RANGE)
    for order in ("ascii", "binary_little_endian")
]
PCDS = [
    pcd({**spread(), "rgb": bits(), "n": XYZ}, encoding, height=3)
    for encoding in ("ascii", "binary", "binary_compressed")
]


@pytest.mark.parametrize(("read", "files"), [(read_ply, PLYS + GRIDS), (read_pcd, PCDS)])
def test_mutated_files_are_read_or_refused(read: Callable[[bytes, Path], Any], files: list[bytes]) -> None:
    for seed, data in enumerate(files):
        for mutated in mutations(data, 300 // len(files), seed):
            try:
                xyz = read(mutated, PATH)
                colours = cloud_colours(mutated, PATH)
            except DataError:
                continue
            assert xyz.ndim in (2, 3)
            assert xyz.shape[-1] == 3
            assert xyz.dtype in (np.float32, np.float64)
            assert colours is None or colours.shape == xyz.shape
