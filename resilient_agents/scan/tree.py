"""The files of a scan as modules that can import each other, and an index of what they call."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from resilient_agents.scan.by_name import ByName, parts_in_common
from resilient_agents.scan.form import Binding, Expression, Form, Site, dotted, last_name, source_of
from resilient_agents.scan.index import Names, outline_of, top_level
from resilient_agents.scan.values import Spot

__all__ = ["MOST_CALLS", "SourceFile", "Tree", "every_site", "module_parts"]


MOST_CALLS = 60
"""Calls of one name after which no further file is looked into."""


class SourceFile:
    """A file; its form is made when it is first asked for."""

    __slots__ = (
        *("_attributes", "_given", "_given_to", "_handed", "_make", "_methods", "_sources"),
        *("form", "make_names", "package", "parts", "path", "size"),
    )

    form: Form

    def __init__(
        self,
        path: str,
        parts: tuple[str, ...],
        size: int,
        make: Callable[[], Form],
        make_names: Callable[[], Names],
    ) -> None:
        self.path = path
        self.size = size
        """Bytes of its source."""
        self.package = parts[:-1]
        self.parts = self.package if parts and parts[-1] == "__init__" else parts
        self._make = make
        self.make_names = make_names
        self._given: frozenset[str] | None = None
        self._methods: dict[int, list[int]] | None = None
        self._attributes: dict[int, dict[str, list[tuple[int, Binding]]]] = {}
        self._sources: dict[int, dict[str, list[str]]] = {}
        self._given_to: dict[int, dict[str, list[tuple[int, int]]]] = {}
        self._handed: dict[str, list[tuple[int | str, Spot]]] | None = None

    def __repr__(self) -> str:
        return self.path

    def __getattr__(self, name: str) -> Any:
        if name == "form":
            self.form = self._make()
            return self.form
        raise AttributeError(name)

    def forget(self) -> None:
        """The form, and what was made of it."""
        with contextlib.suppress(AttributeError):
            del self.form
        self._methods = self._handed = self._given = None
        for made in (self._attributes, self._sources, self._given_to):
            made.clear()

    def calls_named(self, name: str) -> list[tuple[Spot, int]]:
        """(spot, index) of its calls whose callee ends so; with `()` behind it, of those that hand it on."""
        found = []
        for number, index in outline_of(self.form).calls.get(name, ()):
            site = self.form.scopes[number].calls[index]
            found.append((Spot(self, number, site.order, site.block), index))
        return found

    def given(self) -> frozenset[str]:
        """The dotted paths that are given a value in it but for those of `self`, and the last words of all of them."""
        if self._given is None:
            self._given = outline_of(self.form).given
        return self._given

    def sources_of(self, scope: int) -> dict[str, list[str]]:
        """Names of a scope by the name that they are given; by `names[]` where a loop gives them what that holds."""
        found = self._sources.get(scope)
        if found is None:
            found = self._sources[scope] = {}
            for path, bindings in self.form.scopes[scope].bindings.items():
                for source in dict.fromkeys(source_of(each.value) for each in bindings):
                    found.setdefault(source, []).append(path)
            found.pop("", None)
        return found

    def given_to(self, scope: int) -> dict[str, list[tuple[int, int]]]:
        """(call, position) by the name that stands there as an argument."""
        found = self._given_to.get(scope)
        if found is None:
            found = self._given_to[scope] = {}
            for number, site in enumerate(self.form.scopes[scope].calls):
                for position, argument in enumerate(site.arguments):
                    if name := dotted(argument):
                        found.setdefault(name, []).append((number, position))
        return found

    def handed_to(self, words: frozenset[str], name: str) -> list[tuple[int | str, Spot]]:
        """Where a function of that name is handed over to be called back: the call that is given it, by its callee or
        by a keyword `on_…`, or the object whose attribute `on_…` it becomes."""
        if name not in outline_of(self.form).handed:
            return []
        if self._handed is None:
            self._handed = {}
            for spot, index, site in every_site(self):
                keywords = site.keywords
                known = last_name(site.callee) in words
                named = [each for word, each in keywords.items() if known or word.startswith("on_")] if keywords else []
                if known:
                    named += site.arguments
                for each in named:
                    self._handed.setdefault(last_name(each), []).append((index, spot))
            for number, scope in enumerate(self.form.scopes):
                for path, bindings in scope.bindings.items():
                    owner, _, attribute = path.rpartition(".")
                    if owner and attribute.startswith("on_"):
                        for each in bindings:
                            spot = Spot(self, number, each.order, each.block)
                            self._handed.setdefault(last_name(each.value), []).append((owner, spot))
        return self._handed.get(name, [])

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
    folder, name = os.path.split(path)
    return (*(part for part in folder.split(os.sep) if part not in ("", "..", ".")), name.partition(".")[0])


class Tree:
    """All files; `external` says which top-level modules are libraries whatever files there are."""

    def __init__(self, files: Iterable[SourceFile], external: frozenset[str]) -> None:
        self.files = list(files)
        self.external = external
        self._by_name: dict[str, list[SourceFile]] = {}
        self._exact: dict[tuple[str, ...], SourceFile] = {}
        self._folders: set[tuple[str, ...]] = set()
        for file in self.files:
            if file.parts:
                self._by_name.setdefault(file.parts[-1], []).append(file)
                self._exact.setdefault(file.parts, file)
        self._found: dict[tuple[tuple[str, ...], SourceFile | tuple[str, ...]], SourceFile | None] = {}
        self.forget()

    @functools.cached_property
    def by_name(self) -> ByName:
        return ByName(self)

    def forget(self) -> None:
        """What was found for the files that asked for it; not what their imports mean, nor the index."""
        if "by_name" in self.__dict__:
            self.by_name.forget()
        self._sites: dict[tuple[str, str, bool], list[tuple[Spot, int]]] = {}
        self._heirs: dict[tuple[str, str], list[tuple[SourceFile, int]]] = {}

    def module(self, name: str, importer: SourceFile) -> SourceFile | None:
        """The file that `import name` means for this importer: one whose path ends so, the nearest of several."""
        if name.rpartition(".")[2] not in self._by_name:
            return None
        parts = tuple(name.split("."))
        alone = importer.parts[-1:] == parts[-1:] or parts[0] in importer.package  # no file means itself
        key = (parts, importer if alone else importer.package)
        if key not in self._found:
            outside = parts[0] in self.external and not self._is_inside(parts[0], importer)
            self._found[key] = None if outside else self._search(parts, importer)
        return self._found[key]

    def _is_inside(self, name: str, importer: SourceFile) -> bool:
        """Whether a file is of the library itself: below a package of its name that stands in no package.

        A folder `mcp` of some application, or one that holds nothing but modules, hides no library; no more does one
        in a folder that the importer names as a package, though no `__init__.py` says that it is one.
        """
        if name not in importer.package:
            return False
        at = importer.package.index(name)
        package = self.exact(importer.package[: at + 1])
        around = importer.package[at - 1] if at else ""
        inner = self.exact(importer.package[:at]) is not None or (
            around != name and around in top_level(importer.form.imported)
        )
        return package is not None and not inner and bool(package.form.scopes[0].bindings)

    def _search(self, parts: tuple[str, ...], importer: SourceFile) -> SourceFile | None:
        for at, each in enumerate(importer.package):  # its own package, whatever module of that name is beside it
            own = self.exact((*importer.package[:at], *parts)) if each == parts[0] else None
            if own not in (None, importer) and self.exact(importer.package[: at + 1]) is not None:
                return own
        best, best_rank, installed = None, (-1, 0), list[SourceFile]()
        for file in self._by_name.get(parts[-1], ()):
            if file.parts[-len(parts) :] != parts or file is importer:
                continue
            in_common = parts_in_common(importer.package, file.parts[:-1])
            rank = (in_common, -len(file.parts))
            # One word is found only where Python would look: beside the importer, at a root above it, or where the
            # only package of this name is that stands in no package, which may be installed.
            if len(parts) == 1 and in_common != len(file.parts) - 1 and file.parts[-2:-1] != ("src",):
                if file.parts == file.package and self.exact(file.package[:-1]) is None:
                    installed.append(file)
                continue
            if rank > best_rank:
                best, best_rank = file, rank
        return best or (installed[0] if len(installed) == 1 else None)

    def relative(self, dots: int, name: str, importer: SourceFile) -> SourceFile | None:
        package = importer.package[: len(importer.package) - (dots - 1)] if dots > 1 else importer.package
        return self.exact((*package, *name.split(".")) if name else package)

    def exact(self, parts: tuple[str, ...]) -> SourceFile | None:
        if not parts:
            return None
        return self._exact.get(parts)

    def calls_of(self, name: str, near: SourceFile, *, everywhere: bool = False) -> list[tuple[Spot, int]]:
        """Calls whose callee ends in this name; with `()` behind it, those that hand it on.

        Those in the nearest files of the group come first, or of all, and no more are looked for than there are likely
        to be of a function of this name in particular: every file has a `get`.
        """
        if everywhere:
            files, whose = self.by_name.nearest(self.by_name.files("called", name), near), near
        else:
            files, whose = self.by_name.near("called", name, near)
        key = name, whose.path, everywhere
        found = self._sites.get(key)
        if found is None:
            found = self._sites[key] = []
            for file in files:
                found += file.calls_named(name)
                if len(found) >= MOST_CALLS:
                    break
        return found

    def heirs_of(self, name: str, near: SourceFile) -> list[tuple[SourceFile, int]]:
        """Classes that have a base of this name, those in the nearest files."""
        files, whose = self.by_name.near("bases", name, near)
        key = name, whose.path
        found = self._heirs.get(key)
        if found is None:
            found = self._heirs[key] = [
                (file, number)
                for file in files
                for number, scope in enumerate(file.form.scopes)
                if any(last_name(base) == name for base in scope.bases)
            ]
        return found

    def shared(self, name: str) -> Iterator[tuple[Expression, Spot]]:
        """What is bound to `….state.name` anywhere."""
        for file in self.by_name.files("shared", name):
            for number, scope in enumerate(file.form.scopes):
                for path, bindings in scope.bindings.items():
                    if path.endswith(f".state.{name}"):
                        yield from ((b.value, Spot(file, number, b.order, b.block)) for b in bindings)


def every_site(file: SourceFile) -> Iterator[tuple[Spot, int, Site]]:
    for number, scope in enumerate(file.form.scopes):
        for index, site in enumerate(scope.calls):
            yield Spot(file, number, site.order, site.block), index, site
