"""What usage means to a budget: how it is read from results, what an attempt may come to, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resilient_agents import events
from resilient_agents.base.durations import number
from resilient_agents.core.call import Call
from resilient_agents.run_budgets.usage import Usage, usage_of

__all__ = ["Prices", "Read", "Terms"]

Read = Callable[..., Usage | float | None]
Prices = Mapping[str, tuple[float, float]] | Callable[[Usage], float]


class Terms:
    """Functions of the user's, none of which can take a call down: one that fails is logged once, and what was expected
    is charged. `largest`: the most tokens and the most money that one attempt came to so far."""

    def __init__(self, usage: Read, estimate: Read | None, prices: Prices | None, outer: Terms | None) -> None:
        self.usage: Read = usage if outer is None or usage is not usage_of else outer.usage
        self.estimate: Read | None = estimate if outer is None or estimate is not None else outer.estimate
        self.prices: Prices | None = prices if outer is None or prices is not None else outer.prices
        self.largest: list[float] = [0, 0] if outer is None else outer.largest
        self._complained: set[str] = set()

    @property
    def misread(self) -> bool:
        """Has `usage` failed, which is said already?"""
        return "usage" in self._complained

    def read(self, result: Any) -> Usage | int | None:
        """What a result says of its usage, a whole number of tokens as it is; None where it does not say."""
        try:
            used: Any = self.usage(result)
            return used if type(used) is int and used >= 0 else _checked(used)
        except Exception:
            self._complain("usage")
            return None

    def read_item(self, item: Any) -> Usage | None:
        """The same of an item of a stream, always as a Usage."""
        used = self.read(item)
        return Usage(0, used) if isinstance(used, int) else used

    def expected(self, call: Call, *, money: bool) -> tuple[float, float]:
        """Tokens and money that an attempt may come to: by `estimate`, else the most that one came to so far."""
        usage = None
        if self.estimate is not None:
            try:
                usage = _checked(self.estimate(*call.args, **call.kwargs))
            except Exception:
                self._complain("estimate")
        if usage is None:
            return self.largest[0], self.largest[1]
        return usage.tokens, self.price(usage, highest=True) if money else 0

    def learn(self, tokens: float, cost: float) -> None:
        if tokens > self.largest[0]:
            self.largest[0] = tokens
        if cost > self.largest[1]:
            self.largest[1] = cost

    def price(self, usage: Usage, *, highest: bool = False) -> float:
        """What the result says that it cost, else by the prices. `highest`: for a model that is not named, that of the
        most expensive one."""
        if usage.cost is not None:
            return usage.cost
        if self.prices is None and (highest or not usage.tokens):  # results name it, and this is none
            return self.largest[1] if highest else 0
        try:
            if self.prices is None:
                raise LookupError("results do not name what they cost: give prices= to run_budget")
            if callable(self.prices):
                return number(self.prices(usage), "the price")
            going_in, coming_out = _rates(self.prices, usage.model, highest=highest)
            return (usage.input * going_in + usage.output * coming_out) / 1e6
        except Exception:
            self._complain("prices")
            return self.largest[1]

    def _complain(self, what: str) -> None:
        if what not in self._complained:
            self._complained.add(what)
            events.logger.exception("the %s= of a run budget fails; what was expected is charged", what)


def _rates(prices: Mapping[str, tuple[float, float]], model: str | None, *, highest: bool) -> tuple[float, float]:
    """Money for a million tokens in and out: of the longest name that the model's begins with."""
    names = [name for name in prices if model is not None and model.startswith(name)]
    if names:
        return prices[max(names, key=len)]
    if highest or model is None:
        return max(going_in for going_in, _ in prices.values()), max(coming_out for _, coming_out in prices.values())
    raise LookupError(f"there is no price for the model {model!r}")


def _checked(usage: Usage | float | None) -> Usage | None:
    """What a function of the user's answered: a Usage, a number of tokens, or None for "I cannot tell"."""
    if usage is None or isinstance(usage, Usage):
        return usage
    number(usage, "usage")
    return Usage(0, usage)
