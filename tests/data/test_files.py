from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from encoded import GREY16, XYZ, encode, npy_bytes, random_rgb, raw_tiff, tiff_bytes

from uipad_cli.data import files
from uipad_cli.data.scans import read_file
from uipad_cli.errors import DataError, ResourceError


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def giant_png() -> bytes:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


class TestColour:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_lossless_formats_give_the_same_rgb(self, tmp_path: Path, suffix: str) -> None:
        image = random_rgb()
        path = tmp_path / f"a{suffix}"
        path.write_bytes(encode(suffix, image[..., ::-1]))
        np.testing.assert_array_equal(files.read_rgb(path), image)

    def test_jpeg_is_read(self, tmp_path: Path) -> None:
        image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
        path = tmp_path / "a.jpg"
        path.write_bytes(encode(".jpg", image[..., ::-1]))
        assert np.abs(files.read_rgb(path).astype(int) - image).max() < 5

    def test_orientation_tag_is_not_applied(self, tmp_path: Path) -> None:
        plain = encode(".jpg", random_rgb(20, 30))
        exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
        path = tmp_path / "turned.jpg"
        path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
        assert cv2.imread(str(path)).shape == (30, 20, 3)  # the tag is real
        assert files.read_rgb(path).shape == (20, 30, 3)

    def test_16_bits_grey_and_alpha(self, tmp_path: Path) -> None:
        image = random_rgb()
        deep, alpha, grey = tmp_path / "deep.png", tmp_path / "alpha.png", tmp_path / "grey.png"
        deep.write_bytes(encode(".png", image[..., ::-1].astype(np.uint16) * 257))
        alpha.write_bytes(encode(".png", np.dstack([image[..., ::-1], np.zeros(image.shape[:2], np.uint8)])))
        grey.write_bytes(encode(".png", image[..., 0]))
        np.testing.assert_array_equal(files.read_rgb(deep), image)
        np.testing.assert_array_equal(files.read_rgb(alpha), image)
        np.testing.assert_array_equal(files.read_rgb(grey), np.repeat(image[..., :1], 3, axis=2))

    @pytest.mark.parametrize(
        ("name", "data", "reason"),
        [
            ("text.png", b"this is no picture", "not an image"),
            ("empty.png", b"", "empty"),
            ("giant.png", giant_png(), "30000 x 30000"),
            ("giant.tif", raw_tiff(60000, 60000, 1, b"123"), "60000 x 60000"),
            ("giant.bmp", encode(".bmp", random_rgb())[:18] + struct.pack("<ii", 90000, 90000) + bytes(60), "90000"),
            ("depth.png", encode(".png", GREY16), "looks like depth"),
            ("xyz.tif", tiff_bytes(XYZ, photometric="rgb"), "looks like geometry"),
            ("xyz.npy", npy_bytes(XYZ), "looks like geometry"),
        ],
    )
    def test_what_is_no_colour_image_is_refused(self, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DataError, match=reason) as caught:
            files.read_rgb(path)
        assert name in caught.value.message

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
    def test_truncation_is_noticed(self, tmp_path: Path, suffix: str, share: float) -> None:
        data = encode(suffix, random_rgb())
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DataError, match="cut"):
            files.read_rgb(path)

    def test_any_flipped_byte_of_a_png_is_noticed(self, tmp_path: Path) -> None:
        data = encode(".png", random_rgb(6, 6))
        path = tmp_path / "flipped.png"
        for place in range(8, len(data)):
            path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
            with pytest.raises(DataError):
                files.read_rgb(path)

    def test_missing_file_and_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file"):
            files.read_rgb(tmp_path / "absent.png")
        with pytest.raises(DataError, match="folder"):
            files.read_rgb(tmp_path)


class TestMask:
    def test_any_id_counts_in_any_channel(self, tmp_path: Path) -> None:
        ids = np.zeros((4, 5), np.uint8)
        ids[1, 2], ids[3, 4] = 1, 255
        grey, colour, alpha, deep = (tmp_path / f"{name}.png" for name in ("grey", "colour", "alpha", "deep"))
        grey.write_bytes(encode(".png", ids))
        colour.write_bytes(encode(".png", np.dstack([ids * 0, ids, ids * 0])))
        alpha.write_bytes(encode(".png", np.dstack([ids, ids, ids, np.full_like(ids, 255)])))
        deep.write_bytes(encode(".png", ids.astype(np.uint16)))  # 8 bits of 16 would drop id 1
        for path in (grey, colour, alpha, deep):
            mask = files.read_mask(path)
            assert mask.dtype == np.bool_
            np.testing.assert_array_equal(mask, ids > 0)

    def test_jpeg_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "mask.jpg"
        path.write_bytes(encode(".jpg", random_rgb()))
        with pytest.raises(DataError, match="JPEG"):
            files.read_mask(path)

    def test_real_masks_hold_other_ids_than_255(self, cable_gland: Path) -> None:
        path = cable_gland / "cable_gland" / "test" / "thread" / "gt" / "000.png"
        assert 0 < files.read_mask(path).mean() < 0.01
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).max() == 252


class TestWriters:
    def test_round_trips(self, tmp_path: Path) -> None:
        image, heat = random_rgb(), XYZ[..., 0].copy()
        heat[0, 0] = np.nan
        files.write_png(tmp_path / "new" / "folder" / "a.png", image)
        files.write_tiff(tmp_path / "map.tiff", heat, {"unit": "m", "name": "größe", "shape": [1]})
        files.write_tiff(tmp_path / "xyz.tiff", XYZ)
        files.write_json(tmp_path / "a.json", {"b": 1, "a": [0.5, None, "é"]})
        np.testing.assert_array_equal(files.read_rgb(tmp_path / "new" / "folder" / "a.png"), image)
        read, info = files.read_map(tmp_path / "map.tiff")
        np.testing.assert_array_equal(read, heat)
        assert info == {"unit": "m", "name": "größe", "shape": [1]}
        np.testing.assert_array_equal(read_file(tmp_path / "xyz.tiff", "xyz"), XYZ)
        assert files.read_json(tmp_path / "a.json") == {"b": 1, "a": [0.5, None, "é"]}
        assert list(json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))) == ["b", "a"]

    def test_equal_input_gives_equal_bytes(self, tmp_path: Path) -> None:
        first, second = tmp_path / "1.tiff", tmp_path / "2.tiff"
        for path in (first, second):
            files.write_tiff(path, XYZ[..., 0], {"unit": "m"})
        assert first.read_bytes() == second.read_bytes()
        assert b"tifffile" not in first.read_bytes()

    def test_map_without_facts(self, tmp_path: Path) -> None:
        files.write_tiff(tmp_path / "a.tiff", XYZ[..., 0])
        assert files.read_map(tmp_path / "a.tiff")[1] == {}
        with pytest.raises(DataError, match="float map"):
            files.write_tiff(tmp_path / "b.tiff", XYZ)
            files.read_map(tmp_path / "b.tiff")

    def test_nan_is_never_written_as_json(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="JSON"):
            files.write_json(tmp_path / "a.json", {"a": float("nan")})
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("text", ["{", '{"a": NaN}', "[" * 100_000, "\xff"])
    def test_bad_json_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "a.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(DataError, match=r"a\.json"):
            files.read_json(path)

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("in the way")
        with pytest.raises(ResourceError, match="out"):
            files.write_bytes(tmp_path / "out" / "a.bin", b"1")

    @pytest.mark.parametrize(
        ("code", "reason"), [(errno.ENOSPC, "full"), (errno.EROFS, "Read-only"), (errno.EACCES, "denied")]
    )
    def test_failure_leaves_the_old_file_and_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: str
    ) -> None:
        path = tmp_path / "a.bin"
        files.write_bytes(path, b"old")

        def refuse(_descriptor: int) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(ResourceError, match=reason) as caught:
            files.write_bytes(path, b"new")
        assert caught.value.cure
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_a_kill_never_leaves_half_a_file(self, tmp_path: Path) -> None:
        script = (
            "import os, sys\nfrom pathlib import Path\nfrom uipad_cli.data import files\n"
            "os.fsync = lambda descriptor: os._exit(9)\nfiles.write_bytes(Path(sys.argv[1]), bytes(1000))\n"
        )
        path = tmp_path / "a.bin"
        path.write_bytes(b"old")
        root = Path(__file__).parents[2]
        assert subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False).returncode == 9
        assert path.read_bytes() == b"old"
        assert [left for left in tmp_path.iterdir() if left != path] == list(tmp_path.glob(files.TEMPORARY))

    def test_a_folder_appears_whole_or_not_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for folder in (tmp_path / "deep" / "new", tmp_path / "empty"):
            with files.whole_folder(folder, 1) as building:
                (building / "a.bin").write_bytes(b"1")
                assert not folder.exists() or not list(folder.iterdir())
            assert [path.name for path in folder.iterdir()] == ["a.bin"]
            with pytest.raises(ZeroDivisionError), files.whole_folder(folder.with_name("other"), 1) as building:
                (building / "a.bin").write_bytes(b"1")
                raise ZeroDivisionError
            with pytest.raises(ResourceError, match="cannot be written"), files.whole_folder(folder, 1):
                pass  # there is something in it by now
        assert {path.name for path in tmp_path.rglob("*")} == {"deep", "new", "empty", "a.bin"}
        (tmp_path / "file").write_bytes(b"1")
        with pytest.raises(ResourceError), files.whole_folder(tmp_path / "file" / "new", 1):
            pass

    def test_wrong_arrays_are_a_bug(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"\.png"):
            files.write_png(tmp_path / "a.png", np.zeros((3, 3), np.float32))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="tiff"):
            files.write_tiff(tmp_path / "a.tiff", np.zeros((3, 3, 2), np.float32))
