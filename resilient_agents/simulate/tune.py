"""Which options would do best? Tries a grid of them, or random ones, on all cores and keeps what nothing else beats."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from resilient_agents.base.durations import parse_duration
from resilient_agents.config import ConfigError
from resilient_agents.simulate.policies import named
from resilient_agents.simulate.result import Result
from resilient_agents.simulate.run import simulate
from resilient_agents.simulate.scenario import Scenario

__all__ = ["GOALS", "Goal", "Range", "Trial", "choices", "front", "parse_goals", "parse_range", "tune"]

GOALS: Mapping[str, Callable[[Trial], float]] = {
    "success": lambda trial: trial.success,
    "p99": lambda trial: trial.p99,
    "load": lambda trial: trial.load,
}
"""What a goal may be about: the share of calls that succeed, seconds, and requests per call."""


_DRAWS = 20
"""For each random point, at most: ranges may be too narrow for so many different ones."""


@dataclass(frozen=True)
class Range:
    """An option and the values that are tried. `unit`: "s" for durations, "" for numbers."""

    option: str
    low: float
    high: float
    whole: bool
    unit: str

    def values(self, count: int) -> list[str]:
        """At most `count` of them, both ends included, as a file would spell them. Durations and numbers with a
        fraction are spaced by a factor, because it is their order of size that matters."""
        if self.whole:
            steps = min(count, int(self.high - self.low) + 1)
            found = [round(value) for value in _spaced(self.low, self.high, steps)]
            return [str(value) for value in dict.fromkeys(found)]
        return [self._between(share) for share in _spaced(0, 1, count if self.high > self.low else 1)]

    def drawn(self, chance: random.Random) -> str:
        """One of them at random: whole numbers are equally likely, of others the orders of size."""
        if self.whole:
            return str(chance.randint(int(self.low), int(self.high)))
        return self._between(chance.random())

    def _between(self, share: float) -> str:
        if self.low == 0:
            value = self.high * share
        else:
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        return f"{value:.3g}{self.unit}"


def _spaced(low: float, high: float, count: int) -> list[float]:
    if count == 1 or low == high:
        return [low]
    return [low + (high - low) * number / (count - 1) for number in range(count)]


@dataclass(frozen=True)
class Goal:
    """What a trial is to reach: `success>=0.99`."""

    name: str
    least: bool
    bound: float

    def met(self, trial: Trial) -> bool:
        value = GOALS[self.name](trial)
        return value >= self.bound if self.least else value <= self.bound


@dataclass(frozen=True)
class Trial:
    """The options that were tried, and what came out."""

    changes: Mapping[str, str]
    success: float
    p99: float
    load: float

    @property
    def point(self) -> tuple[float, float, float]:
        """Less is better."""
        return -self.success, self.p99, self.load

    def beats(self, other: Trial) -> bool:
        """At least as good in everything, and better in something."""
        mine, theirs = self.point, other.point
        return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def parse_range(text: str) -> Range:
    """`retry.attempts=1..6` or `circuit_breaker.reset_timeout=1s..60s`. Raises ValueError for anything else."""
    found = re.fullmatch(r"([\w.]+)=(.+?)\.\.(.+)", text)
    if found is None:
        raise ValueError(f"must be OPTION=FROM..TO, such as retry.attempts=1..6, got {text}")
    option, low, high = found.groups()
    durations = [parse_duration(end) for end in (low, high)]
    if None not in durations:
        ends, whole, unit = [float(value or 0) for value in durations], False, "s"
    else:
        try:
            ends = [float(low), float(high)]
        except ValueError:
            raise ValueError(f"the ends must be two numbers or two durations, got {low} and {high}") from None
        whole, unit = all(re.fullmatch(r"\d+", end) is not None for end in (low, high)), ""
    if not 0 <= ends[0] <= ends[1] < math.inf:
        raise ValueError(f"must go from a number of at least 0 to one that is not smaller, got {low}..{high}")
    return Range(option, ends[0], ends[1], whole, unit)


def parse_goals(text: str) -> list[Goal]:
    """`success>=0.99, load<=1.3`. Raises ValueError for anything else."""
    goals: list[Goal] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*(>=|<=)\s*(\S+?)\s*", part)
        bound = None if found is None else _bound(found[3])
        if found is None or found[1] not in GOALS or bound is None:
            raise ValueError(f"must be {', '.join(GOALS)} with >= or <= and a number, got {part.strip()!r}")
        goals.append(Goal(found[1], found[2] == ">=", bound))
    return goals


def _bound(text: str) -> float | None:
    seconds = parse_duration(text)
    if seconds is not None:
        return seconds
    try:
        return float(text)
    except ValueError:
        return None


def choices(
    policy: tuple[str, str | None],
    ranges: Sequence[Range],
    points: int,
    *,
    seed: str | None = None,
    fixed: Mapping[str, str] | None = None,
) -> tuple[list[dict[str, str]], list[ConfigError]]:
    """A grid of about `points` choices of options, and what is wrong with those that do not go together. With a `seed`,
    which names the random stream, `points` choices at random: of several options they try more values of each. `fixed`:
    options that are the same in all.

    Raises ConfigError where none does, for an option or a value that the policy does not take; ValueError for an option
    that is named twice.
    """
    fixed = fixed or {}
    options = Counter([*(each.option for each in ranges), *fixed])
    twice = next((each for each, count in options.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice: one range or one value for each option")
    good: list[dict[str, str]] = []
    wrong: list[ConfigError] = []
    for tried in _grid(ranges, points) if seed is None else _random(ranges, points, seed):
        choice = {**fixed, **tried}
        try:
            named(*policy, changes=choice)
        except ConfigError as error:
            wrong.append(error)
        else:
            good.append(choice)
    if not good:
        raise wrong[0]
    return good, wrong


def tune(
    policy: tuple[str, str | None],
    scenario: Scenario,
    choices: Sequence[Mapping[str, str]],
    *,
    seed: str | None = None,
    workers: int | None = None,
    blocking: bool = False,
) -> Iterator[Trial]:
    """Simulate these choices of options, in processes of their own (default: one for each core), and give what comes of
    each as soon as that of those before it is known. All see the same named random streams."""
    workers = min(workers or os.cpu_count() or 1, len(choices))
    spawn = multiprocessing.get_context("spawn")
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_die_of_ctrl_c) as pool:
        jobs = [pool.submit(_try, policy, scenario, choice, seed, blocking) for choice in choices]
        try:
            for job in jobs:
                yield job.result()
        except BaseException:
            for child in multiprocessing.active_children():
                if child not in others:  # it would go on to the end, where the signal came to this process alone
                    child.terminate()
            raise


def _die_of_ctrl_c() -> None:
    """At once, and without a word: who started the workers hears of it, too."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def _grid(ranges: Sequence[Range], points: int) -> Iterator[dict[str, str]]:
    """The same number of values of each option; what an option with few values leaves over goes to the others."""
    values: dict[str, list[str]] = {}
    left = points
    by_size = sorted(ranges, key=lambda each: len(each.values(points)))
    for number, each in enumerate(by_size):
        values[each.option] = each.values(max(2, int(left ** (1 / (len(by_size) - number)) + 1e-9)))
        left //= len(values[each.option])
    for combination in itertools.product(*(values[each.option] for each in ranges)):
        yield {each.option: value for each, value in zip(ranges, combination, strict=True)}


def _random(ranges: Sequence[Range], points: int, seed: str) -> Iterator[dict[str, str]]:
    """Different ones; all there are, as a grid, where these are no more than `points`."""
    if all(each.whole for each in ranges) and math.prod(int(each.high - each.low) + 1 for each in ranges) <= points:
        yield from _grid(ranges, points)
        return
    chance = random.Random(f"{seed}/tune")
    found: dict[tuple[str, ...], None] = {}
    for _ in range(_DRAWS * points):
        found[tuple(each.drawn(chance) for each in ranges)] = None
        if len(found) == points:
            break
    for drawn in found:
        yield {each.option: value for each, value in zip(ranges, drawn, strict=True)}


def _try(
    policy: tuple[str, str | None], scenario: Scenario, changes: Mapping[str, str], seed: str | None, blocking: bool
) -> Trial:
    result: Result = simulate(named(*policy, changes=changes), scenario, seed=seed, blocking=blocking)
    return Trial(changes, result.success_rate, result.p99, result.attempts)


def front(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Those that no other one beats in success, p99 and load (the Pareto front), most successful first; what comes to
    the same stands together."""
    best = [trial for trial in trials if not any(other.beats(trial) for other in trials)]
    best.sort(key=lambda trial: trial.point)
    return [list(same) for _, same in itertools.groupby(best, key=lambda trial: trial.point)]
