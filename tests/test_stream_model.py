"""A model of a limited stream, which is a page long, and the implementation say the same of any stream and consumer.

Watched or not, decorated or not, by `for` or by hand: the ways on which an item comes to its consumer are several, and
what it sees is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_agents import Policy, StreamTimeout, StreamTimeoutError, StreamTruncatedError
from resilient_agents.core.call import NEUTRAL
from resilient_agents.events import CallEnded
from tests.conftest import Events, Harness, run_on
from tests.test_stream_timeout import Script
from tests.test_streams import Holding

MARK = 9
BROKEN = KeyError("broke off")


@dataclass
class Limits:
    first_item: float | None
    idle: float | None
    total: float | None


@dataclass
class Seen:
    """The items that the consumer has, and what then came: the class of an error, None for the end, "left" where the
    consumer did. `which`: the limit."""

    items: list[Any]
    end: Any
    which: str | None = None


def model(script: list[tuple[float, Any]], limits: Limits, *, marked: bool, takes: int, blocking: bool) -> Seen:
    """What comes of a stream whose steps take so many seconds, each to an item, BROKEN or None, its end."""
    seen: list[Any] = []
    complete, used, late = not marked, 0.0, None
    for took, what in [*script, (0.0, None)]:
        if len(seen) == takes:
            return Seen(seen, "left")
        if late is not None:
            return Seen(seen, None) if complete and marked else Seen(seen, StreamTimeoutError, late)
        which, limit = ("idle", limits.idle) if seen else ("first_item", limits.first_item)
        left = None if limits.total is None else limits.total - used
        if left is not None and (limit is None or left < limit):
            which, limit = "total", left
        used += took
        out_of_time = limit is not None and took > limit
        if out_of_time and (not blocking or what is BROKEN):
            return Seen(seen, None) if complete and marked else Seen(seen, StreamTimeoutError, which)
        if what is BROKEN:
            return Seen(seen, None) if complete and marked else Seen(seen, KeyError)
        if what is None:
            return Seen(seen, None if complete else StreamTruncatedError)
        seen.append(what)
        complete = complete or what == MARK
        late = which if out_of_time else None
    raise AssertionError("a script has an end")


# Times that no sum of others equals.
steps = st.tuples(st.sampled_from([0.0, 1.0, 4.0]), st.sampled_from([1, 2, MARK, BROKEN]))
good = st.tuples(st.just(0.0), st.sampled_from([1, 2, MARK]))
limits_of_steps = st.builds(
    Limits,
    st.sampled_from([None, 2.5, 9.5]),
    st.sampled_from([2.25, 5.25, None]),
    st.sampled_from([None, None, None, 3.125, 7.125]),
)


async def read(h: Harness, stream: Any, takes: int, pause: float) -> Seen:
    seen: list[Any] = []
    try:
        while len(seen) < takes:
            seen.append(next(stream) if h.blocking else await anext(stream))
            await h.sleep(pause)
    except (StopIteration, StopAsyncIteration):
        return Seen(seen, None)
    except StreamTimeoutError as error:
        return Seen(seen[: error.items], StreamTimeoutError, error.which)
    except (KeyError, StreamTruncatedError) as error:
        return Seen(seen, type(error))
    return Seen(seen, "left")


@pytest.mark.parametrize("runtime", ["blocking", "asyncio", "trio"])
@settings(max_examples=200, deadline=None)
@given(
    script=st.lists(steps, max_size=5) | st.lists(good, min_size=2, max_size=3),
    limits=limits_of_steps,
    takes=st.integers(1, 6),
    pause=st.sampled_from([0.0, 50.0]),
    marked=st.booleans(),
    watched=st.booleans(),
    decorated=st.booleans(),
)
@example(
    script=[(0.0, 1), (0.0, MARK)],
    limits=Limits(None, 2.25, None),
    takes=6,
    pause=0.0,
    marked=True,
    watched=False,
    decorated=True,
)
def test_a_model_of_a_limited_stream(
    runtime: str,
    script: list[tuple[float, Any]],
    limits: Limits,
    takes: int,
    pause: float,
    marked: bool,
    watched: bool,
    decorated: bool,
) -> None:
    """The same items, the same end, one outcome, and nothing is left."""
    h, outer, heard = Harness(runtime), Holding(), Events()
    source = Script(h, [part for took, what in script for part in (took, what)])
    complete = (lambda item: item == MARK) if marked else None
    limit = StreamTimeout(**vars(limits), complete=complete, preamble=None)
    policy = Policy(outer, limit)
    if watched:
        policy.observe(heard)
    expected = model(script, limits, marked=marked, takes=takes, blocking=h.blocking)

    async def main() -> None:
        stream = policy(source.function)() if decorated else policy.stream(source.function)
        assert await read(h, stream, takes, pause) == expected
        if h.blocking:
            stream.close()
        else:
            await stream.aclose()

    run_on(runtime, main)
    (outcome,) = outer.outcomes
    if outcome == "at once":
        assert not expected.items
    elif expected.end == "left":
        assert outcome is NEUTRAL
    else:
        assert outcome is None if expected.end is None else isinstance(outcome, expected.end)
    assert (outer.held, source.closed) == (0, source.opened)
    if watched:
        (ended,) = heard.of(CallEnded)
        assert ended.outcome == {None: "success", "left": "cancelled"}.get(expected.end, "failure")
        assert ended.items is None or ended.items == len(expected.items)
