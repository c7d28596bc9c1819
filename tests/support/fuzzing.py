"""Every reader of files in a child process that may die: broken files go in, what became of each comes back.

As a program it is that child: `fuzzing.py FOLDER SECONDS` takes files on stdin, and answers with a line
of JSON for each.
"""

from __future__ import annotations

import json
import math
import os
import resource
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import encoded
import malformed
import numpy as np

from uipad_cli.errors import DataError

SECONDS = 5  # of work for one file
WALL = 60  # seconds, for one that waits instead of working, or on a machine that is busy
ROOM = 1 << 30  # bytes that reading one small file may take at its peak, the arrays that it gives included
LIMIT = 6 << 30  # bytes of a child, at which the system says no
LONGEST = 1500  # letters of a message

_FRAME = struct.Struct("<II")
_ROOMY = Path("/proc/self/clear_refs")  # where the peak of memory can be counted anew for each file


@dataclass(frozen=True)
class Reader:
    """One way into the program: where its file lies in a folder, what reads it there, and what may be refused how.

    read: the file → what it gives, which is checked inside; settle: makes what lies beside the file.
    """

    name: str
    place: str
    read: Callable[[Path], None]
    seeds: Callable[[], list[bytes]]
    refuses: tuple[str, ...] = ("DataError", "ResourceError")
    settle: Callable[[Path], None] = lambda _: None


@dataclass(frozen=True)
class Outcome:
    """What became of one file. what: read, the name of an error, or how the child ended; peak: bytes."""

    reader: str
    what: str
    told: str
    seconds: float
    peak: int
    data: bytes

    def fault(self) -> str:
        """What is wrong with it; empty where it was read, or refused as it should be."""
        if self.what != "read" and self.what not in READERS[self.reader].refuses:
            return f"{self.reader}: {self.what}: {self.told}"
        if self.peak > ROOM:
            return f"{self.reader}: {self.peak >> 20} MiB at its peak"
        return ""


@dataclass
class Tally:
    """Figures of one reader over all its files."""

    files: int = 0
    slowest: float = 0.0
    peak: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        self.files += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.peak = max(self.peak, outcome.peak)
        self.outcomes[outcome.what] += 1

    def __str__(self) -> str:
        named = ", ".join(f"{what} {count}" for what, count in self.outcomes.most_common())
        return f"{self.files} files, slowest {self.slowest:.2f} s, peak {self.peak / 2**20:.0f} MiB: {named}"


# ---- what reads, and what it must be ----------------------------------------------------------------------------


def _rgb(path: Path) -> None:
    from uipad_cli.data import files

    image = files.read_rgb(path)
    assert image.dtype == np.uint8, image.dtype
    assert image.ndim == 3, image.shape
    assert image.shape[2] == 3, image.shape
    assert image.size > 0


def _mask(path: Path) -> None:
    from uipad_cli.data import files

    mask = files.read_mask(path)
    assert (mask.dtype, mask.ndim) == (np.bool_, 2), (mask.dtype, mask.shape)
    assert mask.size > 0


def _geometry(path: Path) -> None:
    """As `infer` does: what is it, then metres, for several sensors; last the height above its background."""
    from uipad_cli.data import scans
    from uipad_cli.data.geometry import Preparation, prepare_geometry
    from uipad_cli.data.sensor import Sensor

    kind = scans.kind_of(path)
    raster = scans.read_raster(path)
    assert raster.dtype.kind in "iuf", raster.dtype
    assert raster.ndim == 2 or (raster.ndim == 3 and raster.shape[2] == 3), raster.shape
    assert raster.size > 0
    refused, points = None, None
    for told in (
        {},
        {"axis": "up"},
        {"axis": "toward", "float_unit": 0.001},
        {"encoding": "disparity"},
        {"swapped": True},
    ):
        sensor = Sensor.model_validate({"camera": {"fx": 80, "fy": 80}, **told})
        for one in {kind, "z" if kind == "xyz" else kind}:
            try:
                points = scans.read_file(path, one, sensor, size=(8, 9))
            except DataError as error:
                refused = error
                continue
            assert points.dtype == np.float32, points.dtype
            assert points.ndim == 3, points.shape
            assert points.shape[2] == 3, points.shape
            assert np.isfinite(points).all()
            assert (points[..., 2] > 0).any()
    if points is None:
        assert refused is not None
        raise refused
    for plane in ("border", "none"):
        made = prepare_geometry(points, Preparation.model_validate({"plane": plane}))
        assert np.isfinite(made.height).all()
        assert made.height.dtype == np.float32, made.height.dtype


def _raster(path: Path) -> None:
    """As it lies on disk, and no more."""
    from uipad_cli.data import scans

    raster = scans.read_raster(path)
    assert raster.dtype.kind in "iuf", raster.dtype


def _exr(path: Path) -> None:
    """Each look at it is another process."""
    from uipad_cli.data import scans
    from uipad_cli.data.sensor import Sensor

    raster = scans.read_raster(path)
    assert raster.dtype == np.float32, raster.dtype
    kind = "xyz" if raster.ndim == 3 else "depth"
    assert np.isfinite(scans.read_file(path, kind, Sensor(), size=(8, 9))).all()


def _map(path: Path) -> None:
    """As `heatmap` does with a map that somebody gives it."""
    from uipad_cli.data import files
    from uipad_cli.render import colorize

    scores, facts = files.read_map(path)
    assert (scores.dtype, scores.ndim) == (np.float32, 2), (scores.dtype, scores.shape)
    assert not np.isinf(scores).any()
    json.dumps(facts, allow_nan=False).encode()
    assert colorize(scores, 0.0, 1.0).shape == (*scores.shape, 3)


def _json(path: Path) -> None:
    from uipad_cli.data import files

    json.dumps(files.read_json(path), allow_nan=False)


def _items(path: Path, items: Iterable[Any]) -> None:
    for item in items:
        for file in (item.rgb, item.geometry, item.mask, item.valid, *(light for _, light in item.lights)):
            if file is not None:
                assert Path(os.path.realpath(file)).is_relative_to(os.path.realpath(path.parents[0])), file
        for part in (item.category, item.defect, item.name):
            assert "\0" not in part, part
            part.encode()
        assert all(map(math.isfinite, (*(item.depth_range or ()), *(item.camera or ()))))


def _scanned(module: str, up: int = 0) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from importlib import import_module

        dataset = import_module(f"uipad_cli.data.{module}")
        root = path.parents[up]
        assert isinstance(dataset.recognise(root), bool)
        for category in dataset.categories(root):
            for split in ("train", "validation", "test"):
                _items(root / "x", dataset.scan(root, category, split))

    return read


def _intrinsics(path: Path) -> None:
    from uipad_cli.data.intrinsics import parse_intrinsics

    camera = parse_intrinsics(str(path))
    assert all(math.isfinite(number) for number in (camera.fx, camera.fy, camera.cx or 0, camera.cy or 0))
    assert camera.fx > 0 < camera.fy


def _configuration(path: Path) -> None:
    """Into a model that has what those of the program have: numbers with ends, words, tables in tables."""
    from uipad_cli import config
    from uipad_cli.data.geometry import Preparation

    merged = config.merge([path], [])
    json.dumps(merged.values, default=str)
    config.build(Preparation, merged)


def _baseline(path: Path) -> None:
    from uipad_cli.engine.gate import read_baseline

    for figures in read_baseline(path).values():
        assert all(figure is None or math.isfinite(figure) for figure in figures.values())


def _verdicts(path: Path) -> None:
    from uipad_cli.engine.verdict_log import open_log

    with open_log(path.parent, lambda _: None):
        pass


def _journal(path: Path) -> None:
    from uipad_cli.engine.preparing import Journal

    for entry in Journal(path.parent).entries.values():
        json.dumps(entry.model_dump(mode="json"))


def _itself(path: Path) -> None:
    """Does what the file says, so that it can be seen that everything is noticed."""
    match path.read_bytes():
        case b"hang":
            while True:
                pass
        case b"wait":
            time.sleep(3600)
        case b"die":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"eat":
            assert np.ones(ROOM + (ROOM >> 4), np.uint8).all()
        case b"starve":
            np.ones(2 * LIMIT, np.uint8)
        case b"talk":
            raise DataError("x" * 2 * LONGEST)
        case b"fail":
            raise KeyError("a bug")
        case b"refuse":
            raise DataError("no")


# ---- files of every format --------------------------------------------------------------------------------------


def _pngs() -> list[bytes]:
    small, grey = encoded.random_rgb(10, 12), encoded.random_rgb(15, 20)[..., 0]
    deep, alpha = small.astype(np.uint16) * 257, np.concatenate([small, small[..., :1]], axis=2)
    found = [encoded.encode(".png", one) for one in (small, grey, deep, alpha)]
    bits = encoded.raw_png(16, 4, 1, 0, zlib.compress(bytes([0, 0xA5, 0x5A] * 4)))
    moving = malformed.animated_png(malformed.rgb(0), 255 - malformed.rgb(0))
    return [*found, bits, encoded.palette_png(), encoded.interlaced_png(grey), moving]


def _jpegs() -> list[bytes]:
    small = encoded.random_rgb(10, 12)
    smooth, how = cv2.resize(small, (48, 40)), [cv2.IMWRITE_JPEG_QUALITY, 60]
    settings = ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])
    found = [bytes(cv2.imencode(".jpg", smooth, [*one, *how])[1].tobytes()) for one in settings]
    return [*found, encoded.encode(".jpg", small[..., 0]), malformed.CMYK, malformed.turned_jpeg()]


def _bmps() -> list[bytes]:
    small = encoded.random_rgb(10, 12)
    plain = encoded.encode(".bmp", small)
    return [plain, encoded.encode(".bmp", small[..., 0]), malformed.sized_bmp(small, 12, -10), _packed_bmp()]


def _packed_bmp() -> bytes:
    """Eight bits in runs (RLE8), with a palette."""
    lines = b"".join(bytes([5, row, 0, 3, 1, 2, 3, 0, 0, 0]) for row in range(4)) + b"\0\1"
    start = 54 + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(lines), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", 40, 8, 4, 1, 8, 1, len(lines), 0, 0, 256, 0)
    return head + bytes(range(256)) * 4 + lines


def _pnms() -> list[bytes]:
    small = encoded.random_rgb(10, 12)
    deep, grey = small.astype(np.uint16) * 257, small[..., 0]
    found = [
        encoded.pnm_bytes("P6", small),
        encoded.pnm_bytes("P3", small, gap="\n# a\n"),
        encoded.pnm_bytes("P5", grey),
    ]
    return [*found, encoded.pnm_bytes("P6", deep, 65535), encoded.pnm_bytes("P2", grey)]


def _tifs() -> list[bytes]:
    return [*_tiffs(encoded.random_rgb(10, 12), photometric="rgb"), *_tiffs(encoded.random_rgb(10, 12)[..., 0])]


def _tiffs(array: Any, **settings: Any) -> list[bytes]:
    kinds: list[dict[str, Any]] = [{}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 3}, {"tile": (16, 16)}]
    kinds.append({"compression": "zlib", "tile": (16, 16)})
    kinds.append({"compression": "zlib", "predictor": array.dtype.kind == "u", "rowsperstrip": 4})
    found = [encoded.tiff_bytes(array, **{**settings, **kind}) for kind in kinds]
    described = "<OME><Image><Pixels><TiffData><UUID FileName='../secret.tif'/></TiffData></Pixels></Image></OME>"
    found.append(encoded.tiff_bytes(array, description=described, metadata=None, **settings))
    found.append(encoded.tiff_bytes(np.stack([array] * 3), **{"photometric": "minisblack", **settings}))
    if array.ndim == 3:
        planar = {**settings, "planarconfig": "separate"}
        found.append(encoded.tiff_bytes(np.ascontiguousarray(np.moveaxis(array, 2, 0)), **planar))
    for compression in (5, 32773):
        done, code = cv2.imencode(".tif", array, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        found += [bytes(code.tobytes())] if done else []
    return found


@cache
def _clouds() -> list[bytes]:
    orders = ("ascii", "binary_little_endian", "binary_big_endian")
    found = [encoded.ply_bytes(order, _points(), grid=grid) for order in orders for grid in (False, True)]
    return found + [encoded.pcd_bytes(kind, _points()) for kind in ("ascii", "binary", "binary_compressed")]


def _points() -> Any:
    row, column = np.mgrid[:8, :9] * 0.01
    return np.stack([column, row, 0.6 + 0.1 * row + 0.02 * (column > 0.04)], axis=-1).astype(np.float32)


def _depths() -> list[bytes]:
    depth = (_points()[..., 2] * 1000).round().astype(np.uint16)
    return [encoded.encode(".png", depth), encoded.pnm_bytes("P5", depth, 65535), encoded.pnm_bytes("P2", depth, 65535)]


def _arrays() -> list[bytes]:
    xyz, depth = _points(), (_points()[..., 2] * 1000).round().astype(np.uint16)
    bodies = (xyz, xyz.astype(np.float64), depth, depth.astype(np.int32), np.asfortranarray(xyz), xyz.reshape(-1, 3))
    found = [encoded.npy_bytes(body) for body in bodies]
    found += [encoded.npz_bytes(packed, xyz=xyz) for packed in (True, False)]
    return [*found, encoded.npz_bytes(True, depth=depth, rgb=depth), *_depths()]


def _exrs() -> list[bytes]:
    xyz = _points()
    planes = {name: xyz[..., place] for place, name in enumerate("XYZ")}
    return [encoded.exr_bytes(planes), encoded.exr_bytes({"Z": np.repeat(xyz[..., 2], 9, axis=1).round(1)}, 2)]


def _maps() -> list[bytes]:
    scores = _points()[..., 2].copy()
    scores[0, :3] = np.nan
    told = {"photometric": "minisblack", "metadata": None}
    about = [
        {"description": '{"low": 0.5, "high": 0.9, "category": "pegs"}'},
        {"compression": "zlib"},
        {"tile": (16, 16)},
    ]
    found = [encoded.tiff_bytes(scores, **told, **kind) for kind in about]
    return [
        *found,
        encoded.tiff_bytes(scores.astype(np.float64), **told),
        encoded.tiff_bytes(scores.astype(np.float16), **told),
    ]


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


_FIGURES = '{"image_auroc": 0.98, "pixel_auroc": 0.991, "aupro_30": 0.93, "aupro_1": null}'
_BASELINES = (f'{{"categories": {{"pegs": {_FIGURES}}}, "mean": {_FIGURES}, "uipad": "0.1.0"}}',)
_VERDICTS = (
    '{"key": "0a1b", "name": "good/1", "score": 0.25, "verdict": "good", "regions": []}\n'
    '{"key": "0a1c", "name": "dent/2", "score": 1.25, "verdict": "anomalous", "regions": [{"box": [1, 2, 3, 4]}]}\n',
)
_CAMERAS = (
    '{"fx": 525.0, "fy": 525, "cx": 319.5, "cy": 239.5}',
    '{"width": 640, "height": 480, "intrinsic_matrix": [525, 0, 0, 0, 525, 0, 319.5, 239.5, 1]}',
    "camera_name: left\ncamera_matrix:\n  rows: 3\n  cols: 3\n  data: [525, 0, 319.5, 0, 525, 239.5, 0, 0, 1]\n",
    "depth:\n  K: [[525, 0, 319.5], [0, 525, 239.5], [0, 0, 1]]\n",
    "<camera><depth><focal_length_x>525</focal_length_x><focal_length_y>525</focal_length_y>"
    "<principal_point_x>319</principal_point_x><principal_point_y>239</principal_point_y></depth></camera>",
)
_CONFIGURATIONS = (
    "plane: border\nlongest: 1024\nsensor:\n  unit: 0.001\n  missing: [0, 65535]\n  camera:\n    fx: 80\n    fy: 8e1\n",
    "# one\nsensor: {unit: 1.e-3, axis: up, pitch: 2e-5, only_z: true}\nlight: '4'\n",
)
_TABLES = (
    "rgb,depth,mask,split,label,category,name\n0.png,0.png,,train,good,pegs,a\n0.png,0.png,0.png,test,dent,pegs,b\n",
    "image;xyz;label\n0.png;0.png;0\n0.png;0.png;1\n",
)
_LINES = (
    '{"rgb": "0.png", "depth": "0.png", "split": "train"}\n{"rgb": "0.png", "z": "0.png", "mask": null, "name": "b"}\n',
)
_RANGES = (
    "normalization:\n  max: 0.8\n  min: 0.5\n",
    "{normalization: {max: 1.0, min: 0}}",
    "normalization: {min: 0x0, max: 1:30}\n",
)
_LABELS = ("anomalous: 0\nbumps: 0\n", "{anomalous: true}")
_LISTS = (
    '{"meta": {"prefix": ""}, "train": [{"anomaly_class": "OK", "image_path": "0.png", "xyz_path": "0.tiff"}],'
    ' "test": [{"anomaly_class": "dent", "image_path": "0.png", "xyz_path": "0.tiff", "mask_path": "0.png"}]}',
)


def _manifests() -> list[bytes]:
    """A folder that uipad prepared, and so many facts about it."""
    import tempfile

    from uipad_cli.data import scenes
    from uipad_cli.engine.prepare import prepare

    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        few = {"train": 1, "validation": 1, "test_good": 1, "test_per_defect": 0}
        scenes.write(root / "raw", categories=["pegs"], size=48, seed=1, **few)
        prepare(root / "raw", root / "prepared", workers=1)
        return [(root / "prepared" / "manifest.json").read_bytes()]


@cache
def _entries() -> list[bytes]:
    """Lines of the journal of a folder that is being prepared."""
    category = json.loads(_manifests()[0])["categories"]["pegs"]
    lines = [json.dumps({"name": f"pegs/{name}", "entry": entry}) for name, entry in category["pairs"].items()]
    return ["".join(f"{line}\n" for line in lines).encode()]


def _picture(root: Path) -> None:
    image = encoded.encode(".png", (_points()[..., 2] * 1000).round().astype(np.uint16))
    for place in ("0.png", "realiad_d3_raw/pegs/0.png", "realiad_d3_raw/pegs/0.tiff"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(image)


def _candy(root: Path) -> None:
    from dataset_writers import write_eyecandies

    write_eyecandies(root, "Candy", train=1, val=1, good=1, bad=1, private=0, size=16)


_EYE = "Candy/test_public/data"
ITSELF = Reader("itself", "0", _itself, list)
READERS = {
    reader.name: reader
    for reader in (
        Reader("png", "0.png", _rgb, _pngs),
        Reader("jpeg", "0.jpg", _rgb, _jpegs),
        Reader("bmp", "0.bmp", _rgb, _bmps),
        Reader("pnm", "0.ppm", _rgb, _pnms),
        Reader("tif", "0.tif", _rgb, _tifs),
        Reader("colours of points", "0.ply", _rgb, _clouds),
        Reader("mask", "0.png", _mask, lambda: [*_pngs(), *_bmps(), *_pnms(), *_tifs()]),
        Reader(
            "tiff", "0.tiff", _geometry, lambda: [*_tiffs(_points(), photometric="rgb"), *_tiffs(_points()[..., 2])]
        ),
        Reader("array", "0.npy", _geometry, _arrays),
        Reader("cloud", "0.ply", _geometry, _clouds),
        Reader("raster", "0.any", _raster, lambda: [*_arrays(), *_tiffs(_points()[..., 2]), *_clouds()]),
        Reader("exr", "0.exr", _exr, _exrs),
        Reader("map", "0_map.tiff", _map, _maps),
        Reader("json", "0.json", _json, lambda: [*_manifests(), *_texts(*_BASELINES, *_LISTS)()]),
        Reader("manifest", "manifest.json", _scanned("prepared"), _manifests),
        Reader("journal", ".journal.jsonl", _journal, _entries),
        Reader("table", "pairs.csv", _scanned("table"), _texts(*_TABLES), settle=_picture),
        Reader("lines", "pairs.jsonl", _scanned("table"), _texts(*_LINES), settle=_picture),
        Reader("list", "realiad_d3_jsons/pegs.json", _scanned("realiad_d3", 1), _texts(*_LISTS), settle=_picture),
        Reader("range", f"{_EYE}/00_info_depth.yaml", _scanned("eyecandies", 3), _texts(*_RANGES), settle=_candy),
        Reader("label", f"{_EYE}/00_metadata.yaml", _scanned("eyecandies", 3), _texts(*_LABELS), settle=_candy),
        Reader("candy", f"{_EYE}/00_depth.png", _scanned("eyecandies", 3), lambda: _depths()[:1], settle=_candy),
        Reader("intrinsics", "camera.json", _intrinsics, _texts(*_CAMERAS), ("UsageError",)),
        Reader("configuration", "0.yaml", _configuration, _texts(*_CONFIGURATIONS), ("UsageError",)),
        Reader("baseline", "metrics.json", _baseline, _texts(*_BASELINES)),
        Reader("verdicts", "verdicts.jsonl", _verdicts, _texts(*_VERDICTS)),
        ITSELF,
    )
}


# ---- the child --------------------------------------------------------------------------------------------------


def _child(folder: Path, seconds: float) -> None:
    """Answer on a pipe of its own: libraries speak on both streams."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    settled: set[str] = set()
    for reader in map(READERS.get, ("png", "array")):  # libraries are loaded before anything is measured
        assert reader is not None
        _read(reader, folder / "first" / reader.name, reader.seeds()[0], WALL)
    answers.write("ready\n")
    answers.flush()
    for name, data in iter(_next, None):
        reader = READERS[name]
        home = folder / name
        if name not in settled:
            shutil.rmtree(home, ignore_errors=True)  # of another child
            home.mkdir(parents=True)
            reader.settle(home)
            settled.add(name)
        answers.write(json.dumps(_read(reader, home, data, seconds)) + "\n")
        answers.flush()


def _next() -> tuple[str, bytes] | None:
    head = sys.stdin.buffer.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    sizes = _FRAME.unpack(head)
    return sys.stdin.buffer.read(sizes[0]).decode(), sys.stdin.buffer.read(sizes[1])


def _read(reader: Reader, home: Path, data: bytes, seconds: float) -> dict[str, Any]:
    path = home / reader.place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    before, began = _peak(anew=True), time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)  # ends the child
    try:
        reader.read(path)
        what, told = "read", ""
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        what, told = _named(error)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {"what": what, "told": told, "seconds": time.process_time() - began, "peak": _peak() - before}


def _named(error: Exception) -> tuple[str, str]:
    """The kind of an error and its words; memory that ran out counts whatever it was made into."""
    import traceback

    cause: BaseException | None = error
    while cause is not None:
        if (isinstance(cause, MemoryError) and not _is_parser(cause)) or "Insufficient memory" in str(cause):
            return "out of memory", repr(error)[:300]
        cause = cause.__cause__ or cause.__context__
    message = getattr(error, "message", None)
    if message is None:
        places = traceback.extract_tb(error.__traceback__)[-3:]
        return type(error).__name__, f"{error!r:.300} at " + " < ".join(f"{one.name}:{one.lineno}" for one in places)
    if len(message) > LONGEST or message.count("\n") > 3:
        return "endless message", message[:300]
    return type(error).__name__, message[:300]


def _is_parser(error: MemoryError) -> bool:
    """Python's own parser calls its stack, which is small, memory."""
    import traceback

    return any(frame.name in ("parse", "literal_eval") for frame in traceback.extract_tb(error.__traceback__))


def _peak(anew: bool = False) -> int:
    """Most bytes that were in memory, or are now, counted from now on."""
    if anew:
        _ROOMY.write_text("5")
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition("VmHWM:")[2].split()[0])


# ---- the parent -------------------------------------------------------------------------------------------------


class Feeder:
    """Feeds files to a child, or to the next one where one died; to be used as a context."""

    def __init__(self, folder: Path, seconds: float = SECONDS, wall: float = WALL) -> None:
        self.folder, self.seconds, self.wall = folder, seconds, wall
        self._child: _Child | None = None

    def __enter__(self) -> Feeder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.end()

    def __call__(self, name: str, data: bytes) -> Outcome:
        """What becomes of a file, given with the name of its reader."""
        self._child = self._child or _Child(self.folder, self.seconds)
        began = time.monotonic()
        answer = self._child.ask(name, data, self.wall)
        if answer is None:
            answer = {"what": self._child.end(), "told": "", "seconds": time.monotonic() - began, "peak": 0}
            self._child = None
        return Outcome(name, data=data, **answer)


class _Child:
    def __init__(self, folder: Path, seconds: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(Path(__file__)), str(folder), str(seconds)]
        there = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=there)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def ask(self, name: str, data: bytes, wall: float) -> dict[str, Any] | None:
        """Its answer; None where it died, or has to be ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(_FRAME.pack(len(name), len(data)) + name.encode() + data)
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        ready, _, _ = select.select([self.process.stdout], [], [], wall)
        line = self.process.stdout.readline() if ready else b""
        return json.loads(line) if line else None

    def end(self) -> str:
        """How it ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            try:
                self.process.wait(1)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return "hangs"
        code = self.process.returncode
        if self.process.stdout is not None:
            self.process.stdout.close()
        return "takes too long" if code == -signal.SIGPROF else f"dies ({code})"


if __name__ == "__main__":
    _child(Path(sys.argv[1]), float(sys.argv[2]))
