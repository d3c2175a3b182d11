"""All that is known about libraries: the whole table, and what it says of a path and of what is imported."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate

from resilient_agents.scan.libraries import Client, Ends, Handler

__all__ = ["Known"]


@dataclass(frozen=True, eq=False)
class Known:
    """The whole table."""

    clients: Mapping[str, Client]
    canonical: Mapping[str, str]
    """Other paths of clients and functions."""
    functions: Mapping[str, tuple[Client, str]]
    """Dotted path of a function or constructor: the module client it belongs to and its name there."""
    patterns: tuple[tuple[str, str], ...]
    """Paths of classes with wildcards, for code that is generated, and their clients."""
    makers: Mapping[str, str]
    """Dotted path of a function: the client it returns."""
    chosen: Mapping[str, str]
    """Dotted path of a module: the client that each of its classes is."""
    ends: Mapping[str, Ends]
    waits: Mapping[str, tuple[tuple[str, ...], int]]
    """Functions that limit what stands in their first argument: argument names and position of the limit."""
    blocks: Mapping[str, tuple[tuple[str, ...], int]]
    """Context managers that limit what stands in them."""
    runners: Mapping[str, tuple[str, int]]
    """Functions that call the function they are given: its keyword and position."""
    passing: Mapping[str, int]
    """Functions that return what they are given, and its position."""
    protections: Mapping[str, str]
    """Decorators and objects that guard calls, and what of it their time limits end: all, what is awaited, none."""
    handlers: Mapping[str, tuple[Handler, ...]]
    """Decorators, and functions that are given a function to call: what they give it."""
    handing: frozenset[str]
    """Last words of these."""
    stand_ins: Mapping[str, str]
    """Modules that stand for others, and these: `six.moves.urllib`."""
    model_urls: tuple[str, ...]
    """What URLs end with whose POST asks a model: an answer, not a change."""
    servers: tuple[str, ...]
    """Last words of classes of servers that are given a `lifespan`."""
    roots: Mapping[str, frozenset[str]]
    """Top-level modules by the client that they are imported for."""
    modules: frozenset[str]
    """Names of the top-level modules."""
    packages: frozenset[str]
    """Paths of what holds a class or function of the table."""
    digest: str

    def names_something(self, path: str) -> bool:
        return any(path in each for each in (self.clients, self.canonical, self.functions, self.makers, self.ends))

    def function(self, path: str) -> tuple[Client | None, str]:
        """The module that a function belongs to, and its name there; of some modules any function counts."""
        module, _, name = path.rpartition(".")
        client, named = self.functions.get(path) or self.functions.get(f"{module}.*") or (None, "")
        return (client, name if named == "*" else named) if named != "*" or name[:1].islower() else (None, "")

    def generated(self, path: str) -> Client | None:
        """The client that a class is whose name only a pattern gives."""
        if self._any_pattern.match(path) is None:  # as nearly always
            return None
        return next((self.clients[name] for pattern, name in self.patterns if fnmatchcase(path, pattern)), None)

    @functools.cached_property
    def _any_pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(translate(pattern) for pattern, _ in self.patterns) or r"(?!)")

    def public(self, path: str) -> str:
        """The path by which the table knows a class that is imported from where it is defined.

        `nio.AsyncClient` for `nio.client.AsyncClient`; a module that has names of its own in the table is another
        place: `redis.asyncio.Redis` is not `redis.Redis`. What stands for a module is that module.
        """
        path = self.original(path)
        module, _, name = path.rpartition(".")
        if not name[:1].isupper() or path.partition(".")[0] not in self.modules or self.names_something(path):
            return path
        while "." in module and module not in self.packages:
            module = module.rpartition(".")[0]
            if self.names_something(f"{module}.{name}"):
                return f"{module}.{name}"
        return path

    def original(self, path: str) -> str:
        for name, module in self.stand_ins.items():
            if path == name or path.startswith(f"{name}."):
                return module + path[len(name) :]
        return path
