"""Keys are the user's objects: what is wrong with one costs its own calls and no others."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Policy, Registry, Retry, deadline, run_budget
from resilient_agents.core.call import Plan
from resilient_agents.registry import Keyed
from resilient_agents.registry import keyed as module
from resilient_agents.registry.recent import Entry
from tests.conftest import Harness
from tests.interruptions import interrupt_everywhere
from tests.strategies import value

ROOM = os.path.dirname(str(module.__file__))

GOOD = [f"host{number}" for number in range(30)]


class Key:
    """A key like `twin` to a dictionary, as its hash is the same, until something raises."""

    def __init__(self, twin: str, *, eq: bool = False, hashes: int = 10**9) -> None:
        self.twin = twin
        self.eq = eq
        self.hashes = hashes

    def __hash__(self) -> int:
        self.hashes -= 1
        if self.hashes < 0:
            raise RuntimeError("hash")
        return hash(self.twin)

    def __eq__(self, other: object) -> bool:
        if self.eq:
            raise RuntimeError("eq")
        return self is other


def outcome(fn: Callable[..., Any], *args: Any) -> Any:
    try:
        return fn(*args)
    except RuntimeError as error:
        return error


def counting(at_most: int, fn: Callable[[Any], Any] = str) -> tuple[Keyed, list[object]]:
    made: list[object] = []

    def make(key: object) -> Retry:
        made.append(key)
        return Retry(1)

    return Registry().keyed(make, key=lambda key: key, at_most=at_most), made


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Key("host7", eq=True),
        lambda: Key("host7", hashes=0),
        lambda: Key("host7", hashes=1),
        lambda: Key("host7", hashes=2),
        lambda: Key("host7", hashes=3),
        lambda: Key("host7", hashes=4),
        lambda: Key("elsewhere", eq=True),
    ],
)
@pytest.mark.parametrize("at_most", [1, 3, 100])
@pytest.mark.parametrize("first", [False, True])
def test_a_key_that_raises_harms_no_other(bad: Callable[[], Key], at_most: int, *, first: bool) -> None:
    """Neither one that is kept nor a newcomer, while there is room and while somebody has to go."""
    keyed, _ = counting(at_most)
    guarded: Callable[[object], int] = keyed(lambda key: 1)
    key = bad()
    if first:
        outcome(guarded, key)
    for name in GOOD:
        assert guarded(name) == 1
    outcome(guarded, key)
    for name in GOOD:
        assert guarded(name) == 1
    assert len(keyed) <= max(at_most, len(GOOD) + 1)
    outcome(guarded, key)
    assert keyed.policy("host7") is keyed.policy("host7")


def test_a_newcomer_that_raises_costs_others_nothing_they_have() -> None:
    """The policy of a good key with the same hash stays."""
    keyed = Registry().keyed(lambda key: CircuitBreaker(), key=lambda key: key)
    keyed.policy("host7").layers[0].open()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="eq"):
        keyed.policy(Key("host7", eq=True))
    assert keyed.policy("host7").layers[0].state == "open"  # type: ignore[attr-defined]


def test_a_key_that_changes_is_forgotten_in_its_turn() -> None:
    """One that is mutable and hashable all the same, as an object that hashes by its fields."""
    keyed, made = counting(2)
    key = Key("a")
    keyed.policy(key)
    key.twin = "b"
    for name in GOOD:
        keyed.policy(name)
    assert len(keyed) == 2
    assert made == [key, *GOOD]
    assert [known for known, _ in keyed.items()] == GOOD[-2:]


def test_a_policy_that_was_released_is_found_again_for_as_long_as_it_is_held() -> None:
    """And stays one."""
    keyed, made = counting(1)
    held = keyed.policy("a")
    keyed.policy("b")
    assert keyed.policy("a") is held
    keyed.policy("b")
    del held
    gc.collect()
    keyed.policy("a")
    assert made.count("a") == 2


def test_reloads_reach_policies_of_keys_that_raise() -> None:
    """The others change, too."""
    source = {"policies": {"http": {"bulkhead": 3}}}
    registry = Registry(source)
    keyed = registry.keyed("http", key=lambda key: key)
    bad, good = keyed.policy(Key("host7", hashes=6)), keyed.policy("host8")
    source["policies"]["http"]["bulkhead"] = 7
    registry.reload()
    limits = [layer.limit for policy in (bad, good) for layer in policy.layers if isinstance(layer, Bulkhead)]
    assert limits == [7, 7]


async def coroutine(key: object) -> object:
    return key


class Awaitable:
    def __await__(self) -> Any:
        yield


@pytest.mark.parametrize("key", [coroutine, lambda key: Awaitable()])
async def test_awaitables_are_refused(key: Callable[[Any], Any], h: Harness) -> None:
    """Each call would be a key of its own; a coroutine is closed without a warning."""
    keyed = Registry().keyed(lambda key: Retry(), key=lambda arg: key(arg))
    for call in (keyed(lambda arg: arg), lambda arg: keyed.call(str, arg), lambda arg: next(keyed.stream(iter, arg))):
        with pytest.raises(TypeError, match="key must be a plain function .* returned an awaitable"):
            call("x")
    if not h.blocking:
        with pytest.raises(TypeError, match="returned an awaitable"):
            await keyed.acall(coroutine, 0)
    with pytest.raises(TypeError, match="returned an awaitable"):
        keyed.policy(key("x"))
    assert len(keyed) == 0


@pytest.mark.parametrize("strategies", [(Retry(2),), (CircuitBreaker(), Bulkhead(2))])
@pytest.mark.parametrize(
    "bound", [partial(deadline, 9), partial(run_budget, 9), partial(run_budget, tokens=9, usage=lambda _: 1)]
)
async def test_the_key_of_a_call_is_asked_for_once(
    bound: Callable[[], AbstractContextManager[Any]], strategies: tuple[Any, ...], h: Harness
) -> None:
    """Also where a call has a deadline or the budget of a run."""
    asked: list[int] = []
    keyed = Registry().keyed(lambda key: Policy(*strategies), key=lambda number: asked.append(number) or "one")
    guarded = keyed(h.fn(value))
    with bound():
        for number in range(3):
            result = guarded(number)
            assert (result if h.blocking else await result) == number
    assert asked == [0, 1, 2]


async def test_a_call_in_flight_is_known_by_whatever_plan_it_goes(h: Harness) -> None:
    """Also while the policy changes, or functions of other kinds are called by the same key."""
    keyed = Registry().keyed(lambda key: Retry(1), key=lambda key: key, at_most=1)
    inside: list[int] = []

    def others() -> int:
        kept = id(keyed.policy("a"))
        keyed.policy("a").observe(lambda event: None)  # from now on its plans are others
        for name in GOOD:
            keyed.policy(name)
        gc.collect()
        inside.append(id(keyed.policy("a")) == kept)
        return 1

    def work(key: str) -> int:
        return others() if inside else guarded_plainly(key)

    async def fetch(key: str) -> int:
        return others() if inside else work(key)

    guarded_plainly: Callable[[str], int] = keyed(lambda key: others())
    for _ in range(2):
        if h.blocking:
            assert keyed(work)("a") == 1
        else:
            assert await keyed(fetch)("a") == 1
    assert all(inside)
    assert len(keyed) <= 2


def test_an_entry_knows_who_refers_to_its_plans() -> None:
    """The count of references is what tells a call in flight, on every version of Python."""
    entry = Entry("a", Policy())
    assert not entry.in_flight()
    first = Plan(None)
    entry.go_by(first)
    assert entry.in_flight()
    entry.go_by(Plan(None))
    assert entry.in_flight()
    del first
    assert not entry.in_flight()


def one_kept() -> Keyed:
    """With a policy for "a" that is used, and no room for another one."""
    keyed = Keyed(lambda key: Policy(Bulkhead(1, queue=0)), key=lambda key: key, at_most=1)
    keyed.call(str, "a")
    return keyed


def goes_on(keyed: Keyed) -> None:
    """Each key has its calls, and no more policies are kept than there may be."""
    for key in ("a", "b", "c"):
        assert keyed.call(str, key) == key
        assert keyed(str)(key) == key
    assert [key for key, _ in keyed.items()] == ["c"]


def test_an_exception_from_outside_leaves_a_keyed_policy_whole() -> None:
    """Wherever it lands while another key's policy takes the place of the one that is kept."""
    interrupt_everywhere(one_kept, lambda keyed: keyed(str)("b"), goes_on, inside=ROOM)


@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_a_handler_may_call_through_the_keyed_policy_that_it_interrupts(key: str) -> None:
    """Its call goes through, and so does the other one, whichever key's policy goes meanwhile."""

    def run(keyed: Keyed) -> None:
        assert keyed(str)("b") == "b"

    def handler(keyed: Keyed) -> None:
        assert keyed.call(str, key) == key

    interrupt_everywhere(one_kept, run, goes_on, act=handler, inside=ROOM)
