"""The clients of a file: what an example calls them, how the file makes them, and where a fake takes their place."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from resilient_agents.scan.advice.examples.expressions import RESERVED, Kept, Unfit, Words, short
from resilient_agents.scan.advice.examples.sources import Source
from resilient_agents.scan.form import Site
from resilient_agents.scan.libraries import Client
from resilient_agents.scan.sightings import Sighting
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import ClientValue, Made

__all__ = ["Clients", "Held", "Making", "Place", "place_of"]


@dataclass
class Held:
    """A client that a module or an object holds."""

    name: str
    client: Client
    made: ast.expr | None
    """The call that makes it; None where it is handed in, or made by more than a call."""
    said: str
    """How the file has it."""
    guard: str = ""
    """The variable of the policy that guards the making; "" where to make it waits for nobody."""
    parts: tuple[str, ...] = ()
    """The names that what is made is unpacked to; none where it is one thing."""
    nameable: bool = True
    """Whether the name of its library means the library in the file."""

    @property
    def waits(self) -> bool:
        """Whether to make it is awaited."""
        return self.made is not None and any(isinstance(each, ast.Await) for each in ast.walk(self.made))

    @property
    def type(self) -> ast.expr:
        return ast.parse(self.client.name if self.nameable else "Any", mode="eval").body


Place = tuple[str, int, int, int, int]
"""The path of a call, where it begins and where it ends: `a().b()` and `a()` begin at the same place."""


def place_of(path: str, site: Site) -> Place:
    return path, site.line, site.column, site.end_line, site.end_column


class Making(NamedTuple):
    """A call that makes a client and talks to what it connects to, as the inventory has it."""

    is_async: bool
    guard: str
    """The variable of the policy of that dependency; "" where the example has none."""


@dataclass
class Clients:
    """Those of one example. `sources` gives the tree of any file of the scan."""

    sources: Callable[[SourceFile], Source]
    kept: Kept
    file: SourceFile
    making: Callable[[Made], Making | None]
    """What the call that made a client is; None where it waits for nobody."""
    top: dict[str, Held] = field(default_factory=dict)
    of_class: dict[str, dict[str, Held]] = field(default_factory=dict)
    typed: dict[str, Held] = field(default_factory=dict)
    """Parameters of the function at hand that are clients."""
    handed: list[Held] = field(default_factory=list)
    """Those of all functions."""
    connected: set[Place] = field(default_factory=set)
    """Places of the calls that make clients which the module or an object holds."""
    made_there: set[tuple[str, str]] = field(default_factory=set)
    """(class or "", name) of those that a function of the example makes."""

    def copy(self) -> Clients:
        """As they are now, whatever becomes of these."""
        return replace(
            self,
            top=dict(self.top),
            of_class={cls: dict(held) for cls, held in self.of_class.items()},
            handed=list(self.handed),
            connected=set(self.connected),
            made_there=set(self.made_there),
        )

    def place(self, words: Words, call: ast.Call, seen: Sighting, cls: str, local: dict[str, ClientValue]) -> None:
        """Say in the words of a function what its call is made on. Raises Unfit."""
        owner = seen.owner
        if owner is None:
            return
        node = _owner(call, seen)
        match node:
            case ast.Name(id=name) if name in words.parameters:
                self.typed[name] = Held(name, owner.client, None, name, nameable=self._nameable(owner.client))
                self.handed.append(self.typed[name])
                words.places[id(node)] = ast.Name(name, ast.Load())
            case ast.Name(id=name) if name in words.local:
                local[name] = owner
                words.places[id(node)] = ast.Name(name, ast.Load())
            case ast.Name():
                words.places[id(node)] = self._top(node.id, owner, node)
            case ast.Attribute(value=ast.Name(id="self" | "cls")) if cls:
                words.places[id(node)] = self._of_object(node, owner, cls)
            case ast.Subscript():
                raise Unfit(f"its client is one of several: {short(node)}")
            case ast.Call() if words.has_call(node):
                return  # the function makes it by a call that the example is about
            case _:
                name = _name_for(owner)
                name = f"{name}_client" if name in words.parameters or name in words.local else name
                made = self._held(name, owner, node)
                inline = made.made if not (made.guard or made.waits) else None
                words.places[id(node)] = inline if inline is not None else self._top(name, owner, node)

    def place_maker(self, words: Words, value: ast.expr, owner: ClientValue, cls: str) -> None:
        """Say what a client of the function is made by, where that is a client of the module or the object: a context
        of sockets. Raises Unfit."""
        maker = owner.of
        node = value.func.value if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) else None
        if maker is None or maker.made is None:
            return
        match node:
            case ast.Name(id=name) if name not in words.local and name not in words.parameters:
                words.places[id(node)] = self._top(name, maker, node)
            case ast.Attribute(value=ast.Name(id="self"), attr=attr) if cls and attr != maker.made.spot.within.name:
                words.places[id(node)] = self._of_object(node, maker, cls)  # it holds it, and no property gives it
            case _:
                pass

    def _of_object(self, node: ast.Attribute, owner: ClientValue, cls: str) -> ast.expr:
        held = self.of_class.setdefault(cls, {})
        held.setdefault(node.attr, self._connects(self._held(node.attr, owner, node), owner))
        return ast.Attribute(node.value, node.attr, ast.Load())

    def leave_to_functions(self) -> None:
        """What a function of the example makes is made nowhere else."""
        for cls, name in self.made_there:
            held = (self.of_class.get(cls, {}) if cls else self.top).get(name)
            if held is not None:
                held.made = None

    def instead(self, words: Words, name: str, owner: ClientValue) -> None:
        """Hold at the top of the module what the function has by means of its own, by a name that is free there."""
        held = self._top(name, owner, ast.Name(name, ast.Load()))
        words.places |= {
            at: held for at, each in words.places.items() if isinstance(each, ast.Name) and each.id == name
        }

    def _top(self, name: str, owner: ClientValue, node: ast.expr) -> ast.expr:
        bound = self.sources(self.file).bindings.get(name, [])
        defined = any(isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) for each in bound)
        # What is not made has its class as its type, so that the module of that class is there under its name.
        module = name == owner.client.name.partition(".")[0]
        module = module and (self.construct(owner) is None or not isinstance(node, ast.Name))
        if defined or module or name in RESERVED or (bound and not isinstance(node, ast.Name)):
            name = f"{name}_client"
        before = self.top.get(name)
        if before is not None and before.client is not owner.client:
            raise Unfit(f"{name} stands for several clients")
        if before is None:
            self.top[name] = self._connects(self._held(name, owner, node), owner)
        return ast.Name(name, ast.Load())

    def _held(self, name: str, owner: ClientValue, node: ast.expr) -> Held:
        makers, each = [], owner
        while each.made is not None:
            makers.append(self.making(each.made))
            if each.of is None:
                break
            each = each.of
        guard = next((making.guard for making in makers if making is not None), "")
        parts, nameable = self._parts(owner), self._nameable(owner.client)
        return Held(name, owner.client, self.construct(owner), short(node), guard, parts, nameable)

    def _nameable(self, client: Client) -> bool:
        """False for `redis.Redis` in a file that says `import redis.asyncio as redis`."""
        root = client.name.partition(".")[0]
        bound = self.sources(self.file).bindings.get(root, [])
        return all(isinstance(each, ast.Import) and all(alias.asname != root for alias in each.names) for each in bound)

    def _connects(self, held: Held, owner: ClientValue) -> Held:
        if held.made is not None and owner.made is not None:
            site = owner.made.site
            self.connected.add(place_of(owner.made.spot.file.path, site))
        return held

    def _parts(self, owner: ClientValue) -> tuple[str, ...]:
        source = self.sources(owner.made.spot.file) if owner.made is not None else None
        node = source.call(owner.made.site) if source is not None and owner.made is not None else None
        return tuple(source.unpacked(node)) if source is not None and node is not None else ()

    def construct(self, owner: ClientValue) -> ast.expr | None:
        """The call that makes it as the file has it; None where there is more to it."""
        if owner.made is None or owner.made.before:  # by a thread
            return None
        file = owner.made.spot.file
        source = self.sources(file)
        node = source.call(owner.made.site)
        if node is None:
            return None
        kept = self.kept if file is self.file else Kept(self.kept.external)
        words = Words(source, kept)
        try:
            made = words.called(node)
            if isinstance(made.func, ast.Call) and _is_given(made.func):
                return None
            if _rooted_in_given(made.func):
                base = self.construct(owner.of) if owner.of is not None else None
                if base is None or not isinstance(node.func, ast.Attribute):
                    return None
                made = ast.Call(ast.Attribute(base, node.func.attr, ast.Load()), made.args, made.keywords)
        except Unfit:
            return None
        if "max_retries" in owner.client.retry_limit and "max_retries" not in owner.made.site.keywords:
            made.keywords.append(ast.keyword("max_retries", ast.Constant(0)))  # the policy retries
        if file is not self.file and not _merged(self.kept, kept):
            return None
        making = self.making(owner.made)
        return ast.Await(made) if making is not None and making.is_async else made


def _owner(call: ast.Call, seen: Sighting) -> ast.expr:
    """What stands before the name of the operation."""
    node = call.func
    words = seen.name.split(".") if seen.name else []
    if seen.runner:
        handed = [*call.args, *(each.value for each in call.keywords)]
        found = [each for each in handed if isinstance(each, ast.Attribute) and words and each.attr == words[-1]]
        if not found:
            raise Unfit(f"what {short(call.func)} runs is not written there")
        node = found[0]
    for _ in words:
        if not isinstance(node, ast.Attribute):
            raise Unfit(f"{short(node)} stands for a method that was put away before")
        node = node.value
    return node


def _name_for(owner: ClientValue) -> str:
    return owner.client.name.rpartition(".")[2].lower()


def _is_given(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "given"


def _rooted_in_given(node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return _is_given(node)


def _merged(kept: Kept, other: Kept) -> bool:
    """Whether what another file has goes together with what this one has; then it is taken over."""
    for mine, theirs in ((kept.imports, other.imports), (kept.constants, other.constants)):
        for name, line in theirs.items():
            if name in mine and ast.dump(mine[name]) != ast.dump(line):
                return False
    if other.imports.keys() & kept.constants.keys() or other.constants.keys() & kept.imports.keys():
        return False
    kept.imports |= other.imports
    kept.constants |= other.constants
    return True
