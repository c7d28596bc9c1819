import errno
import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from uipad_cli.metrics.scratch import ScratchError, ScratchFile


class Full:
    """A file on a disk that takes so many bytes more, a few at a time."""

    def __init__(self, room):
        self.room = room

    def seek(self, place):
        pass

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = min(len(data), self.room, 7)
        self.room -= taken
        return taken

    def close(self):
        pass


def test_arrays_come_back_as_they_went():
    file, rng = ScratchFile(), np.random.default_rng(0)
    stored = [rng.normal(size=size).astype(kind) for size in (0, 1, 1000) for kind in (np.float32, np.uint64, np.uint8)]
    starts = [file.append(values) for values in stored]
    assert file.size == sum(values.nbytes for values in stored)
    for values, start in reversed(list(zip(stored, starts, strict=True))):
        assert np.array_equal(file.read(start, values.size, values.dtype), values)


def test_an_array_that_is_a_view_is_stored_row_by_row():
    file, image = ScratchFile(), np.arange(12, dtype=np.float32).reshape(3, 4)
    start = file.append(image.T)
    assert np.array_equal(file.read(start, 12, image.dtype).reshape(4, 3), image.T)


def test_a_full_disk_is_told_with_the_folder_and_the_bytes(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full(100))
    file = ScratchFile()
    assert file.append(np.zeros(20, np.float32)) == 0
    with pytest.raises(ScratchError) as caught:
        file.append(np.zeros(20, np.float32))
    assert (caught.value.errno, caught.value.size) == (errno.ENOSPC, 160)
    assert caught.value.folder == Path(tempfile.gettempdir())
    assert file.size == 80


def test_what_was_not_written_cannot_be_read():
    file = ScratchFile()
    file.append(np.zeros(4, np.uint8))
    with pytest.raises(ScratchError, match="ends 2 bytes early"):
        file.read(2, 4, np.dtype(np.uint8))


@pytest.mark.skipif(sys.platform == "win32", reason="there the file has a name for as long as it is open")
def test_nothing_is_ever_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    file = ScratchFile()
    file.append(np.zeros(1000))
    held = file._file
    assert list(tmp_path.iterdir()) == []
    del file
    gc.collect()
    assert held.closed
    killed = (
        "import os, signal, numpy; from uipad_cli.metrics.scratch import ScratchFile; file = ScratchFile();"
        "file.append(numpy.zeros(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", killed], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []
