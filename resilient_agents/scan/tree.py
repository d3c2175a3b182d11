"""The files of a scan as modules that can import each other, and an index of what they call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePath
from typing import Any

from resilient_agents.scan.form import Binding, Expression, Form, Site
from resilient_agents.scan.values import Spot

__all__ = ["SourceFile", "Tree", "last_name"]

HANDING_ON = frozenset(
    {"Thread", "Timer", "Process", "submit", "to_thread", "run_in_executor", "run_sync", "partial", "run_in_threadpool"}
)
"""Callees whose arguments are functions together with their arguments."""


class SourceFile:
    """A file; its form is made when it is first asked for."""

    __slots__ = ("_attributes", "_make", "_methods", "form", "package", "parts", "path")

    form: Form

    def __init__(self, path: str, parts: tuple[str, ...], make: Callable[[], Form]) -> None:
        self.path = path
        self.package = parts[:-1]
        self.parts = self.package if parts and parts[-1] == "__init__" else parts
        self._make = make
        self._methods: dict[int, list[int]] | None = None
        self._attributes: dict[int, dict[str, list[tuple[int, Binding]]]] = {}

    def __repr__(self) -> str:
        return self.path

    def __getattr__(self, name: str) -> Any:
        if name != "form":
            raise AttributeError(name)
        self.form = self._make()
        return self.form

    def functions_of(self, scope: int) -> list[int]:
        """The functions in a class, those inside them too."""
        if self._methods is None:
            self._methods = {}
            scopes = self.form.scopes
            for number, each in enumerate(scopes):
                owner = each.parent
                while owner > 0 and scopes[owner].kind == "function":
                    owner = scopes[owner].parent
                if each.kind == "function" and owner >= 0 and scopes[owner].kind == "class":
                    self._methods.setdefault(owner, []).append(number)
        return self._methods.get(scope, [])

    def attributes_of(self, scope: int) -> dict[str, list[tuple[int, Binding]]]:
        """(scope, binding) by name: what a class binds, its methods to `self.name`, its module to `Class.name`."""
        found = self._attributes.get(scope)
        if found is None:
            scopes = self.form.scopes
            cls = scopes[scope]
            found = {name: [(scope, each) for each in bindings] for name, bindings in cls.bindings.items()}
            places = [(number, ("self.", "cls.", f"{cls.name}.")) for number in self.functions_of(scope)]
            for number, prefixes in [*places, (0, (f"{cls.name}.",))]:
                for path, bindings in scopes[number].bindings.items():
                    if path.startswith(prefixes):
                        name = path.partition(".")[2]
                        found.setdefault(name, []).extend((number, each) for each in bindings)
            self._attributes[scope] = found
        return found


def module_parts(path: str) -> tuple[str, ...]:
    """`src/app/clients.py` as src, app, clients."""
    pure = PurePath(path)
    return (*(part for part in pure.parent.parts if part not in ("/", "..", ".")), pure.stem)


def last_name(expression: Expression) -> str:
    """`get` of `requests.get`, of `get` and of `client().get`."""
    if expression is None:
        return ""
    if expression[0] == "attr":
        return str(expression[2])
    return str(expression[1]) if expression[0] == "name" else ""


class Tree:
    """All files; `external` says which top-level modules are libraries whatever files there are."""

    def __init__(self, files: Iterable[SourceFile], external: frozenset[str]) -> None:
        self.files = list(files)
        self.external = external
        self._by_name: dict[str, list[SourceFile]] = {}
        self._folders: set[tuple[str, ...]] = set()
        for file in self.files:
            if file.parts:
                self._by_name.setdefault(file.parts[-1], []).append(file)
        self._found: dict[tuple[tuple[str, ...], tuple[str, ...]], SourceFile | None] = {}
        self._sites: dict[str, list[tuple[Spot, int]]] | None = None
        self._imported: set[str] | None = None
        self._classes: dict[str, list[tuple[SourceFile, int]]] | None = None

    def module(self, name: str, importer: SourceFile) -> SourceFile | None:
        """The file that `import name` means for this importer: one whose path ends so, the nearest of several."""
        parts = tuple(name.split("."))
        if parts[0] in self.external and parts[0] not in importer.package:
            return None
        key = (parts, importer.package)
        if key not in self._found:
            self._found[key] = self._search(parts, importer)
        return self._found[key]

    def _search(self, parts: tuple[str, ...], importer: SourceFile) -> SourceFile | None:
        best, best_rank = None, (-1, 0)
        for file in self._by_name.get(parts[-1], ()):
            if file.parts[-len(parts) :] != parts or file is importer:
                continue
            shared = 0
            for ours, theirs in zip(importer.package, file.parts[:-1], strict=False):
                if ours != theirs:
                    break
                shared += 1
            rank = (shared, -len(file.parts))
            # One word is found only where Python would look: beside the importer, or at a root above it.
            if len(parts) == 1 and shared != len(file.parts) - 1 and file.parts[-2:-1] != ("src",):
                continue
            if rank > best_rank:
                best, best_rank = file, rank
        return best

    def relative(self, dots: int, name: str, importer: SourceFile) -> SourceFile | None:
        package = importer.package[: len(importer.package) - (dots - 1)] if dots > 1 else importer.package
        return self.exact((*package, *name.split(".")) if name else package)

    def exact(self, parts: tuple[str, ...]) -> SourceFile | None:
        if not parts:
            return None
        return next((file for file in self._by_name.get(parts[-1], ()) if file.parts == parts), None)

    def calls_of(self, name: str) -> list[tuple[Spot, int]]:
        """Every call in the tree whose callee ends in this name, or that hands a function of this name on."""
        if self._sites is None:
            self._sites = {}
            for file in self.files:
                for spot, index, site in every_site(file):
                    last = last_name(site.callee)
                    self._sites.setdefault(last, []).append((spot, index))
                    if last in HANDING_ON:
                        for handed in (*site.arguments, *site.keywords.values()):
                            if name_of := last_name(handed):
                                self._sites.setdefault(f"{name_of}()", []).append((spot, index))
        return self._sites.get(name, [])

    def imports(self, modules: frozenset[str]) -> bool:
        """Whether any file imports one of these."""
        if self._imported is None:
            self._imported = {module for file in self.files for module in file.form.imported}
        return not self._imported.isdisjoint(modules)

    def heirs_of(self, name: str) -> list[tuple[SourceFile, int]]:
        """Every class in the tree that has a base of this name."""
        if self._classes is None:
            self._classes = {}
            for file in self.files:
                for number, scope in enumerate(file.form.scopes):
                    for base in scope.bases:
                        self._classes.setdefault(last_name(base), []).append((file, number))
        return self._classes.get(name, [])


def every_site(file: SourceFile) -> Iterator[tuple[Spot, int, Site]]:
    for number, scope in enumerate(file.form.scopes):
        for index, site in enumerate(scope.calls):
            yield Spot(file, number, site.order, site.block), index, site
