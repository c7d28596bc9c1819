"""Files that are nearly right: bytes flipped, cut out and stuffed in, and numbers that lie where a format has them."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO

import numpy as np
from encoded import png_chunks, png_of

HEAD = 420  # bytes
LIES = (0, 1, 2, 3, 7, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, -1)
WORDS = (b"0", b"-1", b"1", b"2147483648", b"4294967295", b"9223372036854775808", b"9" * 400, b"1e999", b"-1e308")
WORDS += (
    b"nan",
    b"inf",
    b"1e-320",
    b"0x7f",
    b"",
    b"''",
    b"null",
    b"[]",
    b"{}",
    b"\\ud800",
    b"true",
    b"1_000",
    b"65536",
)

Random = np.random.Generator


def mutations(
    data: bytes, count: int, seed: int = 0, letters: bytes = b"0123456789 \n.-xyzFUI#\xff\x7f"
) -> Iterable[bytes]:
    """That many files made of one; a tenth of them is cut short, too."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        mutated = bytearray(data)
        reach = len(data) if generator.random() < 0.3 else min(len(data), HEAD)
        for place in generator.integers(0, reach, generator.integers(1, 5)):
            match generator.integers(4):
                case 0:
                    mutated[place % len(mutated)] = generator.integers(256)
                case 1:
                    mutated[place % len(mutated)] = generator.choice(np.frombuffer(letters, np.uint8))
                case 2:
                    del mutated[place : place + int(generator.integers(1, 20))]
                case _:
                    mutated[place:place] = bytes(generator.choice(mutated, 3))
            if not mutated:
                break
        yield bytes(mutated if generator.random() < 0.9 else mutated[: generator.integers(len(mutated) + 1)])


def broken(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[bytes]:
    """That many files made of several of one format, by all means there are; what its checksums cover is made to fit.

    A third of them is damaged blindly, the others where their format keeps its numbers, names and blocks.
    """
    random = np.random.default_rng([seed, count])
    for number in range(count):
        data = seeds[number % len(seeds)]
        if random.random() < 0.33:
            yield next(iter(mutations(data, 1, int(random.integers(2**31)))))
            continue
        for _ in range(int(random.choice([1, 1, 1, 2, 4]))):
            data = _lie(data, random) or b"\0"
        yield data


def _lie(data: bytes, random: Random) -> bytes:
    """One lie that fits the format."""
    ways: list[Callable[[bytes, Random], bytes]] = [_blocks]
    if data.startswith(b"\x89PNG"):
        ways = [_png, _png, _png, _png_lines]
    elif data[:2] in (b"II", b"MM"):
        ways += [_tiff, _tiff, _tiff, _number]
    elif data.startswith(b"\xff\xd8"):
        ways += [_jpeg, _jpeg, _jpeg]
    elif data.startswith(b"PK\3\4"):
        ways += [_zip, _zip, _number]
    elif data[:6] == b"\x93NUMPY":
        ways += [_npy, _npy]
    elif data[:4] in (b"\x76\x2f\x31\x01",) or data[:2] == b"BM":
        ways += [_number, _number, _number]
    else:
        ways += [_word, _word, _word, _line]
    return ways[random.integers(len(ways))](data, random)


def _number(data: bytes, random: Random, reach: int = HEAD) -> bytes:
    """A binary number that lies, of 1 to 8 bytes and either byte order, most often in the head."""
    if len(data) < 12:
        return data + b"\0" * 8
    size, order = int(random.choice([1, 2, 4, 4, 8])), "<>"[random.integers(2)]
    limit = len(data) - size if random.random() < 0.2 else min(len(data) - size, reach)
    place = int(random.integers(0, limit + 1))
    value = int(LIES[random.integers(len(LIES))]) % 2 ** (8 * size)
    packed = struct.pack(f"{order}Q", value)
    packed = packed[:size] if order == "<" else packed[8 - size :]
    return data[:place] + packed + data[place + size :]


def _word(data: bytes, random: Random) -> bytes:
    """A number written in text that lies."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:e-?\d+)?", data[: 4 * HEAD]))
    if not found:
        return _blocks(data, random)
    match = found[random.integers(len(found))]
    return data[: match.start()] + WORDS[random.integers(len(WORDS))] + data[match.end() :]


def _line(data: bytes, random: Random) -> bytes:
    """A line twice, lost, moved to another place, or of another's words."""
    lines = data.split(b"\n")
    here, there = (int(random.integers(min(len(lines), 40))) for _ in range(2))
    match random.integers(4):
        case 0:
            lines.insert(there, lines[here])
        case 1:
            del lines[here]
        case 2:
            lines[here], lines[there] = lines[there], lines[here]
        case _:
            words = lines[here].split(b" ")
            words.insert(int(random.integers(len(words) + 1)), words[random.integers(len(words))])
            lines[here] = b" ".join(words)
    return b"\n".join(lines)


def _blocks(data: bytes, random: Random) -> bytes:
    """A stretch of bytes twice, lost, or written over another."""
    if len(data) < 4:
        return data + b"\xff"
    start = int(random.integers(len(data) - 1))
    stretch = data[start : start + int(random.choice([1, 4, 16, 100, 1000]))]
    place = int(random.integers(len(data)))
    match random.integers(3):
        case 0:
            return data[:place] + stretch + data[place:]
        case 1:
            return data[:start] + data[start + len(stretch) :]
        case _:
            return data[:place] + stretch + data[place + len(stretch) :]


# ---- formats with checksums, or with numbers in known places ----------------------------------------------------


def _png(data: bytes, random: Random) -> bytes:
    """Chunks with bodies that lie, lost, doubled, cut up or in another order, whose checksums fit."""
    parts = png_chunks(data)
    if len(parts) < 2:
        return _blocks(data, random)
    place = int(random.integers(len(parts)))
    kind, body = parts[place]
    match random.integers(8):
        case 0 | 1 | 2 if body:
            parts[place] = kind, _number(body, random) if random.random() < 0.7 else _blocks(body, random)
        case 3:
            parts.insert(int(random.integers(1, len(parts))), parts[place])
        case 4:
            del parts[place]
        case 5:
            other = int(random.integers(1, len(parts)))
            parts[place], parts[other] = parts[other], parts[place]
        case 6 if len(body) > 2:
            cut = int(random.integers(len(body)))
            parts[place : place + 1] = [(kind, body[:cut]), (kind, body[cut:])]
        case _:
            kinds = (b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"eXIf", b"gAMA", b"sBIT", b"zTXt", b"IHDR")
            body = bytes(random.integers(0, 256, int(random.choice([0, 1, 2, 6, 8, 13, 26, 300])), np.uint8))
            parts.insert(int(random.integers(0, len(parts))), (kinds[random.integers(len(kinds))], body))
    return png_of(parts)


def _png_lines(data: bytes, random: Random) -> bytes:
    """Other lines of pixels, or filters that there are not, packed again."""
    parts = png_chunks(data)
    packed = b"".join(body for kind, body in parts if kind == b"IDAT")
    try:
        lines = zlib.decompressobj().decompress(packed, 1 << 20)
    except zlib.error:
        return _blocks(data, random)
    lines = _blocks(lines, random) if random.random() < 0.5 else _number(lines, random, len(lines))
    first = next((place for place, part in enumerate(parts) if part[0] == b"IDAT"), 1)
    kept = [part for part in parts if part[0] != b"IDAT"]
    kept.insert(first, (b"IDAT", zlib.compress(lines, int(random.integers(0, 10)))))
    return png_of(kept)


def _tiff(data: bytes, random: Random) -> bytes:
    """One entry of the first directory with another tag, type, count or value, or written over another entry."""
    order, wide = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")
    try:
        start = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", data, 8 if wide else 4)[0]
        count = struct.unpack_from(f"{order}{'Q' if wide else 'H'}", data, start)[0]
    except struct.error:
        return _blocks(data, random)
    size, start = (20, start + 8) if wide else (12, start + 2)
    if not 0 < count < 100 or start + size * count > len(data):
        return _blocks(data, random)
    changed = bytearray(data)
    place = start + size * int(random.integers(count))
    number, width = ("Q", 8) if wide else ("I", 4)
    lie = int(LIES[random.integers(len(LIES))]) % 2 ** (8 * width)
    match random.integers(5):
        case 0:
            struct.pack_into(f"{order}H", changed, place + 2, int(random.integers(0, 20)))
        case 1:
            struct.pack_into(f"{order}{number}", changed, place + 4, lie)
        case 2 | 3:
            if changed[place + 2 : place + 4] in (b"\3\0", b"\0\3"):
                struct.pack_into(f"{order}H", changed, place + 4 + width, lie % 65536)
            else:
                struct.pack_into(f"{order}{number}", changed, place + 4 + width, lie)
        case _:
            tags = (
                256,
                257,
                258,
                259,
                262,
                266,
                273,
                277,
                278,
                279,
                284,
                317,
                320,
                322,
                323,
                324,
                325,
                330,
                338,
                339,
                530,
            )
            struct.pack_into(f"{order}H", changed, place, int(random.choice(tags)))
    return bytes(changed)


def _jpeg(data: bytes, random: Random) -> bytes:
    """A segment that lies, is lost or doubled; or bytes lost from the picture, or a marker in it."""
    starts = [match.start() for match in re.finditer(rb"\xff[\xc0-\xfe]", data)]
    if not starts:
        return _blocks(data, random)
    place = starts[random.integers(min(len(starts), 30))]
    ends = [start for start in starts if start > place]
    end = ends[0] if ends else len(data)
    match random.integers(5):
        case 0:
            return data[:place] + _number(data[place:end], random) + data[end:]
        case 1:
            return data[:place] + data[end:]
        case 2:
            return data[:end] + data[place:end] + data[end:]
        case 3:
            scan = data.find(b"\xff\xda")
            cut = int(random.integers(max(scan, 0), len(data)))
            return data[:cut] + data[cut + int(random.integers(1, 400)) :]
        case _:
            cut = int(random.integers(2, len(data)))
            return data[:cut] + bytes([255, int(random.integers(0xC0, 0xFF))]) + data[cut:]


def _npy(data: bytes, random: Random) -> bytes:
    """Other words in the header of an array, its length made to fit."""
    size = struct.unpack_from("<H", data, 8)[0]
    text = data[10 : 10 + size]
    kinds = (
        b"'<f8'",
        b"'|O'",
        b"'<c16'",
        b"'<U3'",
        b"'|V0'",
        b"'<M8[s]'",
        b"'|b1'",
        b"'>i8'",
        b"[('a', '<f4')]",
        b"'<f2'",
    )
    changed = (
        _word(text, random)
        if random.random() < 0.6
        else re.sub(rb"'[<>|=]\w+'", lambda _: kinds[random.integers(len(kinds))], text, count=1)
    )
    changed = changed[:65000]
    return data[:8] + struct.pack("<H", len(changed)) + changed + data[10 + size :]


def _zip(data: bytes, random: Random) -> bytes:
    """An archive packed again, a member of which is damaged, doubled or called otherwise."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # noqa: BLE001 - it was damaged before
        return _blocks(data, random)
    if members:
        place = int(random.integers(len(members)))
        name, body = members[place]
        array = body[:6] == b"\x93NUMPY" and random.random() < 0.7
        if random.random() < 0.2:
            name = ("depth.npy", "../x.npy", "a.txt", ".npy", "x" * 300)[random.integers(5)]
        members[place] = name, _npy(body, random) if array else _blocks(body, random)
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", int(random.choice([0, 8, 8, 12, 14]))) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name), body, archive.compression)
    return buffer.getvalue()
