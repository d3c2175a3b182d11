"""Changes of a circuit's state on their way to those who watch."""

from __future__ import annotations

from typing import Final

from resilient_agents import events
from resilient_agents.core.audience import Audience

__all__ = ["Changes"]

_KINDS: Final = {"open": events.CircuitOpened, "half-open": events.CircuitHalfOpened, "closed": events.CircuitClosed}


class Changes:
    """Each is told once and in order. `add` and `claim` are for the holder of the circuit's lock; `tell` takes none.

    Two threads that change the state one after the other must not tell of it in the other order. So the first of
    `_tellers` tells for all, while the others go on: nobody ever waits. Whoever adds a change after the teller's last
    look finds nobody telling. (It is no lock, as an exception from outside may land between taking one and the `try`
    that gives it back.)
    """

    __slots__ = ("_claimed", "_new", "_tellers")

    def __init__(self) -> None:
        self._new: list[events.CircuitChanged] = []
        self._claimed: list[tuple[events.CircuitChanged, Audience | None]] = []
        self._tellers: list[object] = []

    @property
    def waiting(self) -> bool:
        return bool(self._new or self._claimed)

    def add(self, name: str, old: str, new: str, *, shadow: bool) -> None:
        self._new.append(_KINDS[new]("", name, old, new, shadow))  # type: ignore[arg-type]  # pybreaker's names

    def claim(self, audience: Audience | None) -> None:
        """Those who watch the call that found them are told of the changes so far."""
        while self._new:
            self._claimed.append((self._new.pop(0), audience))

    def tell(self) -> None:
        tellers, me = self._tellers, object()
        while self._claimed and not tellers:
            try:
                tellers.append(me)
                while tellers[0] is me and self._claimed:
                    _tell(*self._claimed.pop(0))
            finally:
                if me in tellers:
                    tellers.remove(me)


def _tell(change: events.CircuitChanged, audience: Audience | None) -> None:
    if audience is None:
        events.publish(change)
    else:
        change.policy = audience.policy
        change.circuit_breaker = change.circuit_breaker or audience.policy
        audience.tell(change)
