"""What one error tells, with its causes and leaves: rules weighed against each other in the order the package names."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from resilient_agents.classify.codes import CODES, MESSAGES, WEAK_CODES, of_status
from resilient_agents.classify.facts import (
    cause_of,
    codes_of,
    context_of,
    get,
    hints_of,
    is_daily_quota,
    is_suppressed,
    leaves_of,
    message_of,
    status_of,
)
from resilient_agents.classify.kinds import BROKEN_REPLY, CANCELLED, SPECIFIC, UNKNOWN, Failure, Kind, Rule, failure_of
from resilient_agents.classify.readers import grpc_pushback, read_sqlstate
from resilient_agents.classify.traits import TELLING, Traits, traits_of

__all__ = ["explain"]

_MAX_DEPTH: Final = 16  # causes and nested groups looked into
# The kind of a group whose leaves differ: what forbids a retry first, then what is worst for the dependency.
_WORST_FIRST: Final[tuple[Kind, ...]] = (
    "control",
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


def explain(error: BaseException, traits: Traits, depth: int, memo: _Memo, *, hear_context: bool = True) -> Failure:
    """The whole answer for one error, its causes and leaves included. Never raises."""
    if traits.plain is not None and (traits.control or traits.rule is CANCELLED):  # nothing that it carries matters
        return traits.plain
    memo[id(error)] = None
    try:
        failure = _explain_group(error, traits.name, depth, memo) if traits.group else _explain_one(error, traits)
    except Exception:  # a fact of theirs, in a way that `get` cannot see (a str whose `lower` raises)
        failure = failure_of(traits.rule or UNKNOWN, traits.name)
    if traits.source in ("library", "") and not traits.group:
        cause = cause_of(error)
        if cause is None and hear_context and not is_suppressed(error):
            cause = context_of(error)
        if cause is not None and depth < _MAX_DEPTH:
            failure = _explain_further(cause, failure, traits, depth, memo)
    own = get(error, "transient")
    if (own is True or own is False) and traits.source != "ours" and own is not failure.transient:
        failure = replace(failure, transient=own)
    memo[id(error)] = failure
    return failure


def _explain_one(error: BaseException, traits: Traits) -> Failure:
    """What one error says, by its class and by what it carries."""
    if traits.plain is not None and TELLING.isdisjoint(error.__dict__):
        return traits.plain
    hints = hints_of(error)
    rule = traits.rule
    if traits.source == "ours":
        return failure_of(rule or UNKNOWN, traits.name, retry_after=hints.wait)
    status = status_of(error, traits.packages)
    codes = codes_of(error)
    code = codes[0] if codes else None
    read, read_code = traits.reader(error) if traits.reader is not None else read_sqlstate(error)
    decided = hints.retry
    if traits.source == "registered" and rule is not None:
        decided = rule.transient if rule.transient is not None else decided
    else:
        if read is BROKEN_REPLY:
            status = None
        rule, told = _decide(codes, status, read, traits)
        code = told or read_code or code
        if rule.kind == "connection" and traits.source == "library":
            status = None  # litellm puts a 500 on a request that never arrived
        if status is not None and rule.kind == "validation":
            message = message_of(error)
            kind = next((kind for phrase, kind in MESSAGES if phrase in message), rule.kind)
            rule = rule._replace(kind=kind)
        elif rule.kind == "rate_limit" and is_daily_quota(error):
            rule = rule._replace(kind="quota")
    wait = hints.wait
    if "grpc" in traits.packages and (pushback := grpc_pushback(error)) is not None:
        if pushback < 0:  # "do not retry", says gRFC A6
            decided = False
        else:
            wait = pushback
    return failure_of(rule, traits.name, status=status, code=code, retry_after=wait, decided=decided)


def _decide(codes: list[str], status: int | None, read: Rule | None, traits: Traits) -> tuple[Rule, str | None]:
    """The rule that wins, and the code if it was one."""
    own = traits.rule
    for code in codes:
        if kind := CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    if own is not None and (
        own.kind in SPECIFIC or (traits.source == "library" and own.kind in ("timeout", "connection") and read is None)
    ):
        return own, None
    if read is not None and read is BROKEN_REPLY:
        return read, None
    if status is not None:
        return of_status(status), None
    if read is not None:
        return read, None
    for code in codes:
        if kind := WEAK_CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    return own or UNKNOWN, None


def _explain_further(cause: BaseException, failure: Failure, traits: Traits, depth: int, memo: _Memo) -> Failure:
    """Let the cause speak where the error itself (`failure`, `traits`) says nothing, or less."""
    its = traits_of(cause)
    key = id(cause)
    inner = memo[key] if key in memo else explain(cause, its, depth + 1, memo)
    if inner is None or inner.kind == "control" or (inner.kind == "unknown" and not inner.transient):
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


def _only_wraps(failure: Failure, traits: Traits) -> bool:
    """Whether the truth may be in the cause: a library's connection error, and litellm's 500 for a reset."""
    if traits.source == "library" and failure.kind == "connection" and failure.transient:
        return True
    return failure.kind == "server" and "litellm" in traits.packages


def _explain_group(group: BaseException, name: str, depth: int, memo: _Memo) -> Failure:
    """What the leaves of a group say together."""
    if depth >= _MAX_DEPTH:
        return failure_of(UNKNOWN, name)
    leaves: list[Failure] = []
    for leaf in leaves_of(group):
        key = id(leaf)
        known = memo[key] if key in memo else explain(leaf, traits_of(leaf), depth + 1, memo)
        if known is not None:
            leaves.append(known)
    if not leaves:
        return failure_of(UNKNOWN, name)
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
