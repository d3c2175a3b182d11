"""What everything inside a block may use together: attempts, tokens, money.

    with run_budget(attempts=50, tokens=200_000, cost=2.50, prices={"gpt-5": (1.25, 10.0)}) as run:
        agent.run("...")
    print(run.spent, run.left)

A budget is ambient, like a deadline: every policy that is called inside knows of it, in whatever task or thread. Each
attempt is charged before it starts, and a refusal is raised before the request is made. Tokens and money are known when
the answer is there; until then what they may come to is reserved, so that calls in flight cannot overspend together.

An account is one number of one budget. Where budgets are nested, an inner account takes its limit out of the outer one
as a reservation, and hands back what it did not use: siblings cannot take it away meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from resilient_agents.base.durations import number, positive_int
from resilient_agents.base.now import now
from resilient_agents.base.spelling import EnteredPlainly
from resilient_agents.deadline import in_force
from resilient_agents.run_budgets.accounts import Amounts
from resilient_agents.run_budgets.budget import RunBudget, ambient, current
from resilient_agents.run_budgets.charge import charged, mark_of, paid, unmark
from resilient_agents.run_budgets.terms import Prices, Terms
from resilient_agents.run_budgets.usage import Usage, usage_of

__all__ = ["Amounts", "RunBudget", "Usage", "run_budget", "usage_of"]


class _Block(EnteredPlainly):
    call = "run_budget"
    _budget: RunBudget | None = None

    def __init__(self, limits: Amounts, *terms: Any) -> None:
        self._limits = limits
        self._terms = terms

    def __enter__(self) -> RunBudget:
        if self._budget is not None:
            raise RuntimeError("this run budget is in use; call run_budget() for each block")
        outer = current()
        usage, estimate, prices = self._terms
        terms = Terms(usage, estimate, prices, None if outer is None else outer.terms)
        self._budget = budget = RunBudget(self._limits, terms, outer)
        try:
            budget.open()
            ambient.set(budget)
        except BaseException:  # from outside, when it was in force already: then nobody leaves
            budget.active = False
            budget.close()
            raise
        return budget

    def __exit__(self, *_: object) -> None:
        budget = self._budget
        assert budget is not None
        budget.active = False
        budget.close()
        self._budget = None
        if ambient.get() is budget:  # not where a generator is closed in another context
            ambient.set(budget.outer)
            unmark()

    def __del__(self) -> None:
        if self._budget is not None:  # an exception from outside kept `__exit__` from beginning
            self._budget.active = False
            self._budget.close()


def run_budget(
    attempts: int | None = None,
    tokens: float | None = None,
    cost: float | None = None,
    *,
    usage: Callable[[Any], Usage | float | None] = usage_of,
    estimate: Callable[..., Usage | float | None] | None = None,
    prices: Prices | None = None,
) -> AbstractContextManager[RunBudget]:
    """Give everything in this block, nested policies included, so many attempts, tokens and so much money together.

    A plain `with` in blocking and async code. Every attempt of a policy inside is charged before it starts, also those
    of a hedge that lose; one for which there is not enough left raises `BudgetExceededError` in place of the request.
    Nested budgets are slices: they never exceed the outer one, and hand back what they did not use.

    Args:
        attempts: How many attempts may start; None (default) for any number.
        tokens: How many tokens, of all models together, in and out.
        cost: How much money, in the currency of `prices`.
        usage: What a result used: a `Usage`, a number of tokens, or None where it does not say. The default reads the
            results and streams of the common SDKs and frameworks. Of a stream it is asked of each item, and the largest
            counts. What does not say is charged what was expected, with a warning once for each function.
        estimate: What an attempt may come to, from the function's arguments: as `usage` answers. It is reserved while
            the attempt runs; where it is never too low, the budget is never overspent. By default the most that one
            attempt came to so far.
        prices: Money for a million tokens that go in and that come out, by the beginning of the model's name, or a
            function of the `Usage`. By default that of the budget around it, else the money that results name. A model
            that the table does not name is charged as the dearest one in it, which the log says once. Where nobody can
            tell what tokens cost, and nothing was estimated, their result comes out and no further attempt starts.

    Raises:
        ValueError: no limit is given, or one is negative or not finite.
        TypeError: a limit is no number, or a function cannot be called.
    """
    if attempts is None and tokens is None and cost is None:
        raise ValueError("one of attempts, tokens and cost must be given")
    for name, function in (("usage", usage), ("estimate", estimate)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, got {function!r}")
    limits = Amounts(
        None if attempts is None else positive_int(attempts, "attempts", minimum=0),
        None if tokens is None else _plain(number(tokens, "tokens")),
        None if cost is None else number(cost, "cost"),
    )
    now.deadline, now.budget = _ambient, ambient.get  # from now on calls look for budgets, too
    now.charged, now.charge, now.paid = charged, mark_of, paid
    return _Block(limits, usage, estimate, _priced(prices))


def _plain(value: float) -> float:
    return int(value) if value.is_integer() else value


def _priced(prices: Prices | None) -> Prices | None:
    if prices is None or callable(prices):
        return prices
    if not isinstance(prices, Mapping):
        raise TypeError(f"prices must be a table by model or a function of the usage, got {prices!r}")
    if not prices:
        raise ValueError("prices must name at least one model, got {}")
    checked: dict[str, tuple[float, float]] = {}
    for model, pair in prices.items():
        what = f"the price of {model!r}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{what} must be a pair, for a million tokens in and out, got {pair!r}")
        checked[model] = (number(pair[0], what), number(pair[1], what))
    return checked


def _ambient() -> Any:
    """What the context carries of deadlines and budgets, perhaps outlived."""
    return ambient.get() or in_force()
