"""Which failure is this: what kind, worth another try or not, when, and whether the dependency is to blame.

No client library is imported: a class is known by its top package and name (`_classify_tables`), the rest is read from
what errors carry (`_classify_facts`, `_classify_readers`). What decides, first to last:

- **kind**: `register`, a code that is always meant (`insufficient_quota`), a class that says more than a status does,
  the HTTP status, SQLSTATE, errno and the like, the class, a code that is weak evidence. An error that says nothing is
  explained by its `__cause__`, else by its `__context__` unless that was suppressed. A library's connection error is
  explained further by its cause, so that a timeout or a bad certificate inside it shows.
- **transient**: `error.transient` (True or False), `register`, the server (`x-should-retry`, pushback), the kind.
- **verdict**: *failure* for timeout, connection, overload, server and unknown; *neutral* for rate_limit, rejected,
  cancellation and an expired deadline; for the rest *success* if the dependency answered (not with 408 or 429),
  *neutral* if the error was raised locally. A 429 for a spent quota is therefore neutral, a 403 for it a success.
- **ExceptionGroup**: transient if all its leaves are; the kind they share, else the worst (`_WORST_FIRST`); the longest
  wait; a failure if one leaf is, else a success if one leaf is, else neutral.
- A certificate that does not verify is `connection`, a failure, and not transient.

`classify` never raises, whatever the error's attributes do. A result keeps no reference to the error and no message.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from resilient_agents import _classify_tables as tables
from resilient_agents._classify_facts import (
    cause_of,
    codes_of,
    context_of,
    get,
    hints_of,
    is_daily_quota,
    is_suppressed,
    leaves_of,
    message_of,
    mro_of,
    name_of,
    namespace_of,
    package_of,
    status_of,
)
from resilient_agents._classify_readers import READERS, Reader, grpc_pushback, read_sqlstate
from resilient_agents._classify_tables import CANCELLED, SPECIFIC, UNKNOWN, Kind, Rule, Verdict

__all__ = [
    "Failure",
    "Kind",
    "Verdict",
    "classify",
    "classify_result",
    "counts_against_dependency",
    "http_failure",
    "is_transient",
    "register",
    "verdict",
]


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known about one failure: plain data, without the error, its message or a URL."""

    kind: Kind
    transient: bool
    """Whether another try may succeed."""
    status: int | None
    """The HTTP status, 400 to 599."""
    code: str | None
    """The dependency's own code: `insufficient_quota`, `ThrottlingException`, `UNAVAILABLE`, `40001`."""
    retry_after: float | None
    """Seconds that the server asked to wait, at least 0."""
    type: str
    """Name of the class of the error (or result) that was classified."""
    verdict: Verdict
    """What it says about the dependency."""


def classify(error: BaseException) -> Failure:
    """Say which failure `error` is. Never raises; an error that nothing is known about is of kind `unknown`."""
    cls = type(error)
    traits = _known.get(id(cls))
    if traits is None or traits.epoch is not _epoch or traits.cls() is not cls:
        traits = _learn(cls)
    try:
        plain = traits.plain
        if (
            plain is not None
            and (traits.final or (error.__cause__ is None and error.__context__ is None))
            and (not (own := error.__dict__) or _TELLING.isdisjoint(own))
        ):
            return plain
        return _explain(error, traits, 0, {})
    except Exception:  # an attribute of theirs, in a way that `get` cannot see (a str whose `lower` raises)
        return _failure(traits.rule or UNKNOWN, traits.name)


def is_transient(error: BaseException) -> bool:
    """Whether another try may succeed: the default of `Retry(on=)`."""
    return classify(error).transient


def verdict(error: BaseException) -> Verdict:
    """What `error` says about the dependency: "failure", "success" (it is alive) or "neutral" (nothing)."""
    return classify(error).verdict


def counts_against_dependency(error: BaseException) -> bool:
    """Whether `error` is the dependency's failure: the default of `CircuitBreaker(on=)`."""
    return classify(error).verdict == "failure"


def http_failure(result: object) -> bool:
    """Whether `result` is a response with status 408, 429 or at least 500: a predicate for `when=`.

    A response is any object with an integer `.status_code` or `.status` (httpx, requests, aiohttp, urllib ...).
    """
    for name in ("status_code", "status"):
        status = get(result, name)
        if isinstance(status, int) and not isinstance(status, bool):
            return status in (408, 429) or 500 <= status <= 599
    return False


def classify_result(result: object) -> Failure:
    """Say which failure a result is that `when=` has called one; a result that says nothing is of kind `unknown`.

    Status and wait are read as from an error. The verdict is "failure": `when=` said so. Never raises.
    """
    name = name_of(type(result))
    try:
        status = status_of(result)
        hints = hints_of(result)
        rule = tables.of_status(status) if status else UNKNOWN
        failure = _failure(rule, name, status=status, retry_after=hints.wait, decided=hints.retry)
    except Exception:
        failure = _failure(UNKNOWN, name)
    return replace(failure, verdict="failure")


def register(error_type: type[Exception], *, kind: Kind, transient: bool | None = None) -> None:
    """Teach the classifier that `error_type` and its subclasses are of `kind`.

    The most specific class wins, over the built-in tables too; a later call for the same class replaces the earlier
    one. `transient` overrides what the kind implies. Safe from any thread, and does not keep the class alive.

    Raises:
        TypeError: `error_type` is not a subclass of Exception, or `transient` is neither a bool nor None.
        ValueError: `kind` is not one of the known kinds.
    """
    global _epoch
    if not (isinstance(error_type, type) and issubclass(error_type, Exception)):
        raise TypeError(f"error_type must be a subclass of Exception, got {error_type!r}")
    if kind not in tables.KINDS:
        raise ValueError(f"kind must be one of {', '.join(tables.KINDS)}, got {kind!r}")
    if transient is not None and not isinstance(transient, bool):
        raise TypeError(f"transient must be True, False or None, got {transient!r}")
    key = id(error_type)
    _registered[key] = _Registered(weakref.ref(error_type, _forget(_registered, key)), Rule(kind, transient))
    # After the rule is in: whoever learned a class without it did so under the old epoch and will learn again.
    _epoch = object()


# -------------------------------------------------------------------------------------------- what a class tells
# Kept per class, because each failed attempt asks three times. The tables are keyed by identity and hold the class
# weakly: a metaclass may define `__eq__` or `__hash__`, and a class made at run time must be able to go. No lock: every
# step is one dict operation, and learning a class twice gives the same answer.


class _Registered(NamedTuple):
    cls: Callable[[], type | None]
    rule: Rule


class _Traits(NamedTuple):
    cls: Callable[[], type | None]
    epoch: object
    name: str
    rule: Rule | None
    source: str
    """Who named the class: "registered", "ours", "builtin", "library", or "" if nobody did."""
    packages: frozenset[str]
    reader: Reader | None
    plain: Failure | None
    """The answer, unless the instance carries something of `_TELLING`."""
    final: bool
    """Whether `plain` holds whatever the error's cause is."""
    group: bool
    """Whether it is what its leaves are."""


_epoch: object = object()
_known: dict[int, _Traits] = {}
_registered: dict[int, _Registered] = {}

# Attributes that can change the answer. An error without any is what its class is.
_TELLING: Final = frozenset(
    (
        *("transient", "status_code", "status", "code", "error_code", "type", "error"),
        *("response", "headers", "litellm_response_headers", "retry_after", "body", "details"),
        *("provider_error_code", "provider_error_type", "sqlstate", "pgcode", "sqlite_errorname"),
    )
)
_OPAQUE: Final = _TELLING | {"__getattr__", "__getattribute__"}
_STANDARD: Final = frozenset(("builtins", "socket", "ssl", "asyncio", "concurrent", "subprocess", "http", "sqlite3"))
_OURS: Final = frozenset(("resilient_agents", "pybreaker"))


def _forget(table: dict[int, Any], key: int) -> Callable[[object], None]:
    def forget(dead: object) -> None:
        entry = table.get(key)
        if entry is not None and entry.cls is dead:
            table.pop(key, None)

    return forget


def _learn(cls: type) -> _Traits:
    epoch = _epoch  # before the registrations are read
    mro = mro_of(cls)
    rule, source, reader = _rule_of(mro)
    error = any(c is Exception for c in mro)  # `in` would ask a metaclass
    group = error and source != "registered" and any(c is BaseExceptionGroup for c in mro)
    packages = frozenset(map(package_of, mro))
    plain = None
    final = source in ("registered", "ours", "builtin")
    if not error:
        rule, final = CANCELLED, True
        plain = _failure(CANCELLED, name_of(cls))
    elif group:
        final = False
    elif reader is None and not any(_OPAQUE & namespace_of(c).keys() for c in mro if package_of(c) != "builtins"):
        plain = _failure(rule or UNKNOWN, name_of(cls))
        final = final or (rule is not None and rule.kind not in ("connection", "unknown"))
    key = id(cls)
    ref = weakref.ref(cls, _forget(_known, key))
    traits = _Traits(ref, epoch, name_of(cls), rule, source, packages, reader, plain, final, group)
    _known[key] = traits
    return traits


def _rule_of(mro: tuple[type, ...]) -> tuple[Rule | None, str, Reader | None]:
    """The rule of the most specific class that has one, who said so, and the reader of a class before that."""
    reader = None
    for cls in mro:
        taught = _registered.get(id(cls))
        if taught is not None and taught.cls() is cls:
            return taught.rule, "registered", reader
        package = package_of(cls)
        rule = tables.CLASSES.get((package, name_of(cls)))
        if rule is not None:
            return rule, "ours" if package in _OURS else "builtin" if package in _STANDARD else "library", reader
        reader = reader or READERS.get((package, name_of(cls)))
    return None, "", reader


# ----------------------------------------------------------------------------------------- what an instance tells

_MAX_DEPTH: Final = 16  # causes and nested groups looked into
_FAILING: Final = frozenset[Kind](("timeout", "connection", "overload", "server", "unknown"))
# The kind of a group whose leaves differ: what forbids a retry first, then what is worst for the dependency.
_WORST_FIRST: Final[tuple[Kind, ...]] = (
    "unknown",
    "rejected",
    "auth",
    "quota",
    "context_length",
    "content_filter",
    "validation",
    "not_found",
    "server",
    "connection",
    "overload",
    "timeout",
    "rate_limit",
    "conflict",
)
_Memo = dict[int, Failure | None]  # by id of an error of this one walk; None while it is being looked at


def _failure(
    rule: Rule,
    name: str,
    *,
    status: int | None = None,
    code: str | None = None,
    retry_after: float | None = None,
    decided: bool | None = None,
) -> Failure:
    kind = rule.kind
    transient = decided if decided is not None else rule.transient
    result: Verdict = "neutral"
    if not rule.neutral and kind not in ("rate_limit", "rejected"):
        if kind in _FAILING:
            result = "failure"
        elif (rule.answered or status is not None) and status not in (408, 429):
            result = "success"
    return Failure(
        kind, kind in tables.TRANSIENT if transient is None else transient, status, code, retry_after, name, result
    )


def _traits(error: BaseException) -> _Traits:
    cls = type(error)
    traits = _known.get(id(cls))
    return traits if traits is not None and traits.epoch is _epoch and traits.cls() is cls else _learn(cls)


def _explain(error: BaseException, traits: _Traits, depth: int, memo: _Memo) -> Failure:
    """The whole answer for one error, its causes and leaves included."""
    if traits.rule is CANCELLED and traits.plain is not None:  # not an Exception: nothing it carries matters
        return traits.plain
    memo[id(error)] = None
    if traits.group:
        failure = _explain_group(error, traits.name, depth, memo)
    else:
        plain = traits.plain
        silent = plain is not None and _TELLING.isdisjoint(error.__dict__)
        failure = plain if plain is not None and silent else _explain_one(error, traits)
        if traits.source in ("library", ""):
            failure = _explain_further(error, failure, traits, depth, memo)
    own = get(error, "transient")
    if (own is True or own is False) and traits.source != "ours" and own is not failure.transient:
        failure = replace(failure, transient=own)
    memo[id(error)] = failure
    return failure


def _explain_one(error: BaseException, traits: _Traits) -> Failure:
    hints = hints_of(error)
    rule = traits.rule
    if traits.source == "ours":
        return _failure(rule or UNKNOWN, traits.name, retry_after=hints.wait)
    status = status_of(error, traits.packages)
    codes = codes_of(error)
    code = codes[0] if codes else None
    read, read_code = traits.reader(error) if traits.reader is not None else read_sqlstate(error)
    decided = hints.retry
    if traits.source == "registered" and rule is not None:
        decided = rule.transient if rule.transient is not None else decided
    else:
        if read is tables.BROKEN_REPLY:
            status = None
        rule, told = _decide(codes, status, read, traits)
        code = told or read_code or code
        if rule.kind == "connection" and traits.source == "library":
            status = None  # litellm puts a 500 on a request that never arrived
        if status is not None and rule.kind == "validation":
            message = message_of(error)
            kind = next((kind for phrase, kind in tables.MESSAGES if phrase in message), rule.kind)
            rule = rule._replace(kind=kind)
        elif rule.kind == "rate_limit" and is_daily_quota(error):
            rule = rule._replace(kind="quota")
    wait = hints.wait
    if "grpc" in traits.packages and (pushback := grpc_pushback(error)) is not None:
        if pushback < 0:  # "do not retry", says gRFC A6
            decided = False
        else:
            wait = pushback
    return _failure(rule, traits.name, status=status, code=code, retry_after=wait, decided=decided)


def _decide(codes: list[str], status: int | None, read: Rule | None, traits: _Traits) -> tuple[Rule, str | None]:
    """The rule that wins, and the code if it was one."""
    own = traits.rule
    for code in codes:
        if kind := tables.CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    if own is not None and (
        own.kind in SPECIFIC or (traits.source == "library" and own.kind in ("timeout", "connection") and read is None)
    ):
        return own, None
    if read is not None and read is tables.BROKEN_REPLY:
        return read, None
    if status is not None:
        return tables.of_status(status), None
    if read is not None:
        return read, None
    for code in codes:
        if kind := tables.WEAK_CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    return own or UNKNOWN, None


def _explain_further(error: BaseException, failure: Failure, traits: _Traits, depth: int, memo: _Memo) -> Failure:
    """Let the cause speak where the error itself says nothing, or less."""
    cause = cause_of(error)
    if cause is None and not is_suppressed(error):
        cause = context_of(error)
    if cause is None or depth >= _MAX_DEPTH:
        return failure
    its = _traits(cause)
    key = id(cause)
    inner = memo[key] if key in memo else _explain(cause, its, depth + 1, memo)
    if inner is None or (inner.kind == "unknown" and not inner.transient):
        return failure
    if failure.kind == "unknown" and failure.verdict == "failure":
        # `except KeyError: raise ServiceDown()` is about the service, not about the KeyError.
        if its.source == "builtin" and inner.kind == "validation" and inner.verdict == "neutral":
            return failure
        wait = inner.retry_after if failure.retry_after is None else failure.retry_after
        return replace(inner, type=failure.type, code=inner.code or failure.code, retry_after=wait)
    if _only_wraps(failure, traits):
        nearer = inner.kind in ("timeout", "connection") or (inner.kind == "validation" and its.source == "library")
        return replace(inner, type=failure.type) if nearer and inner.status is None else failure
    if failure.status is not None and inner.status == failure.status:  # the same answer, seen further in
        if inner.kind in SPECIFIC and failure.kind not in SPECIFIC:
            wait = inner.retry_after if failure.retry_after is None else failure.retry_after
            return replace(inner, type=failure.type, retry_after=wait)
        if failure.retry_after is None and inner.retry_after is not None:
            return replace(failure, retry_after=inner.retry_after)
    return failure


def _only_wraps(failure: Failure, traits: _Traits) -> bool:
    """Whether the truth may be in the cause: a library's connection error, and litellm's 500 for a reset."""
    if traits.source == "library" and failure.kind == "connection" and failure.transient:
        return True
    return failure.kind == "server" and "litellm" in traits.packages


def _explain_group(group: BaseException, name: str, depth: int, memo: _Memo) -> Failure:
    if depth >= _MAX_DEPTH:
        return _failure(UNKNOWN, name)
    leaves: list[Failure] = []
    for leaf in leaves_of(group):
        key = id(leaf)
        known = memo[key] if key in memo else _explain(leaf, _traits(leaf), depth + 1, memo)
        if known is not None:
            leaves.append(known)
    if not leaves:
        return _failure(UNKNOWN, name)
    kinds = {leaf.kind for leaf in leaves}
    statuses = {leaf.status for leaf in leaves}
    codes = {leaf.code for leaf in leaves}
    verdicts = {leaf.verdict for leaf in leaves}
    return Failure(
        kind=next(kind for kind in _WORST_FIRST if kind in kinds),
        transient=all(leaf.transient for leaf in leaves),
        status=statuses.pop() if len(statuses) == 1 else None,
        code=codes.pop() if len(codes) == 1 else None,
        retry_after=max((leaf.retry_after for leaf in leaves if leaf.retry_after is not None), default=None),
        type=name,
        verdict="failure" if "failure" in verdicts else "success" if "success" in verdicts else "neutral",
    )
