"""A plugin for pytest, found by its entry point where the package is installed.

Fixtures: `fake_clock`, `captured_events`, `no_policy_waits` and `no_leaks`. With `resilient_agents_leaks = true` in the
configuration of pytest every test is guarded as by `no_leaks`; one that is marked `allow_leaks` is not.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # imported late: tests that do not use the package need not import it
    from resilient_agents.testing.clock import FakeClock
    from resilient_agents.testing.events import CapturedEvents

_TURNS = 3
"""Of the event loop, in which what a test has cancelled may end."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("resilient_agents_leaks", "guard every test as by the fixture no_leaks", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "allow_leaks: leave out the guard of resilient_agents_leaks")


@pytest.fixture
def fake_clock() -> Iterator[FakeClock]:
    """Virtual time for the test: a `resilient_agents.testing.FakeClock`."""
    from resilient_agents.testing.clock import FakeClock

    with FakeClock() as clock:
        yield clock


@pytest.fixture
def captured_events() -> Iterator[CapturedEvents]:
    """The events of every policy during the test, as a list."""
    from resilient_agents.testing.events import capture_events

    with capture_events() as captured:
        yield captured


@pytest.fixture
def no_policy_waits() -> Iterator[None]:
    """Retries follow at once during the test."""
    from resilient_agents.testing.calls import no_waits

    with no_waits():
        yield


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test if it leaves behind what `resilient_agents.testing.no_leaks` looks for."""
    from resilient_agents.testing.leaks import no_leaks

    with no_leaks():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    everywhere = item.config.getini("resilient_agents_leaks") and not item.get_closest_marker("allow_leaks")
    is_async = isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj)
    if isinstance(item, pytest.Function) and is_async and (everywhere or "no_leaks" in item.fixturenames):
        item.obj = _guarded(item.obj)  # for outside of its event loop nobody sees a task
    if not everywhere:
        return (yield)
    from resilient_agents.testing.leaks import no_leaks

    with no_leaks():
        return (yield)


def _guarded(test: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    from anyio.lowlevel import checkpoint

    from resilient_agents.testing.leaks import no_leaks

    @functools.wraps(test)
    async def guarded(*args: object, **kwargs: object) -> None:
        with no_leaks():
            await test(*args, **kwargs)
            for _ in range(_TURNS):
                await checkpoint()

    return guarded
