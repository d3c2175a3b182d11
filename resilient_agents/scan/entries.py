"""Whether what a project says about a library is of the kinds that belong there, by the types of what it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from resilient_agents.scan.libraries import Client, Default, Ends, Library, Operation
from resilient_agents.scan.table import FUNCTIONS, TableError, load, shipped

__all__ = ["check_own", "misfits"]

Texts = tuple[str, ...]
OWN: Mapping[type, Mapping[str, Any]] = {
    Library: {"client": tuple[Mapping[str, object], ...], "ends": tuple[Mapping[str, object], ...]},
    Client: {
        **dict.fromkeys(("also", "made_by"), Texts), **dict.fromkeys(("like", "pattern"), str),
        **dict.fromkeys(("async", "module"), bool), "call": tuple[Mapping[str, object], ...],
    },
    Operation: {"async": bool},
    Ends: {"names": Texts},
}  # fmt: skip
"""What stands in an entry and is no field of the object that is made of it."""
SAID = {str: "a text", int: "a whole number", bool: "true or false", Mapping: "a table", object: "value"}


def check_own(name: str, entry: object) -> None:
    """Check what a project says of one library. Raises TableError."""
    if name in FUNCTIONS:
        raise TableError(f"{name}: this is not the name of a library here")
    for problem in misfits(name, entry):
        raise TableError(problem)
    found = load([shipped(), {name: entry}])
    for client in found.clients.values():
        spoken_of = (*client.attributes.values(), *client.variants.values(), client.enters, client.items)
        for other in spoken_of if client.library.name == name else ():
            if other and other not in found.clients:
                raise TableError(f"{name}: client {client.name}: there is no client {other!r}")


def misfits(name: str, entry: object) -> Iterator[str]:
    """What is wrong with an entry, one sentence each."""
    if not isinstance(entry, Mapping):
        yield f"{name}: a library is a table, got {entry!r}"
        return
    yield from _wrong(name, entry, Library)
    for each in _tables(entry, "ends"):
        yield from _wrong(f"{name}: ends", each, Ends)
    for client in _tables(entry, "client"):
        where = f"{name}: client {client.get('name', '?')}"
        yield from _wrong(where, client, Client)
        for group in _tables(client, "call"):
            yield from _wrong(where, group, Operation)


def _tables(entry: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = entry.get(key, ())
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _wrong(where: str, entry: Mapping[str, Any], kind: type) -> Iterator[str]:
    for key, value in entry.items():
        hint = _hints(kind).get(key)
        if hint is not None and not _fits(value, hint):
            yield f"{where}: {key} must be {_said(hint)}, got {value!r}"


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return {**get_type_hints(kind), **OWN[kind]}


def _choices(hint: Any) -> list[Any]:
    either = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [each for each in either if each is not NoneType]


def _fits(value: object, hint: Any) -> bool:
    return any(_is(value, each) for each in _choices(hint))


def _is(value: object, hint: Any) -> bool:
    origin, inside = get_origin(hint) or hint, get_args(hint)
    if origin is Default:
        return isinstance(value, str) or (bool(value) and _is(value, Mapping[str, str]))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(each, inside[1]) for each in value.values())
    if origin in (tuple, frozenset):
        if not isinstance(value, list):
            return False
        kinds = inside if inside[-1] is not ... and origin is tuple else (inside[0],) * len(value)
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    return isinstance(value, origin) and (origin is not int or not isinstance(value, bool))


def _said(hint: Any) -> str:
    words = []
    for each in _choices(hint):
        origin, inside = get_origin(each) or each, [one for one in get_args(each) if one is not ...]
        if origin is Default:
            words.append("a text or a table of texts by version")
        elif origin in (tuple, frozenset):
            parts = [_said(one) for one in inside]
            words.append(
                f"a list of {' and '.join(parts)}" if parts[1:] else f"a list of {parts[0].removeprefix('a ')}s"
            )
        else:
            words.append(SAID[origin])
    return " or ".join(words)
