import errno
import tempfile
import weakref

import numpy as np
import pytest

from uipad_cli.data.framing import Framing, seen
from uipad_cli.engine.collecting import Collected, Seen
from uipad_cli.engine.scratch import Stored, told
from uipad_cli.errors import ResourceError
from uipad_cli.metrics.scratch import ScratchError


def some_images(kind):
    rng = np.random.default_rng(0)
    images = [rng.normal(size=size).astype(np.float32) for size in ((5, 7), (1, 1), (16, 8), (3, 50))]
    return [image > 0 for image in images] if kind is np.bool_ else images


@pytest.mark.parametrize("kind", [np.float32, np.bool_])
def test_images_come_back_as_they_went(kind):
    images, stored = some_images(kind), Stored(kind)
    images[0] = images[0].T  # not in the order of memory
    for image in images:
        stored.append(image)
    assert len(stored) == 4
    assert stored.shapes == [image.shape for image in images]
    for image, again in zip(images, stored, strict=True):
        assert again.dtype == kind
        assert np.array_equal(again, image)
    assert np.array_equal(stored[-1], images[-1])
    assert [image.shape for image in stored[1:3]] == [(1, 1), (16, 8)]
    with pytest.raises(IndexError):
        stored[4]


def test_what_was_never_seen_stays_nan():
    stored = Stored(np.float32)
    stored.append(np.array([[np.nan, 1]], np.float32))
    assert np.isnan(stored[0][0, 0])


def test_the_file_goes_with_the_images():
    stored = Stored(np.float32)
    stored.append(np.zeros((4, 4), np.float32))
    held, gone = stored._file._file, weakref.ref(stored)
    del stored
    assert gone() is None
    assert held.closed


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "the disk is full .a temporary file needs 64 bytes"), (errno.EIO, "cannot be used: broken")],
)
def test_a_full_disk_is_told(code, message, monkeypatch):
    class Broken:
        def seek(self, place):
            pass

        def write(self, data):
            raise OSError(code, "broken")

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Broken())
    stored = Stored(np.float32)
    with pytest.raises(ResourceError, match=message) as caught:
        stored.append(np.zeros((4, 4), np.float32))
    assert caught.value.message.startswith(tempfile.gettempdir())
    assert "TMPDIR" in caught.value.cure
    assert len(stored) == 0


def test_other_errors_are_not_taken_for_those_of_the_disk():
    with pytest.raises(PermissionError), told():
        raise PermissionError(errno.EACCES, "another file")
    with pytest.raises(ResourceError), told():
        raise ScratchError(OSError(errno.ENOSPC, "full"), "folder", 3)


def test_seen_pixels_are_those_of_all_framings():
    crop, full = Framing(), Framing(resize=392)
    shapes = [(60, 40), (60, 40), (33, 90)]
    both = Seen((crop, full), shapes)
    for shape, found in zip(shapes, both, strict=True):
        assert np.array_equal(found, seen(crop, *shape) & seen(full, *shape))
    assert both[0] is both[1]
    with pytest.raises(ValueError, match="read-only"):
        both[0][0, 0] = True


def test_collected_parts_know_what_was_seen():
    found = Collected(Framing())
    found.maps.append(np.zeros((20, 30), np.float32))
    assert np.array_equal(found.seen[0], seen(Framing(), 20, 30))
