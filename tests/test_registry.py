"""Names: one object for each, made at first use, from any thread; keyed policies; overrides; stacked decorators."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest

import resilient_agents
from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    CircuitOpenError,
    Fallback,
    Gate,
    Policy,
    RateLimit,
    RateLimitedError,
    Registry,
    Rejected,
    Retry,
    Timeout,
    bulkhead,
    circuit_breaker,
    events,
    get_bulkhead,
    get_circuit_breaker,
    get_gate,
    get_policy,
    get_rate_limit,
    rate_limit,
    resilient,
    retry,
    timeout,
)
from resilient_agents.base import instances
from resilient_agents.config import loads
from resilient_agents.events import CallRejected
from tests.conftest import Events, Harness, ManualClock

SOURCE = {
    "policies": {
        "openai": {"retry": 3, "circuit_breaker": {"failures": 2}, "bulkhead": 4},
        "search": {"circuit_breaker": "shared", "rate_limit": {"rate": 5, "max_wait": 0}},
    },
    "circuit_breakers": {"shared": {"failures": 1}},
}


class Failing:
    """Fails the first `times` calls."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise ConnectionError
        return "done"


_numbers = iter(range(10**9))


@pytest.fixture
def named() -> Callable[[str], str]:
    """Names in the process-wide registry that no other test uses."""
    return lambda name: f"{name}-{next(_numbers)}"


# by name


def test_a_name_is_one_object_from_any_thread() -> None:
    """Sixteen threads that ask first at the same moment get the same one, of every kind."""
    registry = Registry(SOURCE)
    for ask in (
        lambda: registry.policy("openai"),
        lambda: registry.circuit_breaker("a"),
        lambda: registry.bulkhead("b"),
        lambda: registry.rate_limit("c", 5),
    ):
        barrier = threading.Barrier(16)
        found: list[Any] = []

        def look(ask: Callable[[], Any] = ask, barrier: threading.Barrier = barrier, found: list[Any] = found) -> None:
            barrier.wait()
            found.append(ask())

        threads = [threading.Thread(target=look) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 16
        assert all(thing is found[0] for thing in found)


def test_a_name_without_a_configuration_is_told_of_at_the_first_call(
    named: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """It gets the default, which may not be what was meant: the log names it, and the line that asked."""
    name = named("unconfigured")
    line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
    guarded = resilient_agents.resilient(name)(lambda: 1)
    assert not caplog.records
    assert [guarded(), guarded()] == [1, 1]
    (record,) = caplog.records
    assert f"{__file__}:{line} " in record.getMessage()
    assert repr(name) in record.getMessage()


def test_a_name_that_has_a_policy_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """From a configuration, or from code."""
    configured, coded = Registry(SOURCE), Registry()
    coded.add("openai", Policy(Retry(2)))
    assert [registry.late("openai").call(lambda: 1) for registry in (configured, coded)] == [1, 1]
    assert not caplog.records


def test_policies_come_from_the_configuration() -> None:
    """Strategies in order, under the policy's name."""
    policy = Registry(SOURCE).policy("openai")
    assert policy.name == "openai"
    assert [type(layer) for layer in policy.layers] == [Retry, CircuitBreaker, Bulkhead]


def test_what_stands_in_a_policy_is_found_under_its_name() -> None:
    """The breaker of the policy "openai" is the breaker "openai", whichever is asked for first."""
    registry = Registry(SOURCE)
    breaker = registry.circuit_breaker("openai")
    policy = registry.policy("openai")
    assert policy.layers[1] is breaker
    assert breaker.name == "openai"
    assert breaker.failures == 2
    assert policy.layers[2] is registry.bulkhead("openai")
    assert registry.bulkhead("openai").name == "openai"


def test_shared_components_are_one_object() -> None:
    """What `use` names stands in every policy that uses it."""
    uses = {"circuit_breaker": "shared"}
    registry = Registry({**SOURCE, "policies": {"a": uses, "b": uses}})
    assert registry.policy("a").layers == registry.policy("b").layers == (registry.circuit_breaker("shared"),)


def test_a_shared_component_of_the_policys_name_stays_another_one() -> None:
    """The one that stands in the policy gets a number."""
    registry = Registry({"policies": {"x": {"bulkhead": {"limit": 3}}}, "bulkheads": {"x": {"limit": 7}}})
    assert registry.bulkhead("x").limit == 7
    assert registry.policy("x").layers == (registry.bulkhead("x#2"),)
    assert registry.bulkhead("x#2").limit == 3


def test_a_breaker_of_that_name_made_elsewhere_is_the_same_circuit() -> None:
    """It gets the numbers of the configuration."""
    breaker = CircuitBreaker("made elsewhere", failures=9)
    registry = Registry({"circuit_breakers": {"made elsewhere": {"failures": 2}}})
    assert registry.circuit_breaker("made elsewhere") is breaker
    assert breaker.failures == 2


def test_without_a_configuration_there_are_defaults() -> None:
    """A policy retries and breaks; a bulkhead has 25 slots; a rate has to be given."""
    registry = Registry()
    policy = registry.policy("anything")
    assert [type(layer) for layer in policy.layers] == [Retry, CircuitBreaker]
    assert policy.layers[1] is registry.circuit_breaker("anything")
    assert registry.bulkhead("anything").limit == 25
    with pytest.raises(LookupError, match=r"rate limit named 'anything': give its rate"):
        registry.rate_limit("anything")
    assert registry.rate_limit("anything", "60/min").rate == 60


def test_with_a_configuration_an_unknown_policy_is_an_error() -> None:
    """It names the near miss and what there is."""
    with pytest.raises(LookupError, match=r"no policy named 'opnai': did you mean 'openai'\? it has openai, search"):
        Registry(SOURCE).policy("opnai")


def test_a_policy_called_default_serves_all_other_names() -> None:
    """Each with components of its own."""
    registry = Registry({"policies": {"default": {"bulkhead": 3}}})
    one, two = registry.policy("one"), registry.policy("two")
    assert one.name == "one"
    assert one.layers[0] is not two.layers[0]
    assert one.layers[0] is registry.bulkhead("one")


def test_the_default_wins_over_what_was_asked_before() -> None:
    """The bulkhead "one" is that of the policy "one", whichever is asked for first."""
    registry = Registry({"policies": {"default": {"bulkhead": 3}}})
    slots = registry.bulkhead("one", 9)
    assert registry.policy("one").layers == (slots,)
    assert slots.limit == 3


def test_the_default_is_not_for_policies_made_in_code() -> None:
    """Whether they are added before it is loaded or after."""
    before, after = Registry(), Registry({"policies": {"default": {"retry": 2}}})
    before.add("mine", Policy(Bulkhead(7)))
    before.configure({"policies": {"default": {"retry": 2}}})
    after.add("mine", Policy(Bulkhead(7)))
    for registry in (before, after):
        assert [type(layer) for layer in registry.policy("mine").layers] == [Bulkhead]


def test_the_configuration_wins_over_policies_made_in_code() -> None:
    """Whether they are added before it is loaded or after."""
    before, after = Registry(), Registry({"policies": {"mine": {"retry": 2}}})
    before.add("mine", Policy(Bulkhead(7)))
    before.configure({"policies": {"mine": {"retry": 2}}})
    after.add("mine", Policy(Bulkhead(7)))
    for registry in (before, after):
        assert [type(layer) for layer in registry.policy("mine").layers] == [Retry]


def test_options_are_for_the_first_use() -> None:
    """The same options again are fine, others warn and change nothing."""
    registry = Registry()
    slots = registry.bulkhead("db", 8, queue=2)
    assert registry.bulkhead("db", 8, queue=2) is slots
    with pytest.warns(RuntimeWarning, match="bulkhead 'db' is in use with other options") as warned:
        assert registry.bulkhead("db", 9) is slots
    assert slots.limit == 8
    assert warned[0].filename == __file__


def test_warnings_show_where_the_options_are(named: Callable[[str], str]) -> None:
    """Also those of a decorator."""
    name = named("where")
    bulkhead(4, name=name)
    with pytest.warns(RuntimeWarning, match="in use with other options") as warned:
        bulkhead(5, name=name)
    assert warned[0].filename == __file__


def test_options_do_not_change_a_circuit_that_policies_use() -> None:
    """Nor one that was made in code: that would be silent, and they are in use. The same options are fine."""
    registry = Registry()
    registry.policy("used")
    mine = CircuitBreaker("options-mine", failures=2)
    for name, failures in (("used", 5), ("options-mine", 2)):
        with pytest.warns(RuntimeWarning, match="in use with other options"):
            assert registry.circuit_breaker(name, failures=9).failures == failures
    same = CircuitBreaker("options-same", failures=2)
    assert registry.circuit_breaker("options-same", failures=2) is same
    assert mine.failures == 2


def test_the_configuration_wins_over_options_in_code() -> None:
    """Without a warning: the file is where the numbers are."""
    registry = Registry({"bulkheads": {"db": {"limit": 3}}})
    assert registry.bulkhead("db", 8).limit == 3
    assert registry.bulkhead("db", 9).limit == 3


def test_configuring_changes_what_is_in_use_already() -> None:
    """Modules may ask for policies before the program has read its configuration."""
    registry = Registry()
    early = registry.policy("openai")
    guarded = early(Failing(1))
    assert guarded() == "done"
    registry.configure(SOURCE)
    assert registry.policy("openai") is early
    assert [type(layer) for layer in early.layers] == [Retry, CircuitBreaker, Bulkhead]


def test_policies_made_in_code_have_names_too() -> None:
    """A name is given once."""
    registry = Registry()
    policy = Policy(Retry(2))
    assert registry.add("mine", policy) is policy
    assert registry.policy("mine") is policy
    with pytest.raises(ValueError, match="policy named 'mine' already"):
        registry.add("mine", Policy())


@pytest.mark.parametrize("name", ["", None, 3])
def test_names_are_strings(name: Any) -> None:
    """And not empty."""
    registry = Registry()
    for ask in (registry.policy, registry.bulkhead, registry.late, registry.circuit_breaker):
        with pytest.raises(ValueError, match="name must be a non-empty string"):
            ask(name)


def test_what_is_in_use_can_be_looked_at() -> None:
    """Policies by name, components by kind and name."""
    registry = Registry(SOURCE)
    policy = registry.policy("openai")
    assert list(registry.policies()) == [("openai", policy)]
    assert [(kind, name) for kind, name, _ in registry.components()] == [
        ("circuit_breaker", "openai"),
        ("bulkhead", "openai"),
    ]
    assert registry.has("circuit_breaker", "shared")
    assert not registry.has("bulkhead", "shared")


def test_the_shorthands_are_of_the_process(named: Callable[[str], str]) -> None:
    """`get_policy` and its sisters ask `resilient_agents.registry`."""
    name = named("short")
    assert get_policy(name) is resilient_agents.registry.policy(name)
    assert get_circuit_breaker(name) is resilient_agents.registry.circuit_breaker(name)
    assert get_bulkhead(name, 3) is resilient_agents.registry.bulkhead(name)
    assert get_rate_limit(name, 3) is resilient_agents.registry.rate_limit(name)
    assert get_gate(name, max_wait=3) is resilient_agents.registry.gate(name)


# @resilient("name")


async def test_a_name_binds_at_first_call(h: Harness, named: Callable[[str], str]) -> None:
    """The policy may come after the decorator."""
    name = named("late")
    calls = 0

    async def work() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise ConnectionError
        return "done"

    guarded = resilient(name)(h.fn(work))
    resilient_agents.registry.add(name, Policy(Retry(3), name=name))
    result = guarded()
    assert (result if h.blocking else await result) == "done"
    assert calls == 3


def test_a_name_keeps_the_kind_of_the_function(named: Callable[[str], str]) -> None:
    """Generators too."""

    @resilient(named("generator"))
    def numbers() -> Iterator[int]:
        yield from range(3)

    assert list(numbers()) == [0, 1, 2]


def test_the_first_call_is_watched_like_all_others() -> None:
    """Observers of the policy hear of it, under its name, as one operation."""
    registry = Registry()
    seen = Events()
    registry.policy("openai").observe(seen)
    guarded = registry.late("openai")(Failing(0))
    guarded()
    guarded()
    assert [type(event) for event in seen].count(events.CallStarted) == 2
    assert {event.policy for event in seen} == {"openai"}


def test_a_name_that_is_unknown_says_so_at_every_call() -> None:
    """And works as soon as it is known."""
    registry = Registry(SOURCE)
    guarded = registry.late("later")(Failing(0))
    for _ in range(2):
        with pytest.raises(LookupError, match="'later'"):
            guarded()
    registry.add("later", Policy())
    assert guarded() == "done"


def test_names_that_the_configuration_lacks_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """When it is loaded, not at the first call."""
    registry = Registry()
    registry.late("opnai")
    registry.configure(SOURCE)
    assert registry.missing() == ("opnai",)
    assert "no policy named opnai" in caplog.text


def test_a_late_policy_inside_another_one_binds_too() -> None:
    """Its strategies are part of the chain from the first call on."""
    registry = Registry()
    registry.add("inner", Policy(Retry(2)))
    assert Policy(Timeout(5, thread=False), registry.late("inner")).call(Failing(1)) == "done"


# override


async def test_an_override_reaches_guarded_functions(h: Harness) -> None:
    """Until its block ends; the state of the policy is not touched."""
    registry = Registry(SOURCE)

    async def work() -> str:
        raise ConnectionError

    guarded = registry.late("search")(h.fn(work))

    async def call() -> Any:
        result = guarded()
        return result if h.blocking else await result

    for _ in range(3):
        with registry.override("search", Policy(Fallback(value="stand-in"))):
            assert await call() == "stand-in"
    assert registry.circuit_breaker("shared").state == "closed"
    with pytest.raises(ConnectionError):
        await call()
    with pytest.raises(CircuitOpenError):
        await call()


def test_overrides_may_overlap() -> None:
    """The one entered last counts, whichever ends first."""
    registry = Registry()
    guarded: Any = registry.policy("x")(Failing(99))
    one = registry.override("x", Fallback(value=1))
    two = registry.override("x", Fallback(value=2))
    one.__enter__()
    two.__enter__()
    assert guarded() == 2
    one.__exit__(None, None, None)
    assert guarded() == 2
    two.__exit__(None, None, None)
    assert [type(layer) for layer in registry.policy("x").layers] == [Retry, CircuitBreaker]


def test_a_policy_cannot_override_itself() -> None:
    """It would call itself for ever."""
    registry = Registry()
    policy = registry.policy("x")
    with pytest.raises(ValueError, match="cannot stand inside itself"), registry.override("x", Policy(policy)):
        pass


# keyed


def host(url: str) -> str:
    return url.split("/")[2]


@pytest.mark.parametrize("how", ["guarded", "call", "stream"])
async def test_what_happens_in_flight_is_not_dropped(how: str, h: Harness) -> None:
    """A circuit that opens after many other keys came and went stays open."""
    keyed = Registry().keyed(lambda key: CircuitBreaker(failures=1), key=lambda key: key, at_most=2)

    def others() -> None:
        for other in range(50):
            keyed.policy(other)
        gc.collect()

    async def work(key: str) -> None:
        others()
        raise ConnectionError

    def items(key: str) -> Iterator[int]:
        yield 1
        others()
        raise ConnectionError

    with pytest.raises(ConnectionError):
        if how == "stream":
            list(keyed.stream(items, "a"))
        elif how == "call":
            await h.call(keyed, work, "a")
        else:
            result = keyed(h.fn(work))("a")
            assert h.blocking or await result
    gc.collect()
    assert keyed.policy("a").layers[0].state == "open"  # type: ignore[attr-defined]


def test_a_shared_strategy_keeps_no_keys() -> None:
    """It is not forgotten with them."""
    source = {
        "rate_limits": {"all": {"rate": 1000}},
        "circuit_breakers": {"all": {"failures": 1}},
        "policies": {"http": {"rate_limit": {"use": "all"}, "circuit_breaker": "all"}},
    }
    registry = Registry(source)
    keyed = registry.keyed("http", key=lambda key: key, at_most=5)
    guarded: Callable[[int], None] = keyed(lambda key: None)
    for key in range(100):
        guarded(key)
    registry.circuit_breaker("all").open()
    keyed.policy(100)
    assert len(keyed) == 5


async def test_each_key_has_a_policy_of_its_own(h: Harness) -> None:
    """One host that is down says nothing about another."""
    registry = Registry({"policies": {"http": {"circuit_breaker": {"failures": 1}}}})
    per_host = registry.keyed("http", key=host)

    async def get(url: str) -> str:
        if "bad" in url:
            raise ConnectionError
        return url

    guarded = per_host(h.fn(get))

    async def call(url: str) -> Any:
        result = guarded(url)
        return result if h.blocking else await result

    with pytest.raises(ConnectionError):
        await call("http://bad/")
    with pytest.raises(CircuitOpenError, match="'http' is open"):
        await call("http://bad/other")
    assert await call("http://good/") == "http://good/"
    assert len(per_host) == 2
    assert await h.call(per_host, get, "http://good/") == "http://good/"


def test_keys_stay_out_of_telemetry() -> None:
    """They may be many, or secret: the policy's name is the only one."""
    registry = Registry()
    keyed = registry.keyed("http", key=lambda tenant: tenant)
    seen = Events()
    keyed.policy("acme").observe(seen)
    guarded: Callable[[str], str] = keyed(lambda tenant: tenant)
    guarded("acme")
    assert {event.policy for event in seen} == {"http"}
    assert keyed.policy("acme").layers[1].name is None  # type: ignore[attr-defined]


def test_streams_are_keyed_by_their_arguments() -> None:
    """The slot of that key is held until the stream closes."""
    registry = Registry({"policies": {"http": {"bulkhead": 1}}})
    keyed = registry.keyed("http", key=lambda tenant: tenant)

    @keyed
    def items(tenant: str) -> Generator[str, None, None]:
        yield tenant
        yield tenant

    stream = items("a")
    assert next(stream) == "a"
    assert keyed.policy("a").layers[0].in_use == 1  # type: ignore[attr-defined]
    assert list(items("b")) == ["b", "b"]
    stream.close()
    assert keyed.policy("a").layers[0].in_use == 0  # type: ignore[attr-defined]


def test_the_least_recently_used_goes_first() -> None:
    """`at_most` are kept."""
    made: list[str] = []

    def make(key: str) -> Retry:
        made.append(key)
        return Retry()

    keyed = Registry().keyed(make, key=str, at_most=2)
    for key in ("a", "b", "a", "c", "a", "b"):
        keyed.policy(key)
        gc.collect()
    assert made == ["a", "b", "c", "b"]
    assert len(keyed) == 2


def test_a_policy_with_a_call_in_flight_is_found_again() -> None:
    """However many others came meanwhile."""
    keyed = Registry().keyed(lambda key: Retry(), key=lambda key: key, at_most=1)

    @keyed
    def work(key: object) -> bool:
        inside = id(keyed.policy(key))
        for other in range(50):
            keyed.policy(other)
        gc.collect()
        return id(keyed.policy(key)) == inside

    assert work("a")


@pytest.mark.parametrize("kind", ["open circuit", "slot", "rate"])
def test_state_that_matters_is_not_dropped(kind: str, manual_clock: ManualClock) -> None:
    """An open circuit, a slot held and a rate not yet recovered keep a policy; afterwards it may go."""
    strategy: dict[str, Callable[[], Any]] = {
        "open circuit": lambda: CircuitBreaker(failures=1, reset_timeout=10),
        "slot": lambda: Bulkhead(1),
        "rate": lambda: RateLimit(1, max_wait=0),
    }
    keyed = Registry().keyed(lambda key: strategy[kind](), key=lambda key: key, at_most=1)

    @keyed
    def items(key: str) -> Generator[int, None, None]:
        if kind == "open circuit":
            raise ConnectionError
        yield 1
        yield 2

    stream = items("a")
    if kind == "open circuit":
        with pytest.raises(ConnectionError):
            next(stream)
    else:
        next(stream)
    before = id(keyed.policy("a"))
    for other in range(40):
        keyed.policy(other)
    gc.collect()
    assert len(keyed) == 2
    assert id(keyed.policy("a")) == before
    stream.close()
    manual_clock.now += 60
    keyed.policy("last")
    assert len(keyed) == 1


def test_a_rate_limit_cannot_be_escaped_through_other_keys(manual_clock: ManualClock) -> None:
    """A tenant gets no second burst because others came between."""
    keyed = Registry().keyed(lambda tenant: RateLimit(1, per=60, max_wait=0), key=lambda tenant: tenant, at_most=1)
    call: Callable[[object], None] = keyed(lambda tenant: None)
    call("a")
    for other in range(30):
        call(other)
    with pytest.raises(RateLimitedError):
        call("a")


def test_a_gate_that_is_shut_cannot_be_escaped_through_other_keys() -> None:
    """What a server told a tenant is not forgotten because others came between."""
    keyed = Registry().keyed(lambda tenant: Gate(max_wait=0), key=lambda tenant: tenant, at_most=1)
    answers = {"a": Throttled(60.0)}

    @keyed
    def call(tenant: object) -> None:
        if tenant in answers:
            raise answers.pop(tenant)

    with pytest.raises(Throttled):
        call("a")
    for other in range(30):
        call(other)
    with pytest.raises(RateLimitedError):
        call("a")


class Throttled(Exception):
    """A 429 that says for how long."""

    status_code = 429

    def __init__(self, wait: float) -> None:
        super().__init__("slow down")
        self.retry_after = wait


def test_a_reload_keeps_what_a_server_said(manual_clock: ManualClock) -> None:
    """The gate of a policy stays shut, under its name, with the new longest wait."""
    source: dict[str, Any] = {"policies": {"openai": {"gate": "90s"}}}
    registry = Registry(source)
    policy = registry.policy("openai")

    def throttled() -> None:
        raise Throttled(60.0)

    with pytest.raises(Throttled):
        policy.call(throttled)
    source["policies"] = {"openai": {"gate": "5s"}}
    assert registry.reload().components == ("gate.openai",)
    gate = registry.gate("openai")
    assert policy.layers == (gate,)
    assert (gate.name, gate.max_wait) == ("openai", 5)
    with pytest.raises(RateLimitedError, match="gate 'openai' is shut"):
        policy.call(int)


def test_a_gate_may_be_named_like_one_made_in_code() -> None:
    """Only who makes a second one by hand is warned: names of a registry are its own."""
    by_hand = Gate("vendor")
    registry = Registry({"gates": {"vendor": {"max_wait": 5}}, "policies": {"p": {"gate": "vendor"}}})
    (gate,) = registry.policy("p").layers
    assert gate is registry.gate("vendor")
    assert gate is not by_hand
    assert (gate.name, gate.max_wait) == ("vendor", 5)  # type: ignore[attr-defined]


def test_threads_that_ask_for_a_key_get_one_policy() -> None:
    """Only one of those made at the same moment is used."""
    keyed = Registry().keyed(lambda key: Bulkhead(1), key=str)
    barrier = threading.Barrier(8)
    found: list[Policy] = []

    def look() -> None:
        barrier.wait()
        found.extend(keyed.policy(key) for key in range(50))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(policy) for policy in found}) == 50


def test_a_key_error_reaches_the_caller() -> None:
    """Nothing was called then."""
    guarded: Callable[[str], str] = Registry().keyed("x", key=host)(lambda url: url)
    with pytest.raises(IndexError):
        guarded("nonsense")


def test_overrides_reach_keyed_policies() -> None:
    """All keys of that name, while the block lasts."""
    registry = Registry()
    guarded = registry.keyed("http", key=lambda key: key)(Failing(99).__call__.__func__)  # type: ignore[attr-defined]
    failing = Failing(99)
    with registry.override("http", Fallback(value="stand-in")):
        assert guarded(failing) == "stand-in"
    with registry.override("http", Retry(1)), pytest.raises(ConnectionError):
        guarded(failing)


def test_keyed_needs_a_way_to_make_policies() -> None:
    """A name, or a function of the key; and a plain key function."""
    registry = Registry()
    registry.add("mine", Policy(CircuitBreaker()))
    with pytest.raises(ValueError, match="made in code: give keyed"):
        registry.keyed("mine", key=str).policy(1)

    async def key(value: str) -> str:
        return value

    with pytest.raises(TypeError, match="key must be a plain function"):
        registry.keyed("x", key=key)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at_most"):
        registry.keyed("x", key=str, at_most=0)


# stacked decorators


def layers_of(guarded: Any) -> list[type]:
    return [type(layer) for layer in guarded.__resilient__.policy.layers]


def test_stacked_decorators_are_one_policy() -> None:
    """The topmost is the outermost, and a trace shows one operation."""

    @circuit_breaker(failures=9)
    @retry(3)
    @bulkhead(2)
    @rate_limit("100/s")
    @timeout(5, thread=False)
    def work() -> str:
        return failing()

    failing = Failing(2)
    seen = Events()
    work.__resilient__.policy.observe(seen)  # type: ignore[attr-defined]
    assert work() == "done"
    assert layers_of(work) == [CircuitBreaker, Retry, Bulkhead, RateLimit, Timeout]
    assert len(seen.of(events.CallStarted)) == 1
    assert [event.attempt for event in seen.of(events.AttemptStarted)] == [1, 2, 3]


def test_stacked_decorators_do_what_nesting_does(manual_clock: ManualClock) -> None:
    """A breaker outside of a retry counts operations, one inside counts attempts."""
    outside, inside = CircuitBreaker(failures=1), CircuitBreaker(failures=9)
    guarded = resilient(outside)(retry(3)(resilient(inside)(Failing(99))))
    with pytest.raises(ConnectionError):
        guarded()
    assert outside.state == "open"
    assert inside.metrics()["consecutive_failures"] == 3


async def test_stacks_keep_the_kind(h: Harness) -> None:
    """Sync and async alike."""
    calls = 0

    async def work() -> str:
        nonlocal calls
        calls += 1
        await h.sleep(1)
        if calls < 2:
            raise ConnectionError
        return "done"

    guarded = timeout(60, thread=False)(retry(2)(h.fn(work)))
    result = guarded()
    assert (result if h.blocking else await result) == "done"


def test_observers_of_a_part_hear_of_the_whole() -> None:
    """What `retry(...)` returns is a policy that can be observed, also under others."""
    seen = Events()
    part = retry(2)
    part.observe(seen)
    timeout(5, thread=False)(part(Failing(1)))()
    assert len(seen.of(events.RetryScheduled)) == 1


def test_policies_with_a_name_stay_operations_of_their_own() -> None:
    """As do Policy objects: only nameless sugar merges."""
    inner = resilient(Retry(2), name="inner")(Failing(0))
    assert layers_of(timeout(5, thread=False)(inner)) == [Timeout]
    assert not hasattr(inner, "__resilient__")
    assert layers_of(timeout(5, thread=False)(Policy(Retry(2))(Failing(0)))) == [Timeout]


def test_a_decorator_of_others_between_is_not_skipped() -> None:
    """`functools.wraps` copies our mark: that does not make its wrapper ours."""

    def shouting(fn: Callable[[], str]) -> Callable[[], str]:
        @functools.wraps(fn)
        def wrapper() -> str:
            return fn().upper()

        return wrapper

    guarded = timeout(5, thread=False)(shouting(retry(2)(Failing(1))))
    assert guarded() == "DONE"
    assert layers_of(guarded) == [Timeout]


def test_methods_of_all_kinds_can_be_stacked() -> None:
    """Also class and static methods, above or below their descriptor."""

    class Client:
        @retry(2)
        @bulkhead(2)
        def plain(self) -> str:
            return "plain"

        @retry(2)
        @bulkhead(2)
        @staticmethod
        def static() -> str:
            return "static"

        @retry(2)
        @bulkhead(2)
        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

    assert (Client().plain(), Client.static(), Client.of_class()) == ("plain", "static", "Client")


def test_a_name_shares_state_across_functions(named: Callable[[str], str]) -> None:
    """One circuit, one limit, one rate for the process: the registry's of that name."""
    name = named("shared")
    one = circuit_breaker(name=name, failures=1)(Failing(9))
    two = circuit_breaker(name=name)(Failing(0))
    with pytest.raises(ConnectionError):
        one()
    with pytest.raises(CircuitOpenError):
        two()
    for decorator, kind in ((bulkhead(3, name=name), "bulkhead"), (rate_limit(3, name=name), "rate_limit")):
        assert decorator.layers == (getattr(resilient_agents.registry, kind)(name),)


def test_the_sugar_finds_the_breaker_of_the_registry(named: Callable[[str], str]) -> None:
    """`breaker="name"` and `circuit_breaker(name=...)` are the same circuit, in either order."""
    first, second = named("first"), named("second")
    sugar = resilient(breaker=first)
    assert circuit_breaker(name=first).layers == sugar.layers  # type: ignore[attr-defined]
    plain = circuit_breaker(name=second, failures=2)
    assert resilient(breaker=second).layers == plain.layers  # type: ignore[attr-defined]


def test_without_parentheses_it_says_so() -> None:
    """`@retry` on a function is a mistake that is seen at once."""
    with pytest.raises(TypeError, match=r"write @retry\(\.\.\.\), with parentheses"):
        retry(lambda: None)  # type: ignore[arg-type]


def test_the_configuration_wins_over_the_sugar(named: Callable[[str], str]) -> None:
    """`breaker="name"` is a circuit of the registry, so the file that comes later has the numbers."""
    name = named("sugar")
    guarded = resilient(breaker=name)(Failing(9))
    try:
        resilient_agents.registry.configure({"circuit_breakers": {name: {"failures": 1}}})
        with pytest.raises(ConnectionError):
            guarded()
        with pytest.raises(CircuitOpenError):
            guarded()
    finally:
        resilient_agents.registry.clear()


def test_a_registry_keeps_no_policy_of_a_dropped_one_alive() -> None:
    """A registry of a test takes its breakers with it."""
    registry = Registry(SOURCE)
    registry.policy("openai")
    del registry
    gc.collect()
    assert not [breaker for breaker in instances.each("circuit_breaker") if breaker.name == "openai"]


def test_clearing_forgets_all_names() -> None:
    """And their state: functions look their policies up anew, and nobody hears of the old circuits any more."""
    registry = Registry(SOURCE)
    guarded = registry.late("openai")(Failing(0))
    guarded()
    before = registry.circuit_breaker("openai")
    before.open()
    registry.clear()
    assert before.state == "closed"
    assert guarded() == "done"
    assert [type(layer) for layer in registry.policy("openai").layers] == [Retry, CircuitBreaker]
    assert registry.circuit_breaker("openai") is not before
    assert registry.circuit_breaker("openai").failures == 5


def test_functions_follow_their_name_through_clears() -> None:
    """However many, and whether the policy is overridden or configured afterwards."""
    registry = Registry()
    registry.add("mine", mine := Policy(Fallback(value="mine")))
    failing = Failing(10**9)
    guarded, own = registry.late("openai")(failing), registry.late("mine")(Failing(10**9))
    assert own() == "mine"
    for _ in range(5):
        with registry.override("openai", Fallback(value="stand-in")):
            assert guarded() == "stand-in"
        registry.clear()
    registry.configure(SOURCE)
    failing.calls = 0
    with pytest.raises(CircuitOpenError):
        guarded()
    assert failing.calls == 2
    assert registry.circuit_breaker("openai").state == "open"
    assert own() == "mine" == mine.call(Failing(1))


def test_clearing_keeps_what_code_has_made() -> None:
    """Circuits of decorators and of CircuitBreaker(name): their functions go on with them."""
    registry = Registry()
    mine = CircuitBreaker("clear-mine", failures=1)
    asked = registry.circuit_breaker("clear-asked", failures=1)
    assert registry.policy("clear-mine").layers[1] is mine
    for breaker in (mine, asked):
        breaker.open()
    registry.clear()
    assert (mine.state, asked.state) == ("open", "open")
    assert registry.circuit_breaker("clear-mine") is mine
    assert registry.circuit_breaker("clear-asked") is asked


def test_keyed_policies_survive_a_clear() -> None:
    """They are made anew, and overrides and reloads reach them still."""
    registry = Registry({"policies": {"http": {"bulkhead": 1}}})
    keyed = registry.keyed("http", key=lambda key: key)
    guarded: Callable[[str], str] = keyed(lambda key: key)
    assert guarded("a") == "a"
    registry.clear()
    with registry.override("http", Fallback(value="x", on=Exception)):
        assert [type(layer) for layer in keyed.policy("a").layers] == [Fallback]
    registry.configure({"policies": {"http": {"bulkhead": 7}}})
    assert keyed.policy("a").layers[0].limit == 7  # type: ignore[attr-defined]


def test_a_config_object_will_do() -> None:
    """It just cannot be read again."""
    registry = Registry(loads("[policies.x]\nretry = 2\n"))
    assert isinstance(registry.policy("x").layers[0], Retry)
    with pytest.raises(RuntimeError, match="nothing to reload"):
        registry.reload()


def test_one_policy_for_threads_and_loops() -> None:
    """A named policy is one object however it is called."""
    registry = Registry({"policies": {"x": {"bulkhead": 1}}})
    guarded = registry.late("x")(Failing(0))

    async def work() -> str:
        return "async"

    assert guarded() == "done"
    assert asyncio.run(registry.late("x")(work)()) == "async"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.policy("x")


@pytest.mark.parametrize(("name", "policy", "error"), [("x", 5, TypeError), ("default", Policy(), ValueError)])
def test_add_takes_a_policy_of_a_name_of_its_own(name: str, policy: Any, error: type[Exception]) -> None:
    """`default` is the configuration's, for all other names."""
    with pytest.raises(error):
        Registry().add(name, policy)


@pytest.mark.parametrize(
    ("options", "kind"),
    [({"bulkhead": {"limit": 1, "queue": 0}}, "bulkhead"), ({"rate_limit": {"rate": 1, "max_wait": 0}}, "rate_limit")],
)
def test_a_refusal_names_the_limit(options: dict[str, Any], kind: str) -> None:
    """The event has the limit's own name, and so has the message."""
    registry = Registry({"policies": {"search": options}})
    policy, seen = registry.policy("search"), Events()
    policy.observe(seen)
    with pytest.raises(Rejected, match=f"the {kind.replace('_', ' ')} 'search'"):
        policy.call(lambda: policy.call(int))
    (event,) = seen.of(CallRejected)
    assert (event.strategy, event.name) == (kind, "search")
