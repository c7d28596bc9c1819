"""A folder that is being filled → the pairs in it as they are at this moment, for `infer --watch`."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from uipad_cli.data import dataset_name
from uipad_cli.data.folder import pair, so_far
from uipad_cli.data.layout import GEOMETRIES, IMAGES, entries
from uipad_cli.engine.judging import check_preparation, items_in, known_categories
from uipad_cli.engine.record import Checkpoint
from uipad_cli.errors import DataError
from uipad_cli.records import Item, Missing

TOLERANT = ("folder", "mvtec3d")  # formats of which half a pair may be read; others are listed when they are whole

Say = Callable[[str], None]
Files = tuple[Path, Path, Item | None]


@dataclass(frozen=True)
class Arrival:
    """A pair that is there, whole or not.

    key: names below the folder, bytes and times of both files, which tells it from what comes later under these names;
    written: when the later one was, in ns. item: None where only reading tells what the geometry holds.
    """

    rgb: Path
    geometry: Path
    key: str
    written: int
    item: Item | None

    @property
    def files(self) -> tuple[Path, Path]:
        """Where it lies."""
        return self.rgb, self.geometry


class Incoming:
    """A watched folder. `look` lists what lies in it; what is wrong with it is said once, and again if it comes back.

    With `missing`, each file that lies in the folder itself is a pair of which the other file is not there.
    """

    def __init__(self, folder: Path, record: Checkpoint, missing: Missing | None, say: Say) -> None:
        self.folder, self.record, self.missing = folder, record, missing
        self.waiting: list[Path] = []  # files without a partner
        self._start, self._say = f"{folder}{os.sep}", say
        self._faults: frozenset[str] = frozenset()
        self._format: str | None = None

    def look(self, known: Container[str]) -> list[Arrival]:
        """Pairs of which both files are there, but for those whose key is known."""
        fresh: list[Arrival] = []
        self.waiting, faults = [], list[DataError]()
        try:
            if not self.folder.is_dir():
                raise DataError(f"{self.folder} is gone", "waiting until it is there again")
            for rgb, geometry, item in self._lone_files() if self.missing else self._pairs(faults):
                arrival = self._arrival(rgb, geometry, item)
                if arrival is not None and arrival.key not in known:
                    fresh.append(arrival)
        except DataError as error:
            faults.append(error)
        self._tell(faults)
        return fresh

    def there(self, arrival: Arrival) -> bool:
        """Whether its files still lie there, unchanged."""
        now = self._arrival(*arrival.files, arrival.item)
        return now is not None and now.key == arrival.key

    def changed(self, arrival: Arrival) -> bool:
        """Whether other files lie there by now; one that was taken away has not changed."""
        now = self._arrival(*arrival.files, arrival.item)
        return now is not None and now.key != arrival.key

    def item(self, arrival: Arrival) -> Item:
        """The pair, to be judged. Raises DataError where it cannot be read."""
        return arrival.item or pair(arrival.rgb, arrival.geometry, depth=self.missing == "depth")

    def _pairs(self, faults: list[DataError]) -> Iterator[Files]:
        """All pairs there are; files that wait for a partner are noted, and what can be no pair is told to `faults`."""
        if self._format is None:
            check_preparation(self.record, self.folder)
            self._format = _format(self.folder)
        if self._format not in (None, *TOLERANT):
            yield from ((item.rgb, item.geometry, item) for item in items_in(self.record, self.folder))
            return
        places = so_far(self.folder)
        names = known_categories(self.record, sorted({place.category for place in places}))
        for place in places:
            if place.category in names:
                self.waiting += place.partners.waiting
                faults += place.partners.faults
                yield from ((item.rgb, item.geometry, item) for item in place.items())

    def _lone_files(self) -> Iterator[Files]:
        suffixes = IMAGES if self.missing == "depth" else GEOMETRIES
        for path in entries(self.folder):
            if path.suffix.lower() in suffixes and not path.name.startswith("."):
                yield path, path, None

    def _arrival(self, rgb: Path, geometry: Path, item: Item | None) -> Arrival | None:
        paths = (rgb,) if rgb == geometry else (rgb, geometry)
        told, written = [], 0
        for path in paths:
            try:
                about = os.stat(path)  # noqa: PTH116 - twice as fast as that of Path
            except OSError:
                return None
            if not stat.S_ISREG(about.st_mode):
                return None
            seconds, rest = divmod(about.st_mtime_ns, 10**9)
            told.append(f"{str(path).removeprefix(self._start)} {about.st_size} {seconds}.{rest:09d}")
            written = max(written, about.st_mtime_ns)
        return Arrival(rgb, geometry, ", ".join(told), written, item)

    def _tell(self, faults: list[DataError]) -> None:
        told = frozenset(f"{fault.message}: {fault.cure}" for fault in faults)
        for sentence in sorted(told - self._faults):
            self._say(sentence)
        self._faults = told


def _format(folder: Path) -> str | None:
    """The format of a folder, None as long as it cannot be told."""
    try:
        return dataset_name(folder)
    except DataError:
        return None
