"""What one error tells, with its causes and leaves: rules weighed against each other in the order the package names."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from resilient_agents.classify.codes import CODES, WEAK_CODES, of_status
from resilient_agents.classify.facts import (
    TELLING,
    Facts,
    carried_by,
    codes_in,
    codes_of,
    context_of,
    get,
    is_suppressed,
    leaves_of,
    made_of,
    message_of,
    status_of,
    told_by,
)
from resilient_agents.classify.hints import hints_of, is_daily_quota
from resilient_agents.classify.kinds import (
    BROKEN_REPLY,
    CANCELLED,
    SPECIFIC,
    UNKNOWN,
    Failure,
    Kind,
    Phase,
    Rule,
    Verdict,
    failure_of,
)
from resilient_agents.classify.readers import MUTE, Reading, read_sqlstate
from resilient_agents.classify.traits import Traits, traits_of
from resilient_agents.classify.wording import REFUSALS, found_in

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
_WEIGHTIEST_FIRST: Final[tuple[Verdict, ...]] = ("failure", "success", "neutral")
_T = TypeVar("_T")
_Memo = dict[int, Failure | None]  # by id of an error of this one walk; None while it is being looked at


def explain(error: BaseException, traits: Traits, depth: int, memo: _Memo, *, hear_context: bool = True) -> Failure:
    """The whole answer for one error, its causes and leaves included. Never raises."""
    if traits.plain is not None and (traits.control or traits.rule is CANCELLED):  # nothing that it carries matters
        return traits.plain
    memo[id(error)] = None
    try:
        failure = _explain_group(error, traits.name, depth, memo) if traits.group else _explain_one(error, traits)
    except Exception:  # a fact of theirs, in a way that `get` cannot see (a str whose `lower` raises)
        failure = failure_of(traits.rule or UNKNOWN, traits.name, phase=traits.phase)
    if traits.source not in ("registered", "ours") and not traits.group and depth < _MAX_DEPTH:
        failure = _hear_others(error, failure, traits, depth, memo, hear_context=hear_context)
    own = get(error, "transient")
    if (own is True or own is False) and traits.source != "ours" and own is not failure.transient:
        failure = _as_it_says(failure, transient=own)
    memo[id(error)] = failure
    return failure


def _as_it_says(failure: Failure, *, transient: bool) -> Failure:
    """An error knows of itself whether it is transient."""
    if transient and failure.kind == "validation" and failure.verdict == "neutral":
        return replace(failure, transient=transient, kind="unknown", verdict="failure")
    return replace(failure, transient=transient)


def _explain_one(error: BaseException, traits: Traits) -> Failure:
    """What one error says, by its class and by what it carries."""
    if traits.plain is not None and TELLING.isdisjoint(error.__dict__):
        return traits.plain
    if traits.source == "ours":
        wait = hints_of(told_by(error)).wait
        return failure_of(traits.rule or UNKNOWN, traits.name, retry_after=wait, phase=traits.phase)
    read = traits.reader(error) if traits.reader is not None else read_sqlstate(error)
    facts = {} if traits.reader in MUTE else _facts_of(error, traits)
    status = None if read.rule is BROKEN_REPLY else read.status or status_of(facts, traits.packages)
    codes = codes_of(facts)
    wait, decided = hints_of(facts, status)
    if traits.source == "registered" and traits.rule is not None:
        rule, told = traits.rule, None
        decided = rule.transient if rule.transient is not None else decided
    else:
        rule, told = _decide(codes, status, read, wait is not None, traits)
        rule, told, status = _refine(error, facts, rule, told, status, traits)
    return failure_of(
        rule,
        traits.name,
        status=status,
        code=told or read.code or (codes[0] if codes else None),
        retry_after=wait if read.wait is None else read.wait,
        decided=decided if read.retry is None else read.retry,
        phase=read.phase or (traits.phase if status is None else None),
    )


def _facts_of(error: BaseException, traits: Traits) -> Facts:
    """What an error tells; attributes that neither it nor its class has are not asked for."""
    if traits.telling is None:
        return told_by(error)
    return told_by(error, traits.telling | (TELLING & error.__dict__.keys()))


def _decide(
    codes: list[str], status: int | None, read: Reading, hinted: bool, traits: Traits
) -> tuple[Rule, str | None]:
    """The rule that wins, and the code if it was one."""
    own = traits.rule
    for code in codes:
        if kind := CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    if own is not None and _says_more(own, read, traits):
        return own, None
    if read.rule is BROKEN_REPLY:
        return BROKEN_REPLY, None
    if status is not None:
        return of_status(status, hinted=hinted), None
    if read.rule is not None:
        return read.rule, None
    for code in codes:
        if kind := WEAK_CODES.get(code.lower()):
            return Rule(kind, answered=True), code
    return own or UNKNOWN, None


def _says_more(own: Rule, read: Reading, traits: Traits) -> bool:
    """Whether a class says more than the status of its error."""
    if own.sure or own.kind in SPECIFIC:
        return True
    return traits.source == "library" and own.kind in ("timeout", "connection") and read.rule is None


def _refine(
    error: BaseException, facts: Facts, rule: Rule, told: str | None, status: int | None, traits: Traits
) -> tuple[Rule, str | None, int | None]:
    """What the message adds to a rule: the code in it that a gateway put there, a phrase, a quota per day."""
    if rule.kind == "connection" and traits.source == "library":
        return rule, told, None  # litellm puts a 500 on a request that never arrived
    if rule.kind == "rate_limit" and is_daily_quota(facts):
        return rule._replace(kind="quota"), told, status
    if status is None or told is not None or rule.kind in SPECIFIC or rule.sure:
        return rule, told, status
    message = message_of(error)
    if rule.kind == "validation":
        kind = next((kind for phrase, kind in REFUSALS if found_in(message, phrase)), None)
        if kind is not None:
            return rule._replace(kind=kind), None, status
    code = next((code for code in codes_in(message) if code in CODES), None)
    return (rule, None, status) if code is None else (Rule(CODES[code], answered=True), code, status)


def _hear_others(
    error: BaseException, failure: Failure, traits: Traits, depth: int, memo: _Memo, *, hear_context: bool
) -> Failure:
    """What the error that this one is about, or that was handled when it was raised, adds to it.

    How far a request had come is told only by what is known to be about the same request: a cause, or an error that
    this one was made of; not by the failure of another dependency for which this one stood in.
    """
    cause = carried_by(error)
    other = cause if cause is not None or not hear_context else context_of(error)
    if other is None:
        return failure
    further = failure
    if traits.source != "builtin" and (cause is not None or not is_suppressed(error)):
        further = _explain_further(other, failure, traits, depth, memo, carried=cause is not None)
    if cause is None and not made_of(error, other):
        return further if further.phase == failure.phase else replace(further, phase=failure.phase)
    if further.phase is None and further.status is None and further.kind in ("timeout", "connection", "overload"):
        its = _explained(other, depth, memo)
        if its is not None and its.phase is not None:
            return replace(further, phase=its.phase)
    return further


def _explained(error: BaseException, depth: int, memo: _Memo) -> Failure | None:
    """The answer for a cause or a leaf, None while it is being looked at."""
    key = id(error)
    return memo[key] if key in memo else explain(error, traits_of(error), depth + 1, memo)


def _explain_further(
    cause: BaseException, failure: Failure, traits: Traits, depth: int, memo: _Memo, *, carried: bool
) -> Failure:
    """Let the cause speak where the error itself (`failure`, `traits`) says nothing, or less."""
    its = traits_of(cause)
    inner = _explained(cause, depth, memo)
    if inner is None or inner.kind == "control" or (inner.kind == "unknown" and not inner.transient):
        return failure
    if failure.kind == "unknown" and failure.verdict == "failure":
        # `except KeyError: raise ServiceDown()` is about the service, not about the KeyError.
        if its.source == "builtin" and inner.kind == "validation" and inner.verdict == "neutral":
            return failure
        wait = inner.retry_after if failure.retry_after is None else failure.retry_after
        return replace(inner, type=failure.type, code=inner.code or failure.code, retry_after=wait)
    if failure.status is not None and inner.status is not None:
        return _same_answer(failure, inner, traits)
    return _unwrapped(failure, inner, its, carried=carried) if _only_wraps(failure, traits) else failure


def _unwrapped(failure: Failure, inner: Failure, its: Traits, *, carried: bool) -> Failure:
    """What an error that only wraps another one says, with what is known of that (`inner`, of which `its` class)."""
    if inner.status is not None:  # no failure of the connection, where it is carried along: it was answered
        return replace(inner, type=failure.type) if carried else failure
    wrapped = "litellm" in its.packages  # which wraps what it wraps once more
    local = inner.kind == "validation" and (its.source == "library" or wrapped)
    if local or inner.kind in ("timeout", "connection"):
        return replace(inner, type=failure.type, code=inner.code or failure.code, phase=failure.phase or inner.phase)
    return failure


def _same_answer(failure: Failure, inner: Failure, traits: Traits) -> Failure:
    """One answer of a server's, seen from outside and further in."""
    if inner.status != failure.status:  # litellm makes a 500 of what it does not know, such as 529
        misread = failure.kind == "server" and "litellm" in traits.packages
        return replace(inner, type=failure.type) if misread else failure
    wait = inner.retry_after if failure.retry_after is None else failure.retry_after
    if inner.kind in SPECIFIC and failure.kind not in SPECIFIC:
        return replace(inner, type=failure.type, retry_after=wait)
    return failure if wait == failure.retry_after else replace(failure, retry_after=wait)


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
        known = _explained(leaf, depth, memo)
        if known is not None:
            leaves.append(known)
    if not leaves:
        return failure_of(UNKNOWN, name)
    kinds = {leaf.kind for leaf in leaves}
    verdicts = {leaf.verdict for leaf in leaves}
    phases: set[Phase | None] = {leaf.phase for leaf in leaves}
    return Failure(
        kind=next(kind for kind in _WORST_FIRST if kind in kinds),
        transient=all(leaf.transient for leaf in leaves),
        status=_shared({leaf.status for leaf in leaves}),
        code=_shared({leaf.code for leaf in leaves}),
        retry_after=max((leaf.retry_after for leaf in leaves if leaf.retry_after is not None), default=None),
        type=name,
        verdict=next(verdict for verdict in _WEIGHTIEST_FIRST if verdict in verdicts),
        phase=None if len(phases) > 1 else phases.pop(),
    )


def _shared(values: set[_T | None]) -> _T | None:
    """The value that all have, None where they differ."""
    return values.pop() if len(values) == 1 else None
