"""Work on many items in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

__all__ = ["in_processes", "worth_processes"]

WORTH_PROCESSES = 150
"""Items from which on a second process is faster than none."""
A = TypeVar("A")
B = TypeVar("B")

_inherited: list[tuple[Callable[[Sequence[Any]], Any], list[Sequence[Any]]]] = []
"""What forks take over from their parent: functions and files cannot be pickled."""


def worth_processes(items: Sequence[A], jobs: int) -> bool:
    """Whether work on that many items is done in several processes."""
    return jobs > 1 and len(items) >= WORTH_PROCESSES and "fork" in multiprocessing.get_all_start_methods()


def in_processes(work: Callable[[Sequence[A]], B], items: Sequence[A], jobs: int, chunk: int = 40) -> Iterator[B]:
    """`work` of the items in chunks of that many, in their order; in forks of this process if there are many."""
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    if len(chunks) < 2 or not worth_processes(items, jobs):
        yield from map(work, chunks)
        return
    _inherited.append((work, chunks))
    try:
        with multiprocessing.get_context("fork").Pool(min(jobs, len(chunks)), _leave_interrupts) as pool:
            yield from pool.imap(_chunk, range(len(chunks)))
    finally:
        _inherited.pop()


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal: the one that the others work for ends them, and says so once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _chunk(number: int) -> Any:
    work, chunks = _inherited[-1]
    return work(chunks[number])
