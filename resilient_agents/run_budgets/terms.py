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

    def read(self, item: Any) -> Usage | None:
        """What an item of a stream says of its usage; None where it does not say."""
        try:
            return self.checked(self.usage(item))
        except Exception:
            self.not_read()
            return None

    def checked(self, used: Usage | float | None) -> Usage | None:
        """What `usage` has answered, if it makes sense."""
        try:
            return _checked(used)
        except Exception:
            self.not_read()
            return None

    def not_read(self) -> None:
        """`usage` has failed."""
        self._complain("usage")

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
        cost = self.price(usage) if money else 0
        return usage.tokens, self.largest[1] if cost is None else cost

    def learn(self, tokens: float, cost: float) -> None:
        if tokens > self.largest[0]:
            self.largest[0] = tokens
        if cost > self.largest[1]:
            self.largest[1] = cost

    def price(self, usage: Usage) -> float | None:
        """What the usage says that it costs, else by the prices; a model that these do not name costs what the dearest
        one does. None where nobody can tell."""
        if usage.cost is not None:
            return usage.cost
        if not usage.tokens:
            return 0
        if self.prices is None:
            self._warn("prices", f"nobody says what {usage.model or 'a model'} costs: give prices= to run_budget")
            return None
        if callable(self.prices):
            try:
                return number(self.prices(usage), "the price")
            except Exception:
                self._complain("prices")
                return None
        going_in, coming_out = self._rates(self.prices, usage.model)
        return (usage.input * going_in + usage.output * coming_out) / 1e6

    def _rates(self, prices: Mapping[str, tuple[float, float]], model: str | None) -> tuple[float, float]:
        """Money for a million tokens in and out: of the longest name that the model's begins with."""
        names = [name for name in prices if model is not None and model.startswith(name)]
        if names:
            return prices[max(names, key=len)]
        if model is not None:
            self._warn(f"model {model}", f"{model} is not among the prices of a run budget, and charged as the dearest")
        return max(going_in for going_in, _ in prices.values()), max(coming_out for _, coming_out in prices.values())

    def _warn(self, of: str, message: str) -> None:
        if of not in self._complained:
            self._complained.add(of)
            events.logger.warning(message)

    def _complain(self, what: str) -> None:
        if what not in self._complained:
            self._complained.add(what)
            events.logger.exception("the %s= of a run budget fails; what was expected is charged", what)


def _checked(usage: Usage | float | None) -> Usage | None:
    """What a function of the user's answered: a Usage, a number of tokens, or None for "I cannot tell"."""
    if usage is None or isinstance(usage, Usage):
        return usage
    number(usage, "usage")
    return Usage(0, usage)
