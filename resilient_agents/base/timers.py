"""The timers of event loops. Here only do we sleep, and end what takes too long, in async code.

On asyncio all alarms of a loop share one timer over a heap: to set a timer for each call and to cancel it costs 1.9 us,
a third of a time limit. An alarm that is no longer set stays in the heap until it comes to the top, or until there are
more of these than of the others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import weakref
from asyncio.events import _get_running_loop  # pyright: ignore[reportPrivateUsage]  # in `__all__` for event loops
from collections.abc import Awaitable
from functools import partial
from typing import Final, Protocol

import anyio

__all__ = ["Alarm", "scope", "set_alarm", "shift_alarms", "sleep"]


class Alarm(Protocol):
    """What wants to know when its time is up. `entry`: 0 for one that is not set; whoever sets it to 0 stops it."""

    entry: int

    def ring(self) -> None: ...


_FEW: Final = 64
"""Dead entries that are not worth looking for."""


class _Alarms:
    """Those of one loop, in whose thread all is done. They live as long as the loop holds a timer for them, so that a
    loop that is closed frees them with what waits."""

    __slots__ = ("__weakref__", "_armed", "_heap", "_many", "_numbers", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = itertools.count(1)
        self._armed = math.inf
        self._many = _FEW

    def set(self, seconds: float, alarm: Alarm) -> None:
        heap = self._heap
        if len(heap) >= self._many:
            heap[:] = [entry for entry in heap if entry[2].entry == entry[1]]
            heapq.heapify(heap)
            self._many = max(_FEW, 2 * len(heap))
        at = self.loop.time() + (max(0.0, seconds))
        alarm.entry = number = next(self._numbers)
        heapq.heappush(heap, (at, number, alarm))
        if at < self._armed:
            self._arm(at)

    def shift(self, seconds: float) -> None:
        self._heap = [(at + seconds, number, alarm) for at, number, alarm in self._heap]
        if self._heap:
            self._arm(self._heap[0][0])

    def _arm(self, at: float) -> None:
        self._armed = at
        self.loop.call_at(at, self._ring, at)

    def _ring(self, at: float) -> None:
        if at != self._armed:  # an earlier one was set meanwhile
            return
        heap, new = self._heap, next(self._numbers)
        # A loop rings up to its clock's resolution early. One that is set again for the rest has a turn of its own:
        # under a clock that stands still this would not end.
        while heap and ((heap[0][0] <= at and heap[0][1] < new) or heap[0][2].entry != heap[0][1]):
            _, number, alarm = heapq.heappop(heap)
            if alarm.entry == number:
                alarm.entry = 0
                alarm.ring()
        self._armed = math.inf
        if heap:
            self._arm(heap[0][0])


_of: dict[int, weakref.ref[_Alarms]] = {}
"""By the identity of the loop."""


def set_alarm(loop: asyncio.AbstractEventLoop, seconds: float, alarm: Alarm) -> None:
    """Let `alarm.ring()` be called on this loop, which runs here, in so many seconds, unless it is stopped before."""
    found = _of.get(id(loop))
    alarms = None if found is None else found()
    if alarms is None or alarms.loop is not loop:
        alarms = _Alarms(loop)
        _of[id(loop)] = weakref.ref(alarms, partial(_forget, id(loop)))
    alarms.set(seconds, alarm)


def shift_alarms(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """The loop goes by another clock from now on, which is so many seconds ahead of the old one."""
    found = _of.get(id(loop))
    alarms = None if found is None else found()
    if alarms is not None and alarms.loop is loop and not loop.is_closed():
        alarms.shift(seconds)


def _forget(key: int, gone: weakref.ref[_Alarms]) -> None:
    if _of.get(key) is gone:
        _of.pop(key, None)


def sleep(seconds: float) -> Awaitable[None]:
    """Sleep in async code."""
    return anyio.sleep(seconds) if _get_running_loop() is None else asyncio.sleep(seconds)


def scope(seconds: float, *, shield: bool = False) -> anyio.CancelScope:
    """A scope that is cancelled when its time is up."""
    return anyio.move_on_after(seconds, shield=shield)
