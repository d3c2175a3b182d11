"""Which failure an error is, is found out once for all the layers that see it pass."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_agents import CircuitBreaker, Gate, Policy, Retry, classify, fixed
from resilient_agents.core.call import Call, Proceed
from tests.conftest import Harness


class Answered(Exception):
    """An error of a client: it has something to read, and counts how often somebody does."""

    looks = 0

    def __init__(self) -> None:
        super().__init__("overloaded")
        self.body = {"code": "overloaded"}

    @property
    def status_code(self) -> int:
        Answered.looks += 1
        return 503


class Reconsiders:
    """A layer of one's own that knows better."""

    async def execute(self, proceed: Proceed, call: Call) -> Any:
        try:
            return await proceed(call)
        except Answered as error:
            error.transient = False  # type: ignore[attr-defined]
            raise


async def test_an_error_is_read_once_however_many_layers_ask(h: Harness) -> None:
    """The breaker, the gate, those who watch and the retry ask one after another, of each attempt's own error."""
    Answered.looks = 0
    classify(Answered())
    once = Answered.looks
    policy = Policy(Retry(3, wait=fixed(0)), Gate(), CircuitBreaker(failures=9))
    policy.observe(lambda event: None)

    def work() -> None:
        raise Answered

    with pytest.raises(Answered):
        await h.call(policy, work)
    assert Answered.looks == (1 + 3) * once


async def test_what_a_layer_says_on_an_error_counts_for_those_around_it(h: Harness) -> None:
    """The breaker inside took it for what it was."""
    breaker = CircuitBreaker(failures=9)
    made: list[int] = []

    def work() -> None:
        made.append(1)
        raise Answered

    with pytest.raises(Answered):
        await h.call(Policy(Retry(3, wait=fixed(0)), Reconsiders(), breaker), work)
    assert len(made) == 1
    assert breaker.metrics()["failures"] == 1


async def test_an_error_whose_attributes_raise_is_judged_all_the_same(h: Harness) -> None:
    """What cannot be told from others is looked at by every layer."""

    class Exotic(ConnectionError):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise RuntimeError("nothing to see")

    breaker = CircuitBreaker(failures=9)

    def work() -> None:
        raise Exotic

    with pytest.raises(Exotic):
        await h.call(Policy(Retry(3, wait=fixed(0)), breaker), work)
    assert breaker.metrics()["failures"] == 3
