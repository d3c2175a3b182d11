"""What a class of errors tells, learned once per class, because each failed attempt asks three times.

The tables are keyed by identity and hold the class weakly: a metaclass may define `__eq__` or `__hash__`, and a class
made at run time must be able to go. No lock: every step is one dict operation, and learning a class twice gives the
same answer. What `register` teaches makes all that was learned before stale: it puts an empty table in its place.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

from resilient_agents.base.told import Fields
from resilient_agents.classify.classes import rules_of
from resilient_agents.classify.facts import TELLING, mro_of, name_of, namespace_of, package_of
from resilient_agents.classify.kinds import CANCELLED, KINDS, UNKNOWN, Failure, Kind, Phase, Rule, failure_of
from resilient_agents.classify.phases import PHASES
from resilient_agents.classify.readers import READERS, Reader

__all__ = ["Traits", "learn", "means_control", "register", "traits_of"]

# A class that defines one of these may tell anything: its instances must be asked.
_OPAQUE: Final = frozenset(("__getattr__", "__getattribute__", "__dict__", "__cause__", "__context__"))
_STANDARD: Final = frozenset(
    (
        *("builtins", "socket", "ssl", "asyncio", "concurrent", "multiprocessing", "subprocess", "http", "sqlite3"),
        *("smtplib", "ftplib", "imaplib", "poplib", "queue", "_queue", "bdb", "unittest"),
    )
)
_OURS: Final = frozenset(("resilient_agents", "pybreaker"))


class Traits:
    """What is known about an error by its class alone.

    `name`; `rule`, and `source`, who named the class: "registered", "ours", "builtin", "library", or "" if nobody did;
    `packages` and `reader` of it. `plain`: the answer, unless the instance carries something of `TELLING`; `final`:
    whether that holds whatever the error's cause is. `group`: whether it is what its leaves are. `telling`: those
    attributes of `TELLING` that the class has; None where only the instance can say. `phase`: how far a request has
    come that ends with it. `control`: whether it is how a framework steers, whatever the instance carries.
    """

    __slots__ = (
        *("cls", "control", "final", "group", "name", "packages", "phase", "plain", "reader", "rule", "source"),
        "telling",
    )

    def __init__(
        self,
        cls: Callable[[], type | None],
        name: str,
        rule: Rule | None,
        source: str,
        packages: frozenset[str],
        reader: Reader | None,
        plain: Failure | None,
        final: bool,
        group: bool,
        telling: frozenset[str] | None,
        phase: Phase | None,
        control: bool,
    ) -> None:
        self.cls = cls
        self.name = name
        self.rule = rule
        self.source = source
        self.packages = packages
        self.reader = reader
        self.plain = plain
        self.final = final
        self.group = group
        self.telling = telling
        self.phase: Phase | None = phase
        self.control = control


class _Registered(Fields):
    cls: Callable[[], type | None]
    rule: Rule


known: dict[int, Traits] = {}
"""What was learned since the last `register`. Read it late-bound, and check that `.cls()` is the class meant."""
registered: dict[int, _Registered] = {}


def register(error_type: type[Exception], *, kind: Kind, transient: bool | None = None) -> None:
    """Teach the classifier that `error_type` and its subclasses are of `kind`.

    The most specific class wins, over the built-in tables too; a later call for the same class replaces the earlier
    one. `transient` overrides what the kind implies. Safe from any thread, and does not keep the class alive.

    Raises:
        TypeError: `error_type` is not a subclass of Exception, or `transient` is neither a bool nor None.
        ValueError: `kind` is not one of the known kinds, or is "control" with `transient=True`: what frameworks steer
            with is never retried.
    """
    global known
    if not (isinstance(error_type, type) and issubclass(error_type, Exception)):
        raise TypeError(f"error_type must be a subclass of Exception, got {error_type!r}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if transient is not None and not isinstance(transient, bool):
        raise TypeError(f"transient must be True, False or None, got {transient!r}")
    if kind == "control" and transient:
        raise ValueError("transient must not be True for kind 'control', which is never retried, got True")
    key = id(error_type)
    registered[key] = _Registered(weakref.ref(error_type, _forget(registered, key)), Rule(kind, transient))
    # After the rule is in: whoever learned a class without it wrote that into the old table.
    known = {}


def traits_of(error: BaseException) -> Traits:
    """What the class of `error` tells."""
    cls = type(error)
    traits = known.get(id(cls))
    return traits if traits is not None and traits.cls() is cls else learn(cls)


def means_control(cls: type) -> bool:
    """Whether `cls` is itself a class that frameworks steer with: `ModelRetry`, not `Exception`."""
    traits = known.get(id(cls))
    return (traits if traits is not None and traits.cls() is cls else learn(cls)).control


def learn(cls: type) -> Traits:
    """Find out what a class tells, and keep it."""
    memory = known  # before the registrations are read
    name = name_of(cls)
    mro = mro_of(cls)
    rule, source, reader = rule_of(mro)
    error = any(c is Exception for c in mro)  # `in` would ask a metaclass
    group = error and source != "registered" and any(c is BaseExceptionGroup for c in mro)
    phase = _phase_of(mro)
    telling = _telling(mro)
    control = error and rule is not None and rule.kind == "control"
    if not error:
        rule = CANCELLED
    plain: Failure | None
    if rule is not None and (control or not error):
        plain, final = failure_of(rule, name), True
    else:
        tells_nothing = not group and reader is None and telling is not None and not telling
        plain = failure_of(rule or UNKNOWN, name, phase=phase) if tells_nothing else None
        final = not group and _is_final(rule, source, phase, tells_nothing=tells_nothing)
    key = id(cls)
    ref = weakref.ref(cls, _forget(memory, key))
    packages = frozenset(map(package_of, mro))
    traits = Traits(ref, name, rule, source, packages, reader, plain, final, group, telling, phase, control)
    memory[key] = traits
    return traits


def _is_final(rule: Rule | None, source: str, phase: Phase | None, *, tells_nothing: bool) -> bool:
    """Does nothing that another error says change what the class says?"""
    if source in ("registered", "ours") or (source == "builtin" and not _may_learn_a_phase(rule, phase)):
        return True
    return tells_nothing and rule is not None and rule.kind not in ("connection", "timeout", "overload", "unknown")


def rule_of(mro: tuple[type, ...]) -> tuple[Rule | None, str, Reader | None]:
    """The rule of the most specific class that has one, who said so, and the reader of a class before that."""
    reader = None
    for cls in mro:
        taught = registered.get(id(cls))
        if taught is not None and taught.cls() is cls:
            return taught.rule, "registered", reader
        package = package_of(cls)
        name = name_of(cls)
        reader = reader or READERS.get((package, name))
        rule = rules_of(package).get(name)
        if rule is not None:
            return rule, "ours" if package in _OURS else "builtin" if package in _STANDARD else "library", reader
    return None, "", reader


def _telling(mro: tuple[type, ...]) -> frozenset[str] | None:
    """The attributes of `TELLING` that the classes have; None where one of them may make up any."""
    names: set[str] = set()
    for cls in mro:
        if package_of(cls) == "builtins":
            continue
        namespace = namespace_of(cls).keys()
        if not _OPAQUE.isdisjoint(namespace):
            return None
        names |= TELLING & namespace
    return frozenset(names)


def _may_learn_a_phase(rule: Rule | None, phase: Phase | None) -> bool:
    """Whether what an error was made of can tell how far its request had come."""
    return phase is None and rule is not None and rule.kind in ("timeout", "connection")


def _phase_of(mro: tuple[type, ...]) -> Phase | None:
    """The phase of the most specific class that has one."""
    return next((phase for cls in mro if (phase := PHASES.get((package_of(cls), name_of(cls))))), None)


def _forget(table: dict[int, Any], key: int) -> Callable[[object], None]:
    def forget(dead: object) -> None:
        entry = table.get(key)
        if entry is not None and entry.cls is dead:
            table.pop(key, None)

    return forget
