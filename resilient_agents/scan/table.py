"""The knowledge about libraries: TOML files beside this module, and what a project adds, as one `Known`.

A library is a table with `kind`, and if they differ from its name `package` and `default`, and with `address`;
`[[NAME.client]]` are its clients and modules of functions, `[[NAME.client.call]]` groups of calls that are alike.
See docs/pages/scan.md, "In `pyproject.toml`".
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from resilient_agents.scan.known import Known
from resilient_agents.scan.libraries import ADDRESSES, KINDS, Client, Default, Ends, Handler, Library, Operation

__all__ = ["FUNCTIONS", "TableError", "known", "load", "shipped"]

LIBRARY = {"kind", "package", "default", "address", "port", "client", "ends"}
PLAIN = {
    *("at", "unit", "attributes", "enters", "items", "chains", "variants", "open_attributes", "setters", "keeps"),
    *("carrier_at", "drivers", "by_url", "inherits", "callbacks", "serving", "alike", "starred", "of_many", "titled"),
    *("retries_by_class", "retries_off", "current"),
}
TUPLES = {"limit", "carriers", "watching", "retry_limit", "limit_words", "endless", "chosen_in"}
SETS = {"not_calls", "options", "hooks"}
CLIENT = {
    *PLAIN,
    *TUPLES,
    *SETS,
    *(
        "name",
        "also",
        "like",
        "module",
        "kind",
        "made_by",
        "default",
        "pattern",
        "retries",
        "limit_in",
        "async",
        "call",
    ),
}
CALL = {
    *("names", "limit", "at", "unit", "default", "async", "client_limit", "option", "flags", "flags_at", "guards"),
    *("by_argument", "idempotent", "entered", "says", "sends", "serves", "serves_after", "serves_with"),
    "returns_after",
}
FUNCTIONS = ("wait", "block", "runner", "passing", "protection", "handler", "server", "model_url", "stand_in")
Table = Mapping[str, Any]


class TableError(ValueError):
    """An entry is wrong; the message says which and why."""


@cache
def known() -> Known:
    """What the tables say that come with the package."""
    return load([shipped()])


@cache
def shipped() -> Table:
    """The tables that come with the package, merged."""
    merged: dict[str, Any] = {}
    folder = resources.files("resilient_agents.scan") / "knowledge"
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".toml"):
            for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
                if name in FUNCTIONS:
                    merged.setdefault(name, []).extend(entry)
                elif name in merged:
                    raise TableError(f"{file.name}: the library {name!r} stands in two files")
                else:
                    merged[name] = entry
    return merged


def load(tables: Iterable[Table]) -> Known:
    """One Known of several tables; where they speak of the same library, the last one counts. Raises TableError."""
    merged: dict[str, Any] = {}
    for table in tables:
        for name, entry in table.items():
            merged[name] = [*merged.get(name, ()), *entry] if name in FUNCTIONS else entry
    builder = _Builder()
    for name, entry in merged.items():
        if name not in FUNCTIONS:
            builder.library(name, entry)
    builder.connect()
    digest = hashlib.sha256(json.dumps(merged, sort_keys=True, default=str).encode()).hexdigest()
    handlers = _handlers(merged.get("handler", ()))
    runners = {n: (e.get("keyword", ""), e["at"]) for e in merged.get("runner", ()) for n in e["names"]}
    return Known(
        clients=builder.clients,
        canonical=builder.canonical,
        functions=builder.functions,
        makers=builder.makers,
        chosen={module: name for name, client in builder.clients.items() for module in client.chosen_in},
        ends=builder.ends,
        waits=_limiters(merged.get("wait", ())),
        blocks=_limiters(merged.get("block", ())),
        runners=runners,
        protections={name: entry["limits"] for entry in merged.get("protection", ()) for name in entry["names"]},
        passing={name: entry["at"] for entry in merged.get("passing", ()) for name in entry["names"]},
        stand_ins={name: module for entry in merged.get("stand_in", ()) for name, module in entry["names"].items()},
        roots=builder.roots(),
        patterns=tuple(sorted(builder.patterns(), key=lambda each: (-len(each[0].partition("*")[0]), -len(each[0])))),
        modules=frozenset(path.split(".", 1)[0] for path in (*builder.entries, *builder.canonical)),
        packages=frozenset(
            path.rpartition(".")[0] for path in (*builder.clients, *builder.canonical, *builder.functions)
        ),
        handlers=handlers,
        model_urls=tuple(end for entry in merged.get("model_url", ()) for end in entry["ends"]),
        servers=tuple(name for entry in merged.get("server", ()) for name in entry["names"]),
        handing=frozenset(name.rpartition(".")[2] for name in handlers),
        digest=digest,
    )


def _handlers(entries: Iterable[Table]) -> dict[str, tuple[Handler, ...]]:
    found: dict[str, tuple[Handler, ...]] = {}
    for entry in entries:
        handler = Handler(
            frozenset(entry.get("functions", ())), tuple(entry.get("gives", ())), entry.get("by_name", {})
        )
        for name in entry["names"]:
            found[name] = (*found.get(name, ()), handler)
    return found


def _limiters(entries: Iterable[Table]) -> dict[str, tuple[tuple[str, ...], int]]:
    return {name: (tuple(entry["limit"]), entry["at"]) for entry in entries for name in entry["names"]}


class _Builder:
    """Clients as they are read; `connect` turns what made them into what their makers make."""

    def __init__(self) -> None:
        self.clients: dict[str, Client] = {}
        self.canonical: dict[str, str] = {}
        self.functions: dict[str, tuple[Client, str]] = {}
        self.makers: dict[str, str] = {}
        self.ends: dict[str, Ends] = {}
        self.made_by: dict[str, list[str]] = {}
        self.also: dict[str, list[str]] = {}
        self.entries: dict[str, dict[str, Any]] = {}

    def library(self, name: str, entry: Any) -> None:
        if not isinstance(entry, Mapping):
            raise TableError(f"{name}: a library is a table, got {type(entry).__name__}")
        _check(name, entry, LIBRARY, need=("kind", "client"))
        if entry["kind"] not in KINDS:
            raise TableError(f"{name}: kind is one of {', '.join(KINDS)}, got {entry['kind']!r}")
        address = entry.get("address", "")
        if "address" in entry and address not in ADDRESSES:
            raise TableError(f"{name}: address is one of {', '.join(ADDRESSES)}, got {address!r}")
        default = _default(name, entry.get("default"))
        library = Library(name, entry["kind"], entry.get("package", name), default, address, entry.get("port", 0))
        for each in entry["client"]:
            where = f"{name}: client {each.get('name', '?')}"
            _check(where, each, CLIENT, need=("name",))
            self.client(where, library, each)
        for each in entry.get("ends", ()):
            _check(
                f"{name}: ends", each, {"names", "arguments", "at", "default", "decides"}, need=("names", "arguments")
            )
            for path in each["names"]:
                self.ends[path] = Ends(
                    tuple(each["arguments"]), each.get("at"), each.get("default", "none"), each.get("decides", "")
                )

    def client(self, where: str, library: Library, given: Table) -> None:
        entry = dict(given)
        if like := given.get("like"):
            if like not in self.entries:
                raise TableError(f"{where}: like names a client that stands above it, got {like!r}")
            own = ("name", "also", "made_by", "module", "pattern", "variants", "chosen_in")
            entry = {**{key: value for key, value in self.entries[like].items() if key not in own}, **given}
        name: str = entry["name"]
        self.entries[name] = entry
        is_async = entry.get("async", False)
        operations = {}
        for group in entry.get("call", ()):
            _check(where, group, CALL, need=("names",))
            operation = _operation(where, group, is_async, entry.get("unit", "s"))
            operations.update(dict.fromkeys(operation.names, operation))
        client = _client(where, library, entry, operations)
        key = f"{library.name}: {name}" if entry.get("module") else name  # functions of a module may be of two kinds
        if (before := self.clients.get(key)) is not None and before.library is library:
            raise TableError(f"{where} stands there twice")
        self.clients[key] = client
        self.made_by[name] = entry.get("made_by", [])
        self.also[name] = entry.get("also", [])
        if not entry.get("module"):
            self.canonical.update(dict.fromkeys(self.also[name], name))
        if entry.get("module"):
            for path in (name, *self.also[name]):
                self.functions.update({f"{path}.{each}": (client, each) for each in operations})

    def patterns(self) -> list[tuple[str, str]]:
        return [(pattern, name) for name, entry in self.entries.items() if (pattern := entry.get("pattern"))]

    def roots(self) -> dict[str, frozenset[str]]:
        """Top-level modules by the client that they are imported for."""
        return {
            key: frozenset(
                path.split(".", 1)[0]
                for path in (client.name, *self.made_by[client.name], *self.also[client.name], *client.chosen_in)
            )
            for key, client in self.clients.items()
        }

    def connect(self) -> None:
        makes: dict[str, dict[str, str]] = {name: {} for name in self.clients}
        for name, paths in self.made_by.items():
            for path in paths:
                owner, method = self.owner(path)
                if owner in self.clients:
                    makes[owner][method] = name
                self.makers[path] = name
                self.makers.update({f"{other}.{method}": name for other in self.also.get(owner, ())})
        for name, found in makes.items():
            self.clients[name] = replace(self.clients[name], makes=found)

    def owner(self, path: str) -> tuple[str, str]:
        """The client that a path begins with, and what stands behind it: `chats.create`."""
        parts = path.split(".")
        for end in range(len(parts) - 1, 0, -1):
            if (owner := ".".join(parts[:end])) in self.clients:
                return owner, ".".join(parts[end:])
        return path.rpartition(".")[0], parts[-1]


def _client(where: str, library: Library, entry: Table, operations: Mapping[str, Operation]) -> Client:
    given: dict[str, Any] = {key: entry[key] for key in PLAIN if key in entry}
    given |= {key: tuple(entry[key]) for key in TUPLES if key in entry}
    given |= {key: frozenset(entry[key]) for key in SETS if key in entry}
    return Client(
        name=entry["name"],
        library=library,
        kind=entry.get("kind", library.kind),
        operations=operations,
        default=_default(where, entry.get("default")),
        retries=_default(where, entry.get("retries")),
        limit_in={name: tuple(keys) for name, keys in entry.get("limit_in", {}).items()},
        **given,
    )


def _operation(where: str, group: Table, is_async: bool, unit: str) -> Operation:
    return Operation(
        names=tuple(group["names"]),
        limit=tuple(group.get("limit", ())),
        at=group.get("at"),
        unit=group.get("unit", unit),
        default=_default(where, group.get("default")),
        is_async=group.get("async", is_async),
        client_limit=group.get("client_limit", True),
        option=group.get("option", ""),
        flags=tuple(group.get("flags", ())),
        flags_at=group.get("flags_at"),
        guards=tuple(group.get("guards", ())),
        by_argument=group.get("by_argument", {}),
        idempotent=group.get("idempotent"),
        entered=group.get("entered", False),
        says=group.get("says"),
        sends=_argument(where, group.get("sends")),
        returns_after=_argument(where, group.get("returns_after")),
        serves_after=group.get("serves_after", ""),
        serves_with=_argument(where, group.get("serves_with")),
        serves=serves if isinstance(serves := group.get("serves", False), bool) else tuple(serves),
    )


def _argument(where: str, value: Any) -> tuple[str, int] | None:
    match value:
        case None:
            return None
        case [str(name), int(at)]:
            return name, at
        case _:
            raise TableError(f"{where}: an argument is a list of its name and position, got {value!r}")


def _default(where: str, value: Any) -> Default | None:
    if value is None:
        return None
    if isinstance(value, str):
        return Default((("", value),))
    if isinstance(value, Mapping) and value and all(isinstance(each, str) for each in value.values()):
        return Default(tuple(value.items()))
    raise TableError(f"{where}: a default is a text or a table of versions and texts, got {value!r}")


def _check(where: str, entry: Any, allowed: set[str], need: tuple[str, ...]) -> None:
    if not isinstance(entry, Mapping):
        raise TableError(f"{where}: must be a table, got {type(entry).__name__}")
    for key in need:
        if key not in entry:
            raise TableError(f"{where}: {key!r} is missing")
    for key in entry:
        if key not in allowed:
            raise TableError(f"{where}: there is no {key!r}; known are {', '.join(sorted(allowed))}")
