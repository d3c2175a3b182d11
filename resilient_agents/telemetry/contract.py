"""What is sent, in tables: spans, their events and attributes, each with what it means. The docs are made from them,
and from the metrics in `metric_table`.

Every attribute value is bounded: a name that a developer gave, words of a closed set, or a number. No message,
argument, result or URL is ever a value.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from resilient_agents.classify.kinds import KINDS
from resilient_agents.telemetry import names

__all__ = ["ATTRIBUTES", "EVENTS", "SPANS", "Attribute", "Span", "SpanEvent"]


class Attribute(NamedTuple):
    """One attribute. `values`: the closed set its values come from; empty for numbers and given names."""

    name: str
    type: Literal["string", "string[]", "int", "double", "boolean"]
    description: str
    values: tuple[str, ...] = ()


class Span(NamedTuple):
    """One kind of span. `attributes`: what it may carry."""

    name: str
    description: str
    attributes: tuple[str, ...]


class SpanEvent(NamedTuple):
    """One event on an operation span."""

    name: str
    description: str
    attributes: tuple[str, ...]


STRATEGIES: Final = (
    "circuit_breaker",
    "rate_limit",
    "bulkhead",
    "gate",
    "hedge",
    "run_budget",
    "timeout",
    "stream_timeout",
    "deadline",
    "retry_budget",
    "require_healthy",
)

ATTRIBUTES: Final = (
    Attribute(names.POLICY, "string", "Name of the policy, by default the guarded function's `module.qualname`."),
    Attribute(names.ATTEMPT, "int", "Which attempt this is, from 1."),
    Attribute(
        names.ATTEMPT_COUNT, "int", "How many attempts the operation made; 0 if it was refused before the first."
    ),
    Attribute(
        names.OUTCOME,
        "string",
        "How it ended. Only operations end in `fallback`.",
        ("success", "failure", "rejected", "fallback", "cancelled"),
    ),
    Attribute(names.RETRIED, "boolean", "Did the operation make more than one attempt?"),
    Attribute(
        names.GAVE_UP,
        "string",
        "Why a retryable failure was not retried any more.",
        ("stop", "retry_after", "deadline", "budget", "unknown_outcome"),
    ),
    Attribute(names.FAILED, "string[]", "The kinds of failure that attempts ran into, each once.", KINDS),
    Attribute(
        names.INNER_RETRIES, "int", "How often the client library tried again by itself, where it says so and did."
    ),
    Attribute(
        names.CHAOS,
        "string",
        "What a `Chaos` did on purpose to this attempt, or to the operation.",
        ("latency", "error", "result", "truncated"),
    ),
    Attribute(
        names.FALLBACK_BY,
        "string",
        "Who stands in, or answered: the name of the fallback's function or of its policy; `value` for a value.",
    ),
    Attribute(names.HEDGE_NUMBER, "int", "Which further request of a hedged call this is, from 1."),
    Attribute(names.DELAY, "double", "Seconds until the next attempt."),
    Attribute(names.REASON, "string", "Where the wait comes from.", ("backoff", "retry_after")),
    Attribute(names.STRATEGY, "string", "The strategy that did it.", STRATEGIES),
    Attribute(names.RETRY_AFTER, "double", "Seconds after which trying again makes sense."),
    Attribute(names.LIMIT, "double", "The time limit, in seconds."),
    Attribute(names.DEADLINE, "double", "Seconds that the caller's deadline left, where there was one."),
    Attribute(names.SEQUENCE, "int", "In which order operations began, those of one process counted from 1."),
    Attribute(
        names.CLOCK,
        "double",
        "When the operation began by the clock that the policy goes by, in seconds since some moment of the process's.",
    ),
    Attribute(names.CONFIGURATION, "string", "Fingerprint of the policy's strategies and options."),
    Attribute(names.IN_USE, "int", "Slots of the policy's bulkheads that were taken when the operation began, if any."),
    Attribute(names.QUEUED, "int", "Calls that waited for such a slot when the operation began, if any."),
    Attribute(
        names.FUNCTION_BEGAN,
        "double",
        "Seconds from the attempt's beginning until the function, or chaos in its place, began; absent if neither did.",
    ),
    Attribute(
        names.LATE, "double", "Seconds by which a blocking call outran its limit; its value was returned all the same."
    ),
    Attribute(names.WAITED, "double", "Seconds spent waiting for slots and tokens."),
    *(
        Attribute(name, "double", f"Those of them that were spent at a {strategy.replace('_', ' ')}.")
        for strategy, name in names.WAITED_FOR.items()
    ),
    Attribute(names.RETRY_WAITED, "double", "Seconds spent waiting between attempts."),
    Attribute(names.COST, "double", "What it took of a rate limit that asks what a call costs, before it began."),
    Attribute(names.SETTLED, "double", "What it cost in the end, as its result told the rate limit."),
    Attribute(
        names.CALLED,
        "string",
        "How the function was called where it was not simply awaited.",
        ("blocking", "stream", "blocking stream"),
    ),
    Attribute(
        names.FIRST_ITEM,
        "double",
        "Seconds until the first item of a stream, retries and waits included; of an attempt, from its beginning.",
    ),
    Attribute(names.ITEMS, "int", "Items of a stream."),
    Attribute(
        names.LONGEST_GAP, "double", "The longest, in seconds, that a stream let its consumer wait for a further item."
    ),
    Attribute(names.PARTS, "int", "Of how many streams this one is made."),
    Attribute(
        names.FINISH,
        "string",
        "Why the stream is complete, in the server's own word, such as `length`, `content_filter` or `end_turn`.",
    ),
    Attribute(
        names.UNKNOWN_OUTCOME,
        "boolean",
        "Present and true where a call that may not be made twice may have taken effect all the same.",
    ),
    Attribute(names.LEFT_OUT, "int", "How many spans of attempts and waits were not made, there being too many."),
    *(
        Attribute(name, "double", f"What the budget of the run had {had} when the operation ended: {unit}.")
        for what, name in names.RUN_BUDGET.items()
        for unit, had in [what.split(".")]
    ),
    Attribute(names.DURATION, "double", "Seconds that the attempt took, where it has no span of its own."),
    Attribute(names.CIRCUIT_BREAKER, "string", "Name of the circuit breaker; `unnamed` for all that have none."),
    Attribute(names.FROM, "string", "State before.", names.STATES),
    Attribute(names.TO, "string", "State after.", names.STATES),
    Attribute(
        names.STATE,
        "string",
        "The state that the value is about; of an operation, the one in which a circuit of the policy was when it "
        "began, if it was not closed.",
        names.STATES,
    ),
    Attribute(names.BULKHEAD, "string", "Name of the bulkhead; `unnamed` for all that have none."),
    Attribute(names.RATE_LIMIT, "string", "Name of the rate limit; on a span `unnamed` if it has none."),
    Attribute(names.GATE, "string", "Name of the gate; on a span `unnamed` if it has none."),
    Attribute(
        names.SHADOW,
        "boolean",
        "Present and true where the strategy is in shadow: nothing was really refused.",
    ),
    Attribute(names.HEALTH_CHECK, "string", "Name of the health check."),
    Attribute(
        names.STATUS, "string", "What the health check found, or the status that the value is about.", names.STATUSES
    ),
    Attribute(names.CRITICAL, "boolean", "Does the failure of this health check make the service unhealthy?"),
    Attribute(names.ERROR_TYPE, "string", "Kind of the failure.", KINDS),
    Attribute(names.TRANSIENT, "boolean", "Whether another try may succeed, where the kind alone says otherwise."),
    Attribute(
        names.VERDICT,
        "string",
        "What the failure says about the dependency, where its kind and status alone say something else.",
        ("failure", "success", "neutral"),
    ),
    Attribute(
        names.DECIDED,
        "string[]",
        "What `on=` and `when=` of your own decided, in order: the strategy (`circuit_breaker 2` is the second one in "
        "the policy), and of a circuit breaker what the outcome counted as (failure, success, neutral), of others yes "
        "or no; `result` where a result was taken for a failure; `slow` or `quick` of what took about `slow_call`.",
    ),
    Attribute(names.STATUS_CODE, "int", "HTTP status of the failure, where it has one."),
    Attribute(
        names.OPENINFERENCE_KIND,
        "string",
        "For backends that follow OpenInference: ours are links of a chain, never model calls.",
        ("CHAIN",),
    ),
)

_FAILURE: Final = (names.ERROR_TYPE, names.STATUS_CODE)
_WHOLE_FAILURE: Final = (*_FAILURE, names.RETRY_AFTER, names.TRANSIENT, names.VERDICT)
_ENDING: Final = (*_WHOLE_FAILURE, names.DECIDED)

SPANS: Final = (
    Span(
        names.OPERATION_PREFIX + "<name>",
        "One operation, until the caller has its answer. Status ERROR only when the caller sees an error.",
        (
            names.POLICY,
            names.ATTEMPT_COUNT,
            names.OUTCOME,
            names.GAVE_UP,
            names.UNKNOWN_OUTCOME,
            names.WAITED,
            names.RETRY_WAITED,
            names.FAILED,
            names.FIRST_ITEM,
            names.ITEMS,
            names.LONGEST_GAP,
            names.PARTS,
            names.FINISH,
            names.LEFT_OUT,
            *names.RUN_BUDGET.values(),
            names.SEQUENCE,
            names.CLOCK,
            names.CONFIGURATION,
            names.DEADLINE,
            names.CALLED,
            names.COST,
            names.SETTLED,
            names.STATE,
            names.IN_USE,
            names.QUEUED,
            *names.WAITED_FOR.values(),
            *names.NAMED_STRATEGIES.values(),
            names.STRATEGY,
            names.FALLBACK_BY,
            names.CHAOS,
            *_ENDING,
            names.OPENINFERENCE_KIND,
        ),
    ),
    Span(
        names.ATTEMPT_PREFIX + "<n>",
        "One attempt, from 20 on `attempt 20+`; spans that the guarded function makes nest under it. Status ERROR when "
        "it failed or was refused, with a description such as `rate_limit 429`.",
        (
            names.ATTEMPT,
            names.OUTCOME,
            names.FUNCTION_BEGAN,
            names.FIRST_ITEM,
            names.COST,
            names.SETTLED,
            names.WAITED,
            *names.WAITED_FOR.values(),
            *names.NAMED_STRATEGIES.values(),
            names.INNER_RETRIES,
            names.HEDGE_NUMBER,
            names.FALLBACK_BY,
            names.STRATEGY,
            names.CHAOS,
            *_ENDING,
            names.OPENINFERENCE_KIND,
        ),
    ),
    Span(
        names.WAIT_PREFIX + "<reason>",
        "One wait of a millisecond or more: `backoff` and `retry_after` between attempts; `bulkhead`, `rate_limit` and "
        "`gate` beneath the attempt that waited, or beneath the operation; `fallback` for a handler, `reconcile` for "
        "what looks up what an attempt has done, and `before`, `after` and `before_sleep` for a retry's hooks.",
        (names.OPENINFERENCE_KIND,),
    ),
)

EVENTS: Final = (
    SpanEvent(
        names.RETRY_SCHEDULED,
        "An attempt failed and another follows.",
        (names.DELAY, names.ATTEMPT, names.REASON, *_FAILURE),
    ),
    SpanEvent(
        names.STATE_CHANGE,
        "A circuit changed its state during this operation.",
        (names.CIRCUIT_BREAKER, names.FROM, names.TO, names.SHADOW),
    ),
    SpanEvent(
        names.REJECTED,
        "A strategy refused the attempt, or a spent retry budget (`retry_budget`) the next one.",
        (
            names.STRATEGY,
            names.RETRY_AFTER,
            names.CIRCUIT_BREAKER,
            names.BULKHEAD,
            names.RATE_LIMIT,
            names.GATE,
            names.SHADOW,
        ),
    ),
    SpanEvent(
        names.TIMEOUT,
        "A time limit ended the operation or the attempt, or was outrun (`resilient_agents.late`).",
        (names.STRATEGY, names.LIMIT, names.LATE),
    ),
    SpanEvent(names.FALLBACK, "A fallback stands in for an error or a result.", (names.FALLBACK_BY, *_WHOLE_FAILURE)),
    SpanEvent(
        names.HEDGE,
        "A further attempt was started because the one before is slow or has failed.",
        (names.DELAY, names.HEDGE_NUMBER),
    ),
    SpanEvent(
        names.ATTEMPT_EVENT,
        "An attempt ended. Only with `configure(attempt_spans=False)`, in place of its span.",
        (names.ATTEMPT, names.OUTCOME, names.DURATION, names.INNER_RETRIES, *_FAILURE),
    ),
)
