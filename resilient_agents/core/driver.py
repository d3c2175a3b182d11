"""How a blocking chain is run: in one step, for it never suspends, with one exception: `SWITCH`, by which a chain that
began blocking goes on as an awaitable."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final

from resilient_agents.base.told import Fields
from resilient_agents.core.call import STOPPED, Boxed

__all__ = [
    "SUSPENDED",
    "SWITCH",
    "Begun",
    "discard",
    "drive",
    "go_on",
    "idle",
    "is_awaitable",
    "new_driver",
    "unfinished",
]


class _Switch:
    """Suspends a blocking chain once, to tell its driver that the rest of it is an awaitable; then the call is
    async."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield self


SWITCH: Final = _Switch()


def is_awaitable(result: object) -> bool:
    return hasattr(type(result), "__await__")


def discard(awaitable: object) -> None:
    """Drop an awaitable that nobody will await, without the warning that it never was."""
    close = getattr(awaitable, "close", None) or getattr(awaitable, "cancel", None)
    if callable(close):
        close()


SUSPENDED = "a strategy suspended in a blocking call: it may wait through call.runtime only"


Switched = Callable[[Any], Any]


@types.coroutine
def _driver() -> Generator[Any, Any, None]:
    chain = yield
    while True:
        chain = yield (yield from chain)


def new_driver() -> Any:
    driver: Any = _driver()
    driver.send(None)
    return driver


class _Idle(list[Any]):
    """It pickles by name."""

    def __reduce__(self) -> Any:
        return "idle"


idle: Final = _Idle()
"""Generators that run blocking chains, one after another: `driver.send(chain)` returns what the chain returns. (A
chain's own `send(None)` raises a StopIteration for that, at twice the cost.) Each is taken out while it runs, and put
back after a chain that returned: `driver.gi_yieldfrom` is then None, while it is the chain that suspended otherwise."""


def drive(chain: Awaitable[Any], switched: Switched, checked: Switched | None = None) -> Any:
    """Run a blocking chain to its end in one step. `switched(begun)` answers for one that goes on as an awaitable,
    `checked(result)` for what one that does not has come to."""
    try:
        driver = idle.pop()
    except IndexError:  # all are busy
        driver = new_driver()
    try:
        result = driver.send(chain)
    except Boxed as boxed:
        error = boxed.error
    else:
        if driver.gi_yieldfrom is None:
            idle.append(driver)
            return result if checked is None else checked(result)
        return unfinished(Begun(driver), result, switched)
    try:
        raise error
    finally:
        del error  # no cycle through the traceback


def unfinished(begun: Any, signal: object, switched: Switched) -> Any:
    """A blocking chain suspended: it asks to go on as an awaitable, or a strategy in it is wrong."""
    if signal is SWITCH:
        return switched(begun)
    begun.close()
    raise RuntimeError(SUSPENDED)


async def go_on(begun: Awaitable[Any]) -> Any:
    """The awaitable that a chain which began blocking goes on as."""
    try:
        return await begun
    except Boxed as boxed:
        raise RuntimeError(STOPPED) from boxed.error


class Begun(Fields):
    """What is left of a chain that a driver has started: it can be awaited, or closed."""

    _driver: Any

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield from self._driver.gi_yieldfrom.__await__())

    def close(self) -> None:
        self._driver.close()
