"""A dependency as an example has it."""

from __future__ import annotations

from dataclasses import dataclass

from resilient_agents.scan.advice.advise import Advised
from resilient_agents.scan.inventory import Found

__all__ = ["Guarded"]


@dataclass(frozen=True)
class Guarded:
    """A dependency in an example: the name of its policy, its table, and the variables that hold them."""

    name: str
    advised: Advised
    table: str
    variable: str
    once: str
    """The variable of the policy without a retry, for what may not be made twice; "" where none is needed."""

    word: str
    """What the names of its variables begin with; "" where it is the only one."""
    taken: frozenset[str]
    """Names of the file."""

    @property
    def variables(self) -> tuple[str, str]:
        """What holds the policies of its calls."""
        return self.variable, self.once

    def variable_for(self, call: Found) -> str:
        """What holds the policy of a call of it."""
        return self.once if self.once and self.advised.dependency.only_once(call) else self.variable

    def holds_up(self, call: Found) -> bool:
        """Whether a call holds up an event loop that a thread could spare it; what opens a file keeps to its thread."""
        it = self.advised.dependency
        return id(call) in it.holding and it.target.place != "file"

    def variable_of(self, what: str) -> str:
        name = f"{self.word}{what}"
        return f"{name}_" if name in self.taken else name
