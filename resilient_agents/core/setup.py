"""What all calls of a policy have in common for those who watch: what they pass, and in which state it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from resilient_agents.core.fingerprint import fingerprint
from resilient_agents.core.options import Configured
from resilient_agents.events import CircuitState
from resilient_agents.events.recorder import Passage

__all__ = ["Setup", "place_of"]

_PASSED: Final = frozenset(("circuit_breaker", "bulkhead", "rate_limit", "gate"))


class Setup:
    """Made when the first call comes that is watched.

    `configuration`: the fingerprint of the options. `around`: what an operation passes before its first attempt, and
    `inside`: what each attempt passes, both outermost first, as pairs of strategy and name. `said`: what a recorder
    says of an attempt that passed all of it, once it has found the words; None before.
    """

    __slots__ = ("_bulkheads", "_circuits", "_layers", "_split", "around", "configuration", "inside", "said")

    def __init__(self, layers: Sequence[Any], split: int, others: Iterable[Any]) -> None:
        """`split`: how many of the layers are around the attempts. `others`: what belongs to the configuration, too."""
        self.configuration = fingerprint((*layers, *others))
        self.around = _passage(layers[:split])
        self.inside = _passage(layers[split:])
        self.said: Mapping[str, Any] | None = None
        self._layers, self._split = layers, split
        # Only of our own: to ask a native object may take a look into a storage elsewhere.
        ours: list[Any] = [layer for layer in layers if isinstance(layer, Configured)]
        self._circuits = [layer for layer in ours if layer.strategy == "circuit_breaker"]
        self._bulkheads = [layer for layer in ours if layer.strategy == "bulkhead"]

    def place(self, layer: object) -> tuple[str, bool]:
        """What a layer is called among the others, and whether each attempt passes it."""
        return place_of(layer, self._layers), not any(each is layer for each in self._layers[: self._split])

    def state(self) -> tuple[CircuitState | None, int, int] | None:
        """The state of a circuit that is not closed, None where all are; slots in use, and calls that wait for one.
        None at rest."""
        not_closed: list[CircuitState] = [state for each in self._circuits if (state := each.state) != "closed"]
        in_use = sum([bulkhead.in_use for bulkhead in self._bulkheads])
        if not (not_closed or in_use):
            return None
        return next(iter(not_closed), None), in_use, sum([bulkhead.queued for bulkhead in self._bulkheads])


def place_of(layer: Any, layers: Iterable[Any]) -> str:
    """Its strategy, and which of several of the kind it is, counted from outside: `circuit_breaker 2`."""
    alike = [each for each in layers if _strategy(each) == layer.strategy]
    number = 1 + next((i for i, each in enumerate(alike) if each is layer), 0)
    name: str = layer.strategy
    return name if number == 1 else f"{name} {number}"


def _strategy(layer: Any) -> Any:
    return getattr(layer, "strategy", None)


def _passage(layers: Iterable[Any]) -> Passage:
    return tuple((_strategy(layer), getattr(layer, "name", None)) for layer in layers if _strategy(layer) in _PASSED)
