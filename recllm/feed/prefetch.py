"""The next batch is prepared while this one computes: a bounded, ordered queue that one thread fills."""

import threading
from collections.abc import Callable, Generator, Iterable
from queue import Empty, Full, Queue
from typing import Any, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
LOOK = 0.1  # seconds after which the thread looks whether anybody still reads


def prefetch(make: Callable[[Item], Made], items: Iterable[Item], ahead: int = 1) -> Generator[Made, None, None]:
    """`make(item)` of each item in order, up to `ahead` + 1 of them made before they are asked for, in a thread of their own.

    What `make` raises is raised where its item was due. The thread ends with the last item, an error, or the generator (`close()`, or when
    nobody refers to it). `make` must draw no random numbers: those of the consumer would come out otherwise.
    """
    queue: Queue[tuple[bool, Any]] = Queue(maxsize=ahead)
    ended = threading.Event()
    thread = threading.Thread(target=_fill, args=(make, items, queue, ended), name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            try:
                more, value = queue.get(timeout=LOOK)
            except Empty:
                if not thread.is_alive() and queue.empty():
                    raise RuntimeError("expected the next batch, found that its thread died") from None
                continue
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        ended.set()
        thread.join()


def _fill(make: Callable[[Any], Any], items: Iterable[Any], queue: Queue[tuple[bool, Any]], ended: threading.Event) -> None:
    def put(entry: tuple[bool, Any]) -> None:
        while not ended.is_set():
            try:
                return queue.put(entry, timeout=LOOK)
            except Full:
                continue

    try:
        for item in items:
            if ended.is_set():
                return
            put((True, make(item)))
        put((False, None))
    except BaseException as error:  # the consumer's to raise
        put((False, error))
