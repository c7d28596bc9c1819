"""Work that goes on ahead of whoever waits for it: in order, within bounds, and over when nobody waits any more."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def ahead(source: Generator[Made, None, None], most: int) -> Generator[Made, None, None]:
    """What `source` makes, in its order, drawn in a thread of its own while at most `most` of it waits to be taken.

    Its errors are raised in their place. When this ends, by itself, by `close` or by an error, that thread has ended,
    too, and the source is closed.
    """
    room, stopped = threading.Semaphore(most), threading.Event()
    drawn: queue.SimpleQueue[tuple[Made] | BaseException | None] = queue.SimpleQueue()

    def draw() -> None:
        fault = None
        try:
            with closing(source):
                while room.acquire() and not stopped.is_set():
                    drawn.put((next(source),))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            fault = error
        drawn.put(fault)

    thread = threading.Thread(target=draw, daemon=True)
    thread.start()
    try:
        while isinstance(one := drawn.get(), tuple):
            room.release()
            yield one[0]
        if one is not None:
            raise one
    finally:
        stopped.set()
        room.release()
        thread.join()


def in_threads(
    work: Callable[[Given], Made], groups: Iterable[Sequence[Given]], *, threads: int, most: int
) -> Generator[list[Made], None, None]:
    """`work` done on all of each group, groups in their order; it begins with up to `most` groups before their turn.

    What it raises is raised in the turn of its group. When this ends, no work goes on.
    """
    begun: deque[list[Future[Made]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for group in groups:
                begun.append([pool.submit(work, given) for given in group])
                if len(begun) > most:
                    yield [one.result() for one in begun.popleft()]
            while begun:
                yield [one.result() for one in begun.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)
