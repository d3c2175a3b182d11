"""What an example guards: a dependency, a function, a call."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import NamedTuple

from resilient_agents.scan.advice.advise import Advised
from resilient_agents.scan.advice.examples.expressions import short
from resilient_agents.scan.advice.examples.fakes import Fake
from resilient_agents.scan.advice.examples.sources import FunctionNode
from resilient_agents.scan.inventory import Found

__all__ = ["Function", "Guard", "Guarded", "Placed"]


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
        return it.facts[id(call)].holds and it.target.place != "file"

    def variable_of(self, what: str) -> str:
        name = f"{self.word}{what}"
        return f"{name}_" if name in self.taken else name


@dataclass(frozen=True)
class Guard:
    """The variable that holds the policy for the calls of a dependency in a function, and that for `own`, one call."""

    policy: str
    dependency: str
    own: str = field(compare=False)
    holds_up: bool = field(compare=False)
    """Whether the call holds up the event loop of its function."""


class Placed(NamedTuple):
    """A call of an example: the variable of its policy, what stands in for it, its arguments as they are written."""

    found: Found
    policy: str
    fake: Fake | None
    said: str
    in_thread: bool
    """Whether a thread makes it that the file does not have."""
    made: ast.expr
    """The call as the example has it."""
    waits: bool
    """Whether an `await` of the function has to stand around it."""


@dataclass
class Function:
    """`by_call`: each call is guarded by itself; else the function is."""

    node: FunctionNode
    cls: str
    calls: list[Placed]
    by_call: bool

    @property
    def is_async(self) -> bool:
        return isinstance(self.node, ast.AsyncFunctionDef)

    @property
    def is_property(self) -> bool:
        return any(short(decorator) == "property" for decorator in self.node.decorator_list)

    @property
    def name(self) -> str:
        return f"{self.cls}.{self.node.name}" if self.cls else self.node.name
