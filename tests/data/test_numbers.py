from __future__ import annotations

import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mutations import mutations

from uipad_cli.data import numbers
from uipad_cli.data.numbers import read_exr, read_npz, read_pgm, read_ppm
from uipad_cli.errors import DataError, ResourceError

PATH = Path("part.numbers")
XYZ = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32) + 1
DEPTH = XYZ[..., 2].copy()
HALF, FLOAT, UINT = 1, 2, 0


def npz(packed: Any = True, **arrays: Any) -> bytes:
    buffer = BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def archive(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name.replace("_npy", ".npy"), data)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def declared(data: bytes, size: int) -> bytes:
    """The same zip of one member, whose directories claim that it unpacks to `size` bytes."""
    local, central = data.index(b"PK\3\4"), data.index(b"PK\1\2")
    changed = bytearray(data)
    struct.pack_into("<I", changed, local + 22, size)
    struct.pack_into("<I", changed, central + 24, size)
    return bytes(changed)


class TestNpz:
    @pytest.mark.parametrize("packed", [True, False])
    @pytest.mark.parametrize("array", [XYZ, DEPTH, DEPTH.astype(np.float64), (DEPTH * 1000).astype(np.uint16)])
    def test_the_only_array_is_read(self, packed: bool, array: Any) -> None:
        read = read_npz(npz(packed, anything=array), PATH)
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)

    def test_a_known_name_is_chosen_among_several(self) -> None:
        np.testing.assert_array_equal(read_npz(npz(rgb=XYZ * 9, depth=DEPTH, mask=DEPTH > 1), PATH), DEPTH)
        np.testing.assert_array_equal(read_npz(npz(depth=DEPTH, xyz=XYZ), PATH), XYZ)
        both = BytesIO()
        np.savez(both, XYZ, DEPTH)
        np.testing.assert_array_equal(read_npz(both.getvalue(), PATH), XYZ)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"PK\3\4", "damaged"),
            (npz(xyz=XYZ)[:-30], "damaged"),
            (npz(a=XYZ, b=DEPTH, rgb=XYZ), r"which of its arrays is meant\? it holds a, b, rgb"),
            (archive(note=b"no array"), "an archive without an array"),
            (npz(**{f"a{place}": DEPTH for place in range(1001)}), "more than 1000 arrays"),
            (npz(xyz=np.array([[{}, 1]], dtype=object)), "Python objects"),
            (npz(xyz=XYZ[..., :2]), r"\[H,W\]"),
            (archive(xyz_npy=b"\x93NUMPY"), "damaged"),
            (archive(zipfile.ZIP_BZIP2, xyz_npy=npy(XYZ)), "compression is not supported"),
            (archive(zipfile.ZIP_LZMA, xyz_npy=npy(XYZ)), "compression is not supported"),
            (declared(archive(xyz_npy=npy(XYZ)), 2**31), "declares 2147483648 bytes"),
            (declared(archive(xyz_npy=npy(XYZ)), 100), "damaged"),
            (declared(archive(xyz_npy=npy(XYZ)), 10**9), "unpacks to 368 bytes where 1000000000 are declared"),
            (npz(False, xyz=XYZ).replace(XYZ.tobytes(), XYZ[::-1].tobytes()), "Bad CRC"),
        ],
    )
    def test_a_bad_one_is_refused(self, data: bytes, reason: str) -> None:
        refused(read_npz, data, reason)

    def test_nothing_is_unpacked_beyond_what_is_declared(self) -> None:
        """A bomb of 50 MB that claims to be small costs nothing."""
        bomb = declared(archive(xyz_npy=npy(XYZ) + bytes(50_000_000)), 400)
        tracemalloc.start()
        try:
            refused(read_npz, bomb, "damaged")
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()

    def test_a_locked_archive(self) -> None:
        changed = bytearray(archive(xyz_npy=npy(XYZ)))
        changed[6] |= 1
        changed[changed.index(b"PK\1\2") + 8] |= 1
        refused(read_npz, bytes(changed), "encrypted|password")


def refused(read: Callable[[bytes, Path], Any], data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read(data, PATH)
    assert caught.value.message.startswith("part.numbers: ")
    assert len(caught.value.message) < 400


def pnm(kind: str, array: Any, top: int, *, gap: str = "\n", tail: bytes = b"") -> bytes:
    head = f"{kind}{gap}{array.shape[1]} {array.shape[0]}{gap}{top}\n".encode()
    if kind in ("P2", "P3"):
        return head + " ".join(str(value) for value in array.ravel()).encode() + tail
    return head + bytes(array.astype(">u2" if top > 255 else "u1").tobytes()) + tail


GREY = np.random.default_rng(1).integers(0, 256, (4, 5), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (4, 5), dtype=np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8)


class TestPgm:
    @pytest.mark.parametrize("kind", ["P5", "P2"])
    @pytest.mark.parametrize("gap", ["\n", "\n# a comment: 12 34\n#another\n", "\r\n", " \t"])
    @pytest.mark.parametrize(("array", "top"), [(GREY, 255), (DEEP, 65535), (GREY.astype(np.uint16), 256)])
    def test_both_kinds_and_depths(self, kind: str, gap: str, array: Any, top: int) -> None:
        read = read_pgm(pnm(kind, array, top, gap=gap), PATH)
        assert read.dtype == array.dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read, array)

    def test_values_beyond_the_greatest_are_kept_in_a_binary_file(self) -> None:
        """A camera that writes its bytes the wrong way round says 2047, and seems to go beyond it."""
        np.testing.assert_array_equal(read_pgm(pnm("P5", DEEP, 2047), PATH), DEEP)

    def test_real_depth_lies_byte_swapped(self, shared: Path) -> None:
        path = shared / "open3d_rgbd" / "other_formats" / "NYU_depth.pgm"
        depth = read_pgm(path.read_bytes(), path)
        assert depth.shape == (480, 640)
        assert depth.dtype == np.uint16
        assert (depth.byteswap().min(), depth.byteswap().max()) == (839, 2047)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "does not begin with P2 or P5"),
            (b"P5\n4 5", "does not begin"),
            (pnm("P6", COLOUR, 255), "does not begin with P2 or P5"),
            (b"P5\n# " + b"x" * 70_000 + b"\n4 5\n255\n" + bytes(20), "does not begin"),
            (b"P5\n" + b" " * 70_000 + b"4 5\n255\n" + bytes(20), "does not begin"),
            (b"P5\n-4 5\n255\n" + bytes(20), "does not begin"),
            (b"P5\n0 5\n255\n", "0 x 5 pixels"),
            (b"P5\n4 5\n0\n" + bytes(20), "up to the value 0"),
            (b"P5\n4 5\n65536\n" + bytes(80), "up to the value 65536"),
            (b"P5\n99999 99999\n255\n" + bytes(20), "99999 x 99999"),
            (b"P5\n8000 8000\n255\n" + bytes(20), "ends before the last of its 8000 x 8000"),
            (pnm("P5", DEEP, 65535)[:-1], "ends before the last"),
            (pnm("P5", GREY, 255, tail=b"more"), "4 bytes are left over"),
            (pnm("P2", GREY, 255)[:-4], "19 numbers where"),
            (pnm("P2", GREY, 255, tail=b" 7"), "21 numbers where"),
            (pnm("P2", GREY, 255, tail=b" x"), "other than numbers"),
            (pnm("P2", GREY, 100), "where its header promises at most 100"),
            (b"P2\n8000 8000\n255\n1 2 3", "cannot be 64000000 numbers"),
            (b"P2\n1 1\n255\n" + b"1 " * 100_000, "cannot be 1 numbers"),
            (b"P2\n2 1\n255\n7 " + b"9" * 1000, "at most 255"),
        ],
    )
    def test_a_bad_one_is_refused(self, data: bytes, reason: str) -> None:
        refused(read_pgm, data, reason)


class TestPpm:
    @pytest.mark.parametrize("kind", ["P6", "P3"])
    def test_both_kinds(self, kind: str) -> None:
        np.testing.assert_array_equal(read_ppm(pnm(kind, COLOUR, 255), PATH), COLOUR)

    def test_other_ranges_are_scaled(self) -> None:
        np.testing.assert_array_equal(read_ppm(pnm("P6", COLOUR.astype(np.uint16) * 257, 65535), PATH), COLOUR)
        np.testing.assert_array_equal(read_ppm(pnm("P3", COLOUR // 255, 1), PATH), COLOUR // 255 * 255)
        assert read_ppm(pnm("P6", COLOUR, 100), PATH).max() == 255

    def test_a_real_one(self, shared: Path) -> None:
        path = shared / "open3d_rgbd" / "other_formats" / "NYU_color.ppm"
        other = cv2.imread(str(path))
        assert other is not None
        np.testing.assert_array_equal(read_ppm(path.read_bytes(), path), other[..., ::-1])

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (pnm("P5", GREY, 255), "does not begin with P3 or P6"),
            (pnm("P6", COLOUR, 255)[:-1], "ends before the last"),
            (pnm("P6", COLOUR, 255, tail=b"1"), "left over"),
        ],
    )
    def test_a_bad_one_is_refused(self, data: bytes, reason: str) -> None:
        refused(read_ppm, data, reason)


def exr(
    channels: dict[str, Any],
    *,
    compression: int = 0,
    version: int = 2,
    window: tuple[int, int, int, int] | None = None,
    sampling: int = 1,
    drop: str = "",
    extra: bytes = b"",
) -> bytes:
    """An OpenEXR file of {name: array}, uncompressed or one deflated line after the other; its header may lie."""
    names = sorted(channels)
    height, width = channels[names[0]].shape
    kinds = {np.dtype(np.uint32): UINT, np.dtype(np.float16): HALF, np.dtype(np.float32): FLOAT}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", kinds[channels[name].dtype], 0, sampling, sampling)
        for name in names
    )
    box = struct.pack("<4i", *(window or (0, 0, width - 1, height - 1)))
    attributes = {
        "channels": ("chlist", listed + b"\0"),
        "compression": ("compression", bytes([compression])),
        "dataWindow": ("box2i", box),
        "displayWindow": ("box2i", box),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", bytes(8)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
    }
    head = struct.pack("<II", 0x01312F76, version)
    for name, (kind, value) in attributes.items():
        if name != drop:
            head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    head += extra + b"\0"
    first = window[1] if window else 0
    lines = []
    for row in range(height):
        plain = b"".join(channels[name][row].tobytes() for name in names)
        body = deflated(plain) if compression == 2 else plain
        lines.append(struct.pack("<ii", first + row, len(body)) + body)
    place, offsets = len(head) + 8 * height, b""
    for line in lines:
        offsets += struct.pack("<Q", place)
        place += len(line)
    return head + offsets + b"".join(lines)


def deflated(plain: bytes) -> bytes:
    """One ZIPS line: even bytes before odd ones, differences, deflate; as it is where that saves nothing."""
    shuffled = np.frombuffer(plain[::2] + plain[1::2], np.uint8).astype(np.int32)
    shuffled[1:] = (shuffled[1:] - shuffled[:-1] + 128) % 256
    packed = zlib.compress(shuffled.astype(np.uint8).tobytes())
    return packed if len(packed) < len(plain) else plain


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], Any]:
    pytest.importorskip("OpenEXR")

    def read(data: bytes) -> Any:
        path = tmp_path / "größe part.exr"
        path.write_bytes(data)
        return read_exr(data, path)

    return read


class TestExr:
    @pytest.mark.parametrize("compression", [0, 2])
    @pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint32])
    def test_one_channel_is_depth(self, opened: Callable[[bytes], Any], compression: int, kind: Any) -> None:
        depth = np.repeat(DEPTH * 10, 20, axis=1).astype(kind)
        read = opened(exr({"anything": depth}, compression=compression))
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, depth.astype(np.float32))

    @pytest.mark.parametrize(
        ("names", "taken"),
        [
            ("XYZ", "XYZ"),
            ("RGB", "RGB"),
            ("ABGR", "RGB"),
            ("xyz", "xyz"),
            ("RGBZ", "Z"),
            ("AY", "Y"),
            (("a", "Depth"), ("Depth",)),
        ],
    )
    def test_the_channels_that_are_taken(self, opened: Callable[[bytes], Any], names: Any, taken: Any) -> None:
        planes = {name: np.full((4, 5), place + 1, np.float32) for place, name in enumerate(names)}
        read = opened(exr(planes))
        assert read.shape == ((4, 5) if len(taken) == 1 else (4, 5, 3))
        assert read[0, 0].tolist() == (
            [planes[name][0, 0] for name in taken] if len(taken) > 1 else planes[taken[0]][0, 0]
        )

    def test_values_that_are_no_numbers_and_a_window_that_is_moved(self, opened: Callable[[bytes], Any]) -> None:
        depth = DEPTH.copy()
        depth[0, :3] = np.nan, np.inf, -np.inf
        np.testing.assert_array_equal(opened(exr({"Z": depth}, window=(-3, 10, 1, 13))), depth)

    def test_without_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(numbers, "find_spec", lambda _name: None)
        with pytest.raises(ResourceError, match=r"part\.numbers: EXR needs the package OpenEXR") as caught:
            read_exr(exr({"Z": DEPTH}), PATH)
        assert "uipad[exr]" in caught.value.cure

    def test_the_decoder_hangs(self, opened: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(numbers, "DECODE_SECONDS", 0.001)
        with pytest.raises(DataError, match="not decoded within"):
            opened(exr({"Z": DEPTH}))

    def test_a_decoder_that_dies_takes_nothing_along(
        self, opened: Callable[[bytes], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(numbers, "_EXR_CHILD", "import os\nos.abort()")
        with pytest.raises(DataError, match="cannot be decoded"):
            opened(exr({"Z": DEPTH}))

    def test_nothing_reaches_stdout(self, tmp_path: Path) -> None:
        pytest.importorskip("OpenEXR")
        path = tmp_path / "cut.exr"
        path.write_bytes(exr({"Z": DEPTH})[:-10])
        script = (
            "import sys\nfrom pathlib import Path\nfrom uipad_cli.data.numbers import read_exr\n"
            "from uipad_cli.errors import DataError\npath = Path(sys.argv[1])\n"
            "try:\n    read_exr(path.read_bytes(), path)\nexcept DataError:\n    sys.exit(3)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"v/1\1", "ends inside its header"),
            (b"not an exr at all", "does not begin like an OpenEXR file"),
            (exr({"Z": DEPTH}, version=3), "does not begin like"),
            (exr({"Z": DEPTH}, version=2 | 0x800), "several parts or of deep samples"),
            (exr({"Z": DEPTH}, version=2 | 0x1000), "several parts or of deep samples"),
            (exr({"Z": DEPTH}, drop="channels"), "holds no channels"),
            (exr({"Z": DEPTH}, drop="dataWindow"), "holds no dataWindow"),
            (exr({"Z": DEPTH}, drop="compression"), "holds no compression"),
            (exr({"Z": DEPTH}, window=(5, 0, 1, 3)), "-3 x 4 pixels"),
            (exr({"Z": DEPTH}, window=(0, 0, 2**31 - 1, 2**31 - 1)), "2147483648 x 2147483648 pixels"),
            (exr({"Z": DEPTH}, window=(0, 0, 9, 6_000_000)), "cannot be 6000001 lines"),
            (exr(dict.fromkeys("ABCDEFGH", DEPTH), window=(0, 0, 7999, 7999)), "8 channels are more than"),
            (exr({"Z": DEPTH}, sampling=2), "not of full size"),
            (exr({"Z": DEPTH}, compression=10), "compression .10. is not supported"),
            (exr({"a": DEPTH, "b": DEPTH}), r"which of its channels is meant\? it holds a, b"),
            (exr({"Z": DEPTH})[:100], "makes no sense"),
            (exr({"Z": DEPTH}, extra=b"note\0string\0" + struct.pack("<i", -9)), "'note' of its header makes no sense"),
            (exr({"Z": DEPTH}, extra=b"note\0string\0" + struct.pack("<i", 2**31 - 1)), "'note'"),
            (exr({"Z": DEPTH}, extra=b"x" * 300), "a name in its header has no end"),
            (exr({"Z": DEPTH}, extra=b"".join(f"a{n}\0b\0".encode() + bytes(4) for n in range(1001))), "no sense"),
        ],
    )
    def test_a_bad_header_is_refused_before_anything_is_decoded(
        self, data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subprocess, "run", lambda *_: pytest.fail("decoded"))
        refused(read_exr, data, reason)

    @pytest.mark.parametrize("cut", [1, 20, 60, 120])
    def test_a_cut_picture_is_refused(self, opened: Callable[[bytes], Any], cut: int) -> None:
        with pytest.raises(DataError, match=r"part\.exr: .*cannot be (decoded|4 lines)"):
            opened(exr({"Z": DEPTH})[:-cut])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::SyntaxWarning")
@pytest.mark.parametrize(
    ("read", "data"),
    [
        (read_npz, npz(xyz=XYZ)),
        (read_npz, npz(False, depth=DEPTH, rgb=GREY)),
        (read_pgm, pnm("P5", DEEP, 65535, gap="\n# a\n")),
        (read_pgm, pnm("P2", GREY, 255)),
        (read_ppm, pnm("P6", COLOUR, 255)),
        (read_ppm, pnm("P3", COLOUR, 255)),
    ],
)
def test_mutated_files_are_read_or_refused(read: Callable[[bytes, Path], Any], data: bytes) -> None:
    for mutated in mutations(data, 300):
        try:
            array = read(mutated, PATH)
        except DataError:
            continue
        assert array.ndim in (2, 3)
        assert array.dtype.kind in "fiuc"


def test_mutated_headers_of_exr_are_read_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder itself would take a fifth of a second for each."""
    decoded = subprocess.CompletedProcess([], 1, b"")
    monkeypatch.setattr(numbers, "find_spec", lambda _name: True)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: decoded)
    for mutated in mutations(exr({"Z": DEPTH}), 300):
        with pytest.raises(DataError, match=r"^part\.numbers: "):
            read_exr(mutated, PATH)


def test_mutated_exr_files_are_read_or_refused(opened: Callable[[bytes], Any]) -> None:
    for mutated in list(mutations(exr({"Z": DEPTH}, compression=2), 8)):
        try:
            depth = opened(mutated)
        except DataError:
            continue
        assert depth.dtype == np.float32
