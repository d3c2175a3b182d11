"""What a text names that says where something connects to: a host with its port, a database, a file, memory."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Place", "file_name", "place", "serves_models"]

_FILES = frozenset(["sqlite", "duckdb"])
"""Schemes of URLs that name a file."""
_WITH_DATABASES = frozenset(["postgresql", "postgres", "mysql", "mariadb", ""])
"""Schemes of URLs that name a database of their host, and none at all: `//host:port/database`."""
_PORTS = {
    "http": 80, "ws": 80, "https": 443, "wss": 443, "redis": 6379, "rediss": 6379, "postgresql": 5432, "postgres": 5432,
    "mysql": 3306, "mariadb": 3306, "mongodb": 27017, "amqp": 5672, "amqps": 5671, "nats": 4222, "mqtt": 1883,
}  # fmt: skip
"""Ports that need no saying, by scheme."""
_MODELS = frozenset([
    "api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "api.mistral.ai", "api.groq.com",
    "api.cohere.com", "api.cohere.ai", "api.deepseek.com", "api.together.xyz", "api.fireworks.ai", "api.perplexity.ai",
    "api.x.ai", "openrouter.ai", "router.huggingface.co", "api-inference.huggingface.co", "api.replicate.com",
])  # fmt: skip
"""Hosts of model APIs, by whichever library they are asked."""
_MODELS_BELOW = (".openai.azure.com", "-aiplatform.googleapis.com")
"""What the names of other such hosts end with."""
_WORDS = re.compile(r"\b(host|port|dbname)=([\w.-]+)")


class Place(NamedTuple):
    name: str
    where: str = ""
    """"file" or "process"; "" for what is reached by a network."""
    port: int = 0
    """0 where nothing says it."""


def place(text: str, address: str, usual: int) -> Place:
    """What a text names, for a library whose texts are of this kind and whose servers usually have this port."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme.partition("+")[0] in _FILES:
        return _file_or_memory(rest.partition("/")[2])
    if address == "file":
        return _file_or_memory(text)
    if address == "process":
        return Place(file_name(text), "process")
    return Place(file_name(text)) if text.startswith("ipc://") else _host(text, usual)


def _file_or_memory(path: str) -> Place:
    """`file:` begins a URI of SQLite; what has no name is kept in memory."""
    name = path.removeprefix("file:").partition("?")[0] if path.startswith("file:") else path.partition("?")[0]
    memory = not name or name == ":memory:" or "mode=memory" in path
    return Place(":memory:", "process") if memory else Place(file_name(name), "file")


def _host(text: str, usual: int) -> Place:
    """The host of a URL or an address, of several the first; no credentials, no path."""
    if words := dict(_WORDS.findall(text)):  # of libpq
        text = f"//{words.get('host', '')}:{words.get('port', '')}/{words.get('dbname', '')}"
    start, separator, rest = ("", "//", text[2:]) if text.startswith("//") else text.partition("://")
    authority, _, path = (rest if separator else start).partition("/")
    first = authority.rpartition("@")[2].partition(",")[0].strip()
    if not separator and (path or not re.fullmatch(r"[\w.-]+(:\d+)?", first)):
        return Place("")
    scheme = start.partition("+")[0] if separator else ""
    try:
        parts = urlsplit(f"//{first}/{path}")
        port = parts.port
    except ValueError:
        return Place("")
    host = parts.hostname or ""
    if not host or host.isdigit() or host in ("http", "https"):
        return Place("")
    usual = _PORTS.get(scheme, usual)
    database = parts.path.strip("/") if scheme in _WITH_DATABASES else ""
    shown = f":{port}" if port not in (None, usual, *_of_the_web(usual)) else ""
    return Place(f"{host}{shown}{'/' + database if database else ''}", port=min(_of_the_web(port or usual)))


def _of_the_web(port: int) -> tuple[int, ...]:
    """A host of the web is the same host with and without encryption."""
    return (80, 443) if port in (80, 443) else (port,)


def file_name(text: str) -> str:
    return PurePath(text).name


def serves_models(name: str) -> bool:
    """Whether the host of this name is known for a model API."""
    return name in _MODELS or name.endswith(_MODELS_BELOW)
