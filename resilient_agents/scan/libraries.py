"""What is known about a library, as objects: its clients, their calls, and what ends a call that gets no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ADDRESSES", "KINDS", "LIMITS", "Client", "Default", "Ends", "Handler", "Library", "Operation"]

KINDS = ("http", "socket", "database", "redis", "grpc", "subprocess", "model", "bus", "other_net")
ADDRESSES = ("file", "host", "process", "own", "service", "class", "named")
LIMITS = ("explicit", "default", "none", "never_waits", "unknown")


@dataclass(frozen=True, slots=True, eq=False)
class Default:
    """What ends a call for which nothing is said, by version of the library."""

    by_version: tuple[tuple[str, str], ...]
    """(versions as in a requirement, or "" for all; "none", "never", or in words what ends it: "5 s")"""

    def __str__(self) -> str:
        return ", ".join(f"{versions} {what}".strip() for versions, what in self.by_version)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A group of calls that are alike."""

    names: tuple[str, ...]
    limit: tuple[str, ...] = ()
    """Arguments that limit it; the first is the one to add."""
    at: int | None = None
    """The position of the first of them."""
    unit: str = "s"
    """Of the limit: s or ms, or else how so many seconds are written: `datetime.timedelta(seconds={})`."""
    default: Default | None = None
    """None: that of the client, else of the library."""
    is_async: bool = False
    client_limit: bool = True
    """Whether a limit of the client holds for it."""
    option: str = ""
    """Of a socket: the option that limits it."""
    flags: tuple[str, ...] = ()
    """Values of the argument `flags` with which it does not wait."""
    flags_at: int | None = None
    guards: tuple[str, ...] = ()
    """Methods that have waited for it before: what follows a poll has its message."""
    by_argument: Mapping[str, str] = field(default_factory=dict)
    """What ends it, by a symbol in the call that made the client: a socket's type."""
    idempotent: bool | None = None
    """Whether doing it twice is the same as once; None: it depends."""
    entered: bool = False
    """Whether it only waits where `with` enters what it returns."""
    says: int | None = None
    """The position of a text whose first word says so: a method of HTTP, a statement of SQL."""
    sends: tuple[str, int] | None = None
    """The argument that makes it a POST, by name and position, where the first does not name the method."""
    serves: bool | tuple[str, ...] = False
    """Whether it waits for what comes by itself, or the symbols in the call that made the client with which it does."""
    returns_after: tuple[str, int] | None = None
    """The argument after which the other side answers whatever happens, by name and position; 0 is never."""
    serves_after: str = ""
    """The method of the client after which it does."""
    serves_with: tuple[str, int] | None = None
    """The argument with which it does, by name and position."""


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """A class whose objects make calls, or a module of functions that do."""

    name: str
    library: Library
    kind: str
    operations: Mapping[str, Operation]
    """By what stands behind the object: `get`, `chat.completions.create`; `*` for anything, `*.*` for anything that
    stands behind an attribute, with these `*_async` for what ends so; "" for calling it."""
    not_calls: frozenset[str] = frozenset()
    """With `*`: what is none, or how it ends (`*_path`); with `*.*`: the words with which nothing is."""
    limit: tuple[str, ...] = ()
    """Arguments of its constructor that limit its calls; the first is the one to add."""
    at: int | None = None
    unit: str = "s"
    default: Default | None = None
    carriers: tuple[str, ...] = ()
    """Arguments of its constructor that are clients with a limit of their own: a pool, an engine, a transport."""
    carrier_at: int | None = None
    """The position of the first of these."""
    limit_in: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Arguments of its constructor that are dicts, and the keys in them that limit its calls."""
    limit_words: tuple[str, ...] = ()
    """What limits its calls in a text that its constructor is given."""
    by_url: Mapping[str, str] = field(default_factory=dict)
    """What ends a call, by how the text in the first argument of its constructor begins."""
    drivers: Mapping[str, str] = field(default_factory=dict)
    """Packages that such a text needs, and how it then begins: what counts where no text can be told."""
    endless: tuple[object, ...] = ()
    """Limits that are none beside None: 0 in some libraries."""
    inherits: bool = True
    """Whether the limits of the client that made it are its own."""
    hooks: frozenset[str] = frozenset()
    """Methods that give it an object which may limit its calls."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Clients that are attributes of it."""
    makes: Mapping[str, str] = field(default_factory=dict)
    """Clients that its methods return, or its functions."""
    enters: str = ""
    """The client that `with` gives; "": itself."""
    items: str = ""
    """The client that iterating gives."""
    chains: bool = False
    """Whether a method that is no call gives the object itself: a builder."""
    watching: tuple[str, ...] = ()
    """Methods of a poller that give what it watches, in pairs with events."""
    variants: Mapping[str, str] = field(default_factory=dict)
    """The client that it is instead when it is made with an argument of this client."""
    open_attributes: bool = False
    """Whether any other attribute is such an item."""
    setters: Mapping[str, int] = field(default_factory=dict)
    """Methods that set the limit afterwards, and the position of it."""
    keeps: Mapping[str, int] = field(default_factory=dict)
    """Calls whose limit holds for those that come after, and the position of it: `FTP.connect`."""
    options: frozenset[str] = frozenset()
    """Methods and attributes that set an option of a socket."""
    chosen_in: tuple[str, ...] = ()
    """Modules whose classes are all such clients, so that whichever a name in a variable chooses is one."""
    callbacks: str = ""
    """How the names of attributes and arguments begin whose functions get the client itself first."""
    serving: bool = False
    """Whether the other side came to it."""
    alike: bool = False
    """Whether its objects have one limit, whoever made them."""
    starred: bool = True
    """Whether a starred argument of its constructor may be a limit; not where it is what it talks through."""
    of_many: bool = False
    """Whether it stands for many classes, and its calls are named after the one that was called."""
    titled: bool = False
    """Whether its constructor is given first what is no address: a topic, a name of its own."""
    current: str = ""
    """The client that it is of where nothing says which, if a tree makes one alone."""
    retries: Default | None = None
    """How often it tries again by itself."""
    retry_limit: tuple[str, ...] = ()
    """Arguments that say how often."""
    retries_by_class: bool = False
    """Whether only what its class was called for does, not what `from_url` and the like made."""
    retries_off: str = ""
    """What its constructor is given so that it does not, where that is more than one of these as 0."""

    @property
    def once(self) -> str:
        """What its constructor is given so that it tries once; "" where nothing is known to do that."""
        return self.retries_off or next((f"{name}=0" for name in self.retry_limit), "")

    @property
    def settable(self) -> bool:
        """Whether a limit may be set after it was made."""
        return bool(self.setters or self.keeps or self.options or self.hooks)

    def starts(self, word: str) -> bool:
        """Whether a call of it begins with this word."""
        return word in self.operations or any(name.startswith(f"{word}.") for name in self.operations)

    def operation(self, name: str) -> Operation | None:
        found = self.operations.get(name)
        if found is None and (any_other := self.operations.get("*.*" if "." in name else "*")) is not None:
            words = name.split(".")
            left_out = self.not_calls.isdisjoint
            if name and left_out(words) and left_out(map(_ending, words)) and not any(w.startswith("_") for w in words):
                return self.operations.get(_ending(name), any_other)
        return found


def _ending(name: str) -> str:
    return f"*_{name.rpartition('_')[2]}"


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """`name` is the dependency of a report, `package` the distribution whose version counts."""

    name: str
    kind: str
    package: str
    default: Default | None = None
    address: str = ""
    """What an argument that says where to connect is, where it is no URL: one of ADDRESSES; "": it says nothing.

    "process": the library does the work in this process; "own": in a server of one's own, where no address is given;
    "service": in one service of others, and what its clients are given first may be a secret; "class": in one for each
    class of its clients; "named": in one for each name that they are given first.
    """
    port: int = 0
    """The port that it connects to where none is said; 0: there is no such port."""


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """A class whose objects are limits: `aiohttp.ClientTimeout`."""

    arguments: tuple[str, ...]
    """Those of which one that is not None ends a call."""
    at: int | None
    default: str
    """What it is when none of them is given: explicit, none or default."""
    decides: str = ""
    """Of these the one that alone counts where it is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """What a library gives to the functions that it calls."""

    functions: frozenset[str]
    """Names of the functions that this is about; empty: all."""
    gives: tuple[str, ...]
    """Clients by position."""
    by_name: Mapping[str, str]
    """Clients by the name of the parameter."""
