"""Answers to questions that lead to other questions, and that may come back to themselves.

An answer depends on its question alone, not on what was asked before. Questions that lead to each other are a circle,
and a circle is always entered by the same of them, the first by name, whichever was asked: what was found on another
way is dropped. From there all are asked again, each with what the others have answered so far, until nothing changes.

What callers hand in is followed for so many hops and no further: what is asked with fewer hops left is another
question, unless its answer has needed no more than these.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Hashable
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar

from resilient_agents.scan.values import Values

__all__ = ["Answers"]

HOPS = 4
"""How often an argument may be handed on from one function to the next."""
SHORT = 1 << 10
"""The hops that an answer needed which had too few."""
DEEPEST = 300
"""Questions inside each other; one that lies deeper is answered first, by itself."""
LOSING_ROUNDS = 8
"""In which a question may lose what it has answered before; from then on it only gains, so that there is an end."""
MOST_ROUNDS = 60
NOWHERE = 1 << 30
"""The depth of what leads back to no open question."""
NOBODY: frozenset[Any] = frozenset()
"""The open questions that nearly all lead to."""
Made = TypeVar("Made")


class _Question:
    """One that is open: it is being answered, or its answer waits for that of another."""

    __slots__ = ("answer", "asked", "changed", "hops", "key", "led_to", "make", "needs", "reaches")

    def __init__(self, key: Hashable, make: Callable[[], Values], hops: int, depth: int) -> None:
        self.key = key
        self.make = make
        self.hops = hops
        """Left for it."""
        self.needs = 0
        """Hops that it needed."""
        self.answer: Values = ()
        self.reaches = depth
        """The lowest depth of an open question that it leads to, or its own."""
        self.led_to: AbstractSet[_Question] = NOBODY
        """The open ones that it needed when it was asked last."""
        self.asked = self.changed = 0
        """When, as its circle counts."""

    @property
    def due(self) -> bool:
        return any(each.changed > self.asked for each in self.led_to)


class _TooDeep(Exception):
    def __init__(self, question: _Question) -> None:
        self.question = question


class Answers:
    """Each question is answered once. A key has the same `repr` in every run."""

    def __init__(self) -> None:
        self.forget()
        self._open: dict[tuple[int, Hashable], _Question] = {}
        self._waiting: list[_Question] = []
        """The open ones that have an answer for now, in the order in which they got it."""
        self._depth = 0
        self._lowest = NOWHERE
        """Of the depths that the question under way has led back to so far."""
        self._led_to: set[_Question] = set()
        self._hops = HOPS
        """That are left."""
        self._needs = 0
        """The hops that the question under way needed so far."""

    def forget(self) -> None:
        self._final: dict[Hashable, Any] = {}
        """Of what needs no hops."""
        self._by_hops: list[dict[Hashable, tuple[Any, int]]] = [{} for _ in range(HOPS + 1)]
        """Of the rest, by how many are left; and how many are needed."""

    @property
    def kept(self) -> int:
        """How many answers are."""
        return len(self._final) + sum(map(len, self._by_hops))

    def once(self, key: Hashable, make: Callable[[], Values]) -> Values:
        """What `make` gives; it asks here for whatever else it needs to know."""
        known: Values | None = self._final.get(key)  # nearly always it is there, if it is known
        if known is None:
            known = self._known(key)
        if known is not None:
            return known
        if not self._depth:
            return self._from_outside(key, make)
        question = self._open.get((self._hops, key))
        if question is None:
            return self._ask(key, make)
        if question.reaches < self._lowest:
            self._lowest = question.reaches
        self._led_to.add(question)
        return question.answer

    def _known(self, key: Hashable) -> Any:
        known = self._final.get(key)
        if known is None and (answered := self._by_hops[self._hops].get(key)) is not None:
            known, needs = answered
            if needs > self._needs:
                self._needs = needs
        return known

    def settled(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is made of answers, for those that are asked for often; kept if these lead to no open question."""
        known = self._known(key)
        return known if known is not None else self.sure(make, key)[0]

    def sure(self, make: Callable[[], Made], key: Hashable = None) -> tuple[Made, bool]:
        """What is made of answers, and whether these count everywhere; with a key it is kept for as long as it may."""
        lowest, needs, self._lowest, self._needs = self._lowest, self._needs, NOWHERE, 0
        made = make()
        if key is not None and self._lowest == NOWHERE:
            self._keep(key, made, self._hops, self._needs)
        sure = self._lowest == NOWHERE and not self._needs
        self._lowest, self._needs = min(lowest, self._lowest), max(needs, self._needs)
        return made, sure

    @contextlib.contextmanager
    def hop(self) -> Generator[bool, None, None]:
        """Whether what callers hand in may be asked for."""
        if not self._hops:
            self._needs = SHORT
            yield False
            return
        needs, self._needs = self._needs, 0
        self._hops -= 1
        yield True  # an exception ends the outermost question, which starts afresh
        self._hops += 1
        self._needs = max(needs, self._needs + 1)

    def _from_outside(self, key: Hashable, make: Callable[[], Values]) -> Values:
        try:
            return self._ask(key, make)
        except _TooDeep:
            self._begin()
            return self._step_by_step(key, make)
        finally:
            self._begin()

    def _begin(self) -> None:
        """Nothing is open, whatever ended the question before."""
        if self._open or self._led_to:
            self._open.clear()
            self._waiting.clear()
            self._led_to = set()
        self._depth, self._lowest, self._hops = 0, NOWHERE, HOPS

    def _step_by_step(self, key: Hashable, make: Callable[[], Values]) -> Values:
        """The answer to one that leads too deep: what lies there is answered first."""
        asked = {(HOPS, key): _Question(key, make, HOPS, 0)}
        while True:
            question = next(reversed(asked.values()))
            self._hops = question.hops
            try:
                found = self._ask(question.key, question.make)
            except _TooDeep as deeper:
                further = deeper.question
                if (further.hops, further.key) in asked:  # so long a circle was made by a program: it is cut
                    self._keep(further.key, further.answer, further.hops, SHORT)
                asked[further.hops, further.key] = further
                continue
            finally:
                self._begin()
            del asked[question.hops, question.key]
            if not asked:
                return found

    def _keep(self, key: Hashable, answer: object, hops: int, needs: int) -> None:
        if not needs:
            self._final[key] = answer
            return
        for each in range(needs, HOPS + 1) if needs <= HOPS else (hops,):
            self._by_hops[each][key] = answer, needs

    def _ask(self, key: Hashable, make: Callable[[], Values]) -> Values:
        depth, first, hops = self._depth, len(self._waiting), self._hops
        question = _Question(key, make, hops, depth)
        if depth >= DEEPEST:
            raise _TooDeep(question)
        outer, needs = self._lowest, self._needs
        self._lowest, self._needs, self._depth = NOWHERE, 0, depth + 1
        self._open[hops, key] = question
        question.answer = make()
        question.needs = self._needs
        if self._lowest == NOWHERE:
            del self._open[hops, key]
            self._keep(key, question.answer, hops, question.needs)
            found = question.answer
        else:
            found = self._came_back(question, first)
        self._depth = depth
        self._lowest, self._needs = min(outer, self._lowest), max(needs, self._needs)
        return found

    def _came_back(self, question: _Question, first: int) -> Values:
        """The answer to one that leads to itself, or to one that is open already: then it waits for that one."""
        depth = question.reaches
        question.reaches = min(self._lowest, depth)
        self._waiting.append(question)
        self._led_to.add(question)
        if question.reaches < depth:
            return question.answer
        led_to = self._led_to
        entry = self._rest(question, first)
        self._led_to, self._depth = led_to, depth
        if entry is question:
            return question.answer
        self._leave(first)  # the circle is entered there, and this one asked again
        self._lowest = NOWHERE
        self._ask(entry.key, entry.make)
        if (question.hops, question.key) in self._open:
            return self._open[question.hops, question.key].answer
        self._depth = max(depth, 1)  # from inside, as there may be no question around it
        return self.once(question.key, question.make)

    def _leave(self, first: int) -> None:
        for each in self._waiting[first:]:
            del self._open[each.hops, each.key]
        del self._waiting[first:]

    def _rest(self, question: _Question, first: int) -> _Question:
        """Ask all that wait until nothing changes; it is the question where their circle is entered that decides.

        They are answered then, unless one leads further down: they all wait for that one.
        """
        depth, times, count = question.reaches, 0, first
        for number in range(MOST_ROUNDS):
            times_before, at = times, first
            while at < len(self._waiting):
                if len(self._waiting) > count:
                    for each in self._waiting[count:]:
                        each.reaches = depth
                    entry = min((question, *self._waiting[count:]), key=_name)
                    if entry is not question:
                        return entry
                    count = len(self._waiting)
                each = self._waiting[at]
                at += 1
                if each.asked and not each.due:
                    continue
                times += 1
                if self._changes(each, depth, times, number >= LOSING_ROUNDS):
                    each.changed = times + 1
                if self._lowest < depth:
                    for other in self._waiting[first:]:
                        other.reaches = self._lowest
                    return question
            if times == times_before:
                break
        self._needs = max(each.needs for each in self._waiting[first:])
        for each in self._waiting[first:]:
            self._keep(each.key, each.answer, each.hops, self._needs)
        self._leave(first)
        self._lowest = NOWHERE
        return question

    def _changes(self, question: _Question, depth: int, now: int, gaining: bool) -> bool:
        self._lowest, self._needs, self._led_to, self._depth = NOWHERE, 0, set(), depth + 1
        found = _in_order(question.answer, question.make(), gaining)
        question.asked, question.led_to, question.needs = now, self._led_to, self._needs
        before, question.answer = question.answer, found
        return found != before


def _name(question: _Question) -> str:
    return repr(question.key)


def _in_order(before: Values, now: Values, gaining: bool) -> Values:
    """What is there now, in the order in which it came, so that values do not change places for ever."""
    return (*(each for each in before if gaining or each in now), *(each for each in now if each not in before))
