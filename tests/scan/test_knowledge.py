"""What the table says about a library is what the library says itself, for those that are installed here."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import sys
from typing import Any

import pytest

from resilient_agents.scan.libraries import Client, Default
from resilient_agents.scan.table import known
from resilient_agents.scan.versions import choose
from resilient_agents.scan.words import Words

# Some libraries import parts of themselves only when their classes are looked at, and warn meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore")

KNOWN = known()
WORDS = Words(KNOWN)
MADE = {*KNOWN.makers.values(), *(name for client in KNOWN.clients.values() for name in client.makes.values())}
OLDER = {"elasticsearch", "opensearchpy"}
"""Libraries that took the argument in versions before the installed one, or take it by a decorator that hides it."""
OTHERWISE = {"aiohttp.ClientSession.ws_connect", "telegram.Bot.get_updates"}
"""Where the number is that of something else: how long closing takes, and what is added to what the server waits."""
NEWER = {
    *("psycopg.Connection.notifies", "psycopg.AsyncConnection.notifies"),
    "google.cloud.bigquery.QueryJob.to_dataframe",
}
"""What took no limit yet in the oldest version that the table is about."""
BY_NAME = {"smtplib.SMTP_SSL", "imaplib.IMAP4_SSL"}
"""What took the limit by position, too, before Python 3.12."""
CLIENTS = {f"{client.library.name}: {client.name}": client for client in KNOWN.clients.values()}


def named(path: str) -> Any:
    """The object of a dotted path; skips where its library is not installed."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        return found
    pytest.skip(f"{parts[0]} is not installed")


def parameters(function: Any) -> dict[str, inspect.Parameter] | None:
    """None where they cannot be told: written in C, or handed on as `**options`."""
    try:
        found = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    return None if any(each.kind is each.VAR_KEYWORD for each in found.values()) else dict(found)


@pytest.mark.parametrize("client", CLIENTS.values(), ids=list(CLIENTS))
def test_arguments_are_those_of_the_library(client: Client) -> None:
    """Each limit is a parameter, at the position that is said."""
    try:
        owner = named(client.name)
    except AttributeError:
        pytest.skip("made by functions, and not to be named")
    known = parameters(owner)
    by_others = client.name in MADE  # their limit is an argument of what makes them
    if client.limit and known is not None and inspect.isclass(owner) and not by_others:
        assert set(client.limit) & set(known), f"{client.name} takes none of {client.limit}"
    for name, operation in client.operations.items():
        if not operation.limit or name in ("", "*") or "." in name or not hasattr(owner, name):
            continue
        given = parameters(getattr(owner, name))
        if given is None or client.library.name in OLDER:
            continue
        takes = set(operation.limit) & set(given) or f"{client.name}.{name}" in NEWER
        assert takes, f"{client.name}.{name} takes none of {operation.limit}"
        by_name = f"{client.name}.{name}" in BY_NAME and sys.version_info >= (3, 12)
        if operation.at is not None and operation.limit[0] in given and not by_name:
            bound = inspect.isclass(owner) and "self" in given
            assert list(given).index(operation.limit[0]) - bound == operation.at, f"{client.name}.{name}"


def says(client: Client, default: Default | None) -> str:
    """What the table says for the version that is installed; "" where it does not say one thing."""
    default = default or client.default or client.library.default
    package = client.library.package
    what, agreed = (
        choose(default, f"=={importlib.metadata.version(package)}" if package else "") if default else ("", 1)
    )
    return what if agreed else ""


def seconds(text: str) -> float | None:
    """The number that a default says: 10 of `10 s to connect`; None where it says none, or several."""
    said = re.match(r"([\d.]+) (ms|s|min)\b[^,]*$", text)
    return float(said[1]) * {"ms": 0.001, "s": 1, "min": 60}[said[2]] if said else None


def is_limit(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


@pytest.mark.parametrize("client", CLIENTS.values(), ids=list(CLIENTS))
def test_defaults_are_those_of_the_library(client: Client) -> None:
    """A number in the signature is the limit, so that the table must neither say `none` nor another number."""
    try:
        owner = named(client.name)
    except AttributeError:
        pytest.skip("made by functions, and not to be named")
    signatures: list[tuple[Any, tuple[str, ...], Default | None, str]]
    signatures = [(owner, client.limit, None, client.unit)] if inspect.isclass(owner) and client.limit else []
    signatures += [
        (getattr(owner, name), operation.limit, operation.default, operation.unit)
        for name, operation in client.operations.items()
        if operation.limit and name not in ("", "*") and hasattr(owner, name)
    ]
    for function, limit, default, unit in signatures:
        given = parameters(function) or {}
        stated = [given[name].default for name in limit if name in given]
        if any(map(is_limit, stated)):
            what, otherwise = says(client, default), f"{client.name}.{getattr(function, '__name__', '')}" in OTHERWISE
            assert what != "none", f"{function}: {stated}"
            if is_limit(stated[0]) and (number := seconds(what)) is not None and not otherwise:
                real = stated[0] * (0.001 if unit == "ms" else 1)
                assert real >= number if "or more" in what else real == pytest.approx(number), f"{function}: {what}"


@pytest.mark.parametrize("name", ["redis.Redis", "redis.asyncio.Redis"])
def test_redis_waits_for_ever_up_to_a_version(name: str) -> None:
    """redis-py 8 has a limit, the versions before it have none."""
    client = KNOWN.clients[name]
    known = parameters(named(name))
    assert known is not None
    assert (known[client.limit[0]].default is None) == (says(client, None) == "none")


def test_every_client_that_is_spoken_of_is_there() -> None:
    """What clients make, enter and hold."""
    for client in KNOWN.clients.values():
        spoken_of = [*client.makes.values(), *client.attributes.values(), *client.variants.values()]
        for name in (*spoken_of, client.enters, client.items):
            assert not name or name in KNOWN.clients, f"{client.name}: {name}"


def test_names_that_may_be_calls_are_those_of_the_libraries_that_are_imported() -> None:
    """And of what these give: the websocket that a session of aiohttp opens. Of boto3's clients they may be any."""
    names = WORDS.callable({"aiohttp"})
    assert names is not None
    assert {"get", "receive_json", "to_thread"} <= names
    assert "recv_json" not in names
    assert WORDS.callable({"aiohttp", "boto3"}) is None


def test_what_a_library_hands_to_a_function_counts_with_it() -> None:
    """The message of a handler, whose class nobody imports."""
    for path, handlers in KNOWN.handlers.items():
        given = {KNOWN.canonical.get(name, name) for each in handlers for name in (*each.gives, *each.by_name.values())}
        reachable = {client.name for client in WORDS.clients(path.partition(".")[0])}
        assert {name for name in given if name} <= reachable, path
