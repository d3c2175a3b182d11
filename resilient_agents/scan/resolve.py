"""Which values an expression may have: names are followed through scopes, files, attributes, calls and annotations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from resilient_agents.scan.annotations import annotated
from resilient_agents.scan.answers import Answers
from resilient_agents.scan.callers import own_object, parameter
from resilient_agents.scan.containers import element, elements, enter, inside
from resilient_agents.scan.form import Binding, Expression, declares, dotted
from resilient_agents.scan.given import in_life, in_path, in_state
from resilient_agents.scan.known import Known
from resilient_agents.scan.libraries import Client
from resilient_agents.scan.members import attribute
from resilient_agents.scan.results import result
from resilient_agents.scan.tree import SourceFile, Tree
from resilient_agents.scan.values import (
    ClassValue,
    Data,
    FunctionValue,
    ModuleValue,
    Spot,
    Symbol,
    Values,
    best,
    made,
    union,
)
from resilient_agents.scan.versions import normal
from resilient_agents.scan.words import Words

__all__ = ["Resolver"]

WRITTEN = frozenset({"import", "scope", "const", "dict", "seq", "lambda", "starts", "joined"})  # whatever else there is


class Resolver(Answers):
    """Values by expression and spot. What does not resolve has no values."""

    def __init__(self, tree: Tree, known: Known, pin: Callable[[str, str], str]) -> None:
        self.tree = tree
        self.known = known
        self._pin = pin
        self.words = Words(known)
        super().__init__()

    def versions(self, client: Client, spot: Spot) -> str:
        """Those of its library that count where this is."""
        key = spot.file, client.library.package
        if key not in self._pinned:
            self._pinned[key] = self._pin(spot.file.path, normal(key[1])) if key[1] else ""
        return self._pinned[key]

    def has(self, package: str, spot: Spot) -> bool:
        """Whether files of its group import it, or the project that this is in says which versions of it."""
        imported = self.tree.by_name.groups.imported(spot.file)
        return package in imported or bool(self._pin(spot.file.path, normal(package)))

    def forget(self) -> None:
        super().forget()
        self.tree.forget()
        self._symbols: dict[str, Values] = {}
        self._pinned: dict[tuple[SourceFile, str], str] = {}
        self.callers: dict[tuple[SourceFile, int, str], list[tuple[Spot, int]]] = {}
        """By function and name: the calls of that name but for those that reach another one for sure."""

    def symbol(self, path: str) -> Values:
        """Something outside of the tree; made once."""
        known = self._symbols.get(path)
        if known is None:
            known = self._symbols[path] = (Symbol(self.known.public(path)),)
        return known

    def evaluate(self, expression: Expression, spot: Spot) -> Values:
        return HANDLERS[expression[0]](self, expression, spot) if expression is not None else ()

    def callee(self, spot: Spot, index: int) -> Values:
        """What is called there, which all that look for the callers of a function of this name ask."""
        callee = spot.within.calls[index].callee
        return self.settled((spot.file, spot.scope, index), lambda: self.evaluate(callee, spot))

    # -- names

    def name(self, expression: Any, spot: Spot) -> Values:
        return self.lookup(expression[1], spot)

    def lookup(self, name: str, spot: Spot) -> Values:
        file, own, _, _ = spot
        scopes = file.form.scopes
        index = own
        while index >= 0:
            scope = scopes[index]
            if index == own or scope.kind != "class":
                bindings = scope.bindings.get(name)
                if bindings is not None:
                    return self.bound(name, bindings, file, index, spot if index == own else None)
            index = scope.parent
        return self.starred(name, file)

    def bound(self, name: str, bindings: list[Binding], file: SourceFile, index: int, spot: Spot | None) -> Values:
        """What a name is: of the bindings that may have run last before the spot, or of all of them."""
        if len(bindings) > 1 and spot is not None:
            bindings = spot.reaching(bindings)
        key = (file, index, name, bindings[0].order, len(bindings))
        known: Values | None = self._final.get(key)
        if known is None and len(bindings) == 1 and self._asks_nothing(bindings[0].value, file, index):
            known = self._final[key] = self._of_bindings(bindings, file, index)
        return known if known is not None else self.once(key, lambda: self._of_bindings(bindings, file, index))

    def _asks_nothing(self, value: Expression, file: SourceFile, index: int) -> bool:
        """Whether what a name is given is what is written there, so that no circle can lead through it."""
        kind = value[0] if value is not None else ""
        if kind == "from":
            return not value[1] and self.tree.module(value[2], file) is None  # type: ignore[index]
        return kind in WRITTEN or (value == ("param", 0) and own_object(file, index) is not None)

    def _of_bindings(self, bindings: list[Binding], file: SourceFile, index: int) -> Values:
        if len(bindings) == 1:
            value, order, block, _ = bindings[0]
            return self.evaluate(value, Spot(file, index, order, block))

        def every(some: list[Binding]) -> Values:
            return union([self.evaluate(b.value, Spot(file, index, b.order, b.block)) for b in some])

        declared = [binding for binding in bindings if declares(binding.value)]
        if not declared:
            return every(bindings)
        return best(every([binding for binding in bindings if binding not in declared]), every(declared))

    def starred(self, name: str, file: SourceFile) -> Values:
        for dots, module in file.form.stars:
            other = self.tree.relative(dots, module, file) if dots else self.tree.module(module, file)
            if other is not None:
                if found := self.global_of(other, name):
                    return found
            elif self.known.names_something(f"{module}.{name}"):
                return self.symbol(f"{module}.{name}")
        return self.symbol(f"builtins.{name}")

    def global_of(self, file: SourceFile, name: str) -> Values:
        """A name of a module: its own, one that it imports, a submodule."""
        bindings = file.form.scopes[0].bindings.get(name)
        if bindings is not None:
            return self.bound(name, bindings, file, 0, None)
        submodule = self.tree.exact((*file.parts, name))
        if submodule is not None:
            return (ModuleValue(submodule),)
        if file.form.stars:
            found = self.once((file, "star", name), lambda: self.starred(name, file))
            return tuple(value for value in found if value != Symbol(f"builtins.{name}"))
        return ()

    def imported(self, expression: Any, spot: Spot) -> Values:
        found = self.tree.module(expression[1], spot.file)
        return (ModuleValue(found),) if found is not None else self.symbol(expression[1])

    def imported_from(self, expression: Any, spot: Spot) -> Values:
        _, dots, module, name = expression
        if dots:
            file = self.tree.relative(dots, module, spot.file)
            if file is None:  # a folder without `__init__.py`
                file = self.tree.relative(dots, f"{module}.{name}" if module else name, spot.file)
                return (ModuleValue(file),) if file is not None else ()
        else:
            file = self.tree.module(module, spot.file)
            if file is None:
                inside = self.tree.module(f"{module}.{name}", spot.file)
                return (ModuleValue(inside),) if inside is not None else self.symbol(f"{module}.{name}")
        return self.global_of(file, name) if file is not None else ()

    # -- what is made of other expressions

    def attribute_of(self, expression: Any, spot: Spot) -> Values:
        _, owner, name = expression
        if name in spot.file.given():
            path = dotted(expression)
            if path and (found := in_path(self, path, spot)):
                return found
        is_state = owner is not None and owner[0] == "attr" and owner[2] == "state" and dotted(owner)
        if is_state and (found := in_state(self, name, spot.file)):
            return found
        if name == "lifespan_context" and (found := in_life(self, spot.file)):
            return found
        values = self.lookup(owner[1], spot) if owner and owner[0] == "name" else self.evaluate(owner, spot)
        if len(values) == 1:  # nearly always
            return attribute(self, values[0], name)
        return union([attribute(self, value, name) for value in values])

    def call(self, expression: Any, spot: Spot) -> Values:
        return self.once((spot.file, spot.scope, expression[1], "()"), lambda: result(self, spot, expression[1]))

    def transparent(self, expression: Any, spot: Spot) -> Values:
        return self.evaluate(expression[1], spot)

    def entered(self, expression: Any, spot: Spot) -> Values:
        return union([enter(self, value) for value in self.evaluate(expression[1], spot)])

    def each(self, expression: Any, spot: Spot) -> Values:
        found = [elements(self, value) for value in self.evaluate(expression[1], spot)]
        path = dotted(expression[1])
        if path:
            found.append(self.collected(path, spot))
        return union(found)

    def collected(self, path: str, spot: Spot) -> Values:
        """What was put into a container: `clients[…] = x`, `clients.append(x)`."""
        found = [in_path(self, f"{path}[]", spot)]
        owner, _, name = path.rpartition(".")
        if owner:
            values = self.lookup(owner, spot) if "." not in owner else in_path(self, owner, spot)
            found += [attribute(self, value, f"{name}[]") for value in values]
        return union(found)

    def part(self, expression: Any, spot: Spot) -> Values:
        _, base, index = expression
        return union([element(self, value, index) for value in self.evaluate(base, spot)])

    def item(self, expression: Any, spot: Spot) -> Values:
        _, base, key = expression
        found: list[Values] = []
        for value in self.evaluate(base, spot):
            if isinstance(value, Symbol) and value.path.startswith(("typing", "os.environ")):
                return (Data(expression, spot),)  # a type (`Annotated[Session, Depends(session)]`), a variable
            if key is not None and key[0] == "const":
                if isinstance(key[1], int):
                    found.append(element(self, value, key[1]))
                    continue
                if isinstance(value, Data) and value.expression and value.expression[0] == "dict":
                    found.append(inside(self, value.expression[1].get(key[1]), value.spot))
                    continue
            found.append(elements(self, value))
        path = dotted(base)
        if path and not any(map(made, found)):
            collected = self.collected(path, spot)
            found = [made(collected)] if made(collected) else [*found, collected]
        if not any(found) and base is not None and base[0] == "name":
            found += [elements(self, value) for value in self.declared(base[1], spot)]
        return union(found) if found else ()

    def declared(self, name: str, spot: Spot) -> Values:
        """What the annotation of a variable says, whatever it was given: `pages: dict[str, Page] = {}`."""
        scopes, index = spot.file.form.scopes, spot.scope
        while index >= 0 and name not in scopes[index].bindings:
            index = scopes[index].parent
        bindings = scopes[index].bindings[name] if index >= 0 else []
        return union(
            [
                self.evaluate(each.value[1][-1], Spot(spot.file, index, each.order, each.block))
                for each in bindings
                if each.value is not None and each.value[0] == "first"
            ]
        )

    def data(self, expression: Any, spot: Spot) -> Values:
        return (Data(expression, spot),) if expression != ("const", None) else ()

    def either(self, expression: Any, spot: Spot) -> Values:
        return union([self.evaluate(each, spot) for each in expression[1]])

    def first(self, expression: Any, spot: Spot) -> Values:
        return best(*(self.evaluate(each, spot) for each in expression[1]))

    def parameter(self, expression: Any, spot: Spot) -> Values:
        return parameter(self, spot.file, spot.scope, expression[1])

    def defined(self, expression: Any, spot: Spot) -> Values:
        number = expression[1]
        if spot.file.form.scopes[number].kind == "class":
            return (ClassValue(spot.file, number),)
        return (FunctionValue(spot.file, number),)

    def inner(self, expression: Any, spot: Spot) -> Values:
        _, scope, value, order, block = expression
        return self.evaluate(value, Spot(spot.file, scope, order, block))

    def returned(self, function: FunctionValue) -> Values:
        """What calling a function of the tree gives."""

        def make() -> Values:
            scope, file = function.within, function.file
            found = union([self.evaluate(b.value, Spot(file, function.scope, b.order, b.block)) for b in scope.results])
            if not found:
                found = self.annotated(scope.returns, Spot(file, scope.parent, 1 << 30, 0))
            return found

        return self.once((function.file, function.scope, "returns"), make)

    def typed(self, expression: Any, spot: Spot) -> Values:
        return self.annotated(expression[1], spot)

    def annotated(self, expression: Expression, spot: Spot) -> Values:
        return annotated(self, expression, spot)


HANDLERS: dict[str, Callable[[Resolver, Any, Spot], Values]] = {
    "name": Resolver.name,
    "attr": Resolver.attribute_of,
    "call": Resolver.call,
    "const": Resolver.data,
    "dict": Resolver.data,
    "starts": Resolver.data,
    "joined": Resolver.data,
    "seq": Resolver.data,
    "lambda": Resolver.data,
    "either": Resolver.either,
    "first": Resolver.first,
    "item": Resolver.item,
    "await": Resolver.transparent,
    "enter": Resolver.entered,
    "each": Resolver.each,
    "part": Resolver.part,
    "param": Resolver.parameter,
    "scope": Resolver.defined,
    "import": Resolver.imported,
    "from": Resolver.imported_from,
    "typed": Resolver.typed,
    "in": Resolver.inner,
}
