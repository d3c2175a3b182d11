"""The waterfall: what it shows of an operation, from spans in memory and from files."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from resilient_agents.trace import Moment, Operation, Span, from_sdk, operations, read, render, summary, waterfall
from resilient_agents.trace.exporter import JsonLinesExporter
from resilient_agents.trace.terminal import ASCII, UNICODE, cells, clip, glyphs_for, seconds, wants_colour

MS = 1_000_000
T0 = 1_700_000_000_000 * MS
OURS = "resilient_agents"


def span(
    span_id: str,
    parent: str | None,
    name: str,
    start: float,
    end: float,
    *,
    scope: str = OURS,
    error: bool = False,
    events: Iterable[Moment] = (),
    trace: str = "a" * 32,
    **attributes: Any,
) -> Span:
    """Times in milliseconds. Attributes are ours unless they have a dot, written as two underscores."""
    facts = {key.replace("__", ".") if "__" in key else f"{OURS}.{key}": value for key, value in attributes.items()}
    return Span(
        trace, span_id, parent, scope, name, T0 + round(start * MS), T0 + round(end * MS), facts, tuple(events), error
    )


def moment(name: str, at: float, **attributes: Any) -> Moment:
    return Moment(name, T0 + round(at * MS), {f"{OURS}.{key}": value for key, value in attributes.items()})


STORY = [
    span(
        "op",
        None,
        "policy chat",
        0,
        2000,
        outcome="success",
        attempts=3,
        events=[
            moment("retry.scheduled", 100, delay=0.4, reason="backoff"),
            moment("circuit_breaker.state_change", 550, **{"from": "closed", "to": "open", "circuit_breaker": "model"}),
            moment("retry.scheduled", 600, delay=1.0, reason="retry_after"),
        ],
    ),
    span("a1", "op", "attempt 1", 0, 100, attempt=1, error__type="server", http__response__status_code=503),
    span("u1", "a1", "POST", 10, 90, scope="httpx"),
    span("w1", "op", "wait backoff", 100, 500),
    span("a2", "op", "attempt 2", 500, 600, attempt=2, error__type="rate_limit", http__response__status_code=429),
    span("w2", "op", "wait retry_after", 600, 1600),
    span("a3", "op", "attempt 3", 1600, 2000, attempt=3, outcome="success"),
]


def only(spans: Iterable[Span]) -> Operation:
    (operation,) = operations(spans)
    return operation


def drawn(spans: Iterable[Span], **options: Any) -> list[str]:
    return render(waterfall(only(spans), **options)).splitlines()


def row(picture: list[str], label: str) -> str:
    (found,) = [line for line in picture[3:-1] if label in line]
    return found


def bar(picture: list[str], label: str, glyph: str) -> tuple[float, float]:
    """Where a bar begins and ends, as shares of the operation's bar."""
    whole = picture[4]
    first, length = whole.index("━"), whole.count("━")
    line = row(picture, label)
    begins = line.index(glyph)
    return (begins - first) / length, (begins + line.count(glyph) - first) / length


def test_headline_says_how_it_ended() -> None:
    """The first line names the policy, the outcome, the attempts and the time it all took."""
    assert drawn(STORY)[0] == "policy chat: success after 3 attempts in 2.00 s"


def test_attempts_show_outcome_kind_and_status() -> None:
    """A failed attempt says why; one that went well has a sign of its own."""
    picture = drawn(STORY)
    assert "├ attempt 1 ✗ server 503 " in row(picture, "attempt 1")
    assert "├ attempt 2 ✗ rate_limit 429 " in row(picture, "attempt 2")
    assert "└ attempt 3 ✓ " in row(picture, "attempt 3")
    assert row(picture, "attempt 1").endswith(" 100 ms")


def test_an_attempt_that_was_queued_begins_with_a_wait() -> None:
    """The time that an attempt waited for a slot or a token is part of its bar, with the texture of waits."""
    queued = [span("op", None, "policy x", 0, 100), span("a", "op", "attempt 1", 0, 100, attempt=1, waited=0.05)]
    picture = drawn(queued)
    assert bar(picture, "attempt 1", "░") == pytest.approx((0, 0.5), abs=0.03)
    assert bar(picture, "attempt 1", "█") == pytest.approx((0.5, 1), abs=0.03)


def test_waits_run_until_the_next_attempt_and_say_why() -> None:
    """A wait is as long as the caller really waited, and names backoff or Retry-After."""
    picture = drawn(STORY)
    assert row(picture, "wait (backoff)").endswith(" 400 ms")
    assert row(picture, "wait (Retry-After)").endswith(" 1.00 s")


def test_bars_stand_where_time_puts_them() -> None:
    """Bars begin and end in proportion to time, to within a column or so."""
    picture = drawn(STORY, width=120)
    for label, glyph, begins, ends in [
        ("attempt 1", "▓", 0.0, 0.05),
        ("wait (backoff)", "░", 0.05, 0.25),
        ("wait (Retry-After)", "░", 0.3, 0.8),
        ("attempt 3", "█", 0.8, 1.0),
    ]:
        assert bar(picture, label, glyph) == pytest.approx((begins, ends), abs=0.025), label


def test_state_changes_are_marks_at_their_moment() -> None:
    """A state change names circuit and states and is a mark, not a bar."""
    line = row(drawn(STORY), "model: closed → open")
    assert line.count("◆") == 1
    assert line.endswith("at 550 ms")


def test_rows_are_in_the_order_things_began() -> None:
    """Reading down is reading in time."""
    labels = ["attempt 1", "wait (backoff)", "attempt 2", "model:", "wait (Retry-After)", "attempt 3"]
    picture = drawn(STORY)
    places = [picture.index(row(picture, label)) for label in labels]
    assert places == sorted(places)


def test_the_users_spans_nest_under_their_attempt() -> None:
    """What the function did inside an attempt stands indented below it."""
    picture = drawn(STORY)
    assert picture.index(row(picture, "POST")) == picture.index(row(picture, "attempt 1")) + 1
    assert row(picture, "POST").startswith("│ └ POST")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_it_keeps_to_its_width(width: int) -> None:
    """No line is wider than the terminal, and the picture uses what there is."""
    widths = [cells(line) for line in drawn(STORY, width=width)]
    assert max(widths) == width


def test_names_too_long_or_wide_or_hostile_are_tamed() -> None:
    """Long names are cut, wide characters count double, and escape sequences from a file cannot steer the terminal."""
    spans = [
        span("op", None, "policy " + "名" * 60, 0, 10),
        span("a", "op", "attempt 1", 0, 5, attempt="\x1b[2J\n" + "x" * 90),
    ]
    picture = drawn(spans)
    assert max(map(cells, picture)) <= 80
    assert "\x1b" not in "".join(picture)
    assert "…" in row(picture, "attempt")


def test_without_colour_there_are_no_escapes_and_with_colour_the_text_is_the_same() -> None:
    """Colour adds to the text and changes none of it."""
    lines = waterfall(only(STORY))
    plain, coloured = render(lines), render(lines, colour=True)
    assert "\x1b" not in plain
    stripped = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in stripped.splitlines()] == plain.splitlines()


@pytest.mark.parametrize("outcome", ["\x1b[2J\x1b]0;owned\x07", "\u202eright to left", "two\nlines", "\ud800"])
def test_nothing_that_a_span_says_steers_the_terminal(outcome: str) -> None:
    """Whichever way a text comes into the picture, what leaves it is printable."""
    facts = {"outcome": outcome, "error__type": outcome, "strategy": outcome, "from": outcome, "attempt": outcome}
    events = [moment(name, 1, **facts) for name in ("rejected", "circuit_breaker.state_change", "attempt", outcome)]
    spans = [
        span("op", None, "policy x" + outcome, 0, 100, events=events, trace=outcome, **facts),
        span("a", "op", "attempt 1", 0, 50, trace=outcome, **facts),
        span("b", "a", outcome, 0, 50, scope="app", trace=outcome),
    ]
    for colour in (False, True):
        text = render(waterfall(only(spans)), colour=colour)
        assert re.sub(r"\x1b\[[0-9;]*m|\n", "", text).isprintable()


def test_what_the_output_cannot_encode_is_a_question_mark() -> None:
    """A name in another script comes out as question marks in as many columns, and the picture keeps its shape."""
    lines = waterfall(only([span("op", None, "policy 日本é", 0, 100)]), glyphs=ASCII)
    text = render(lines, encoding="cp1252")
    text.encode("cp1252")
    assert text.splitlines()[0].startswith("policy ????é: success")
    assert text.splitlines()[4].startswith("policy ????é ===")
    assert render(lines, encoding="no such encoding").isascii()


def test_a_hundred_thousand_children_are_drawn_in_seconds() -> None:
    """The picture shows the first and the last of them, and how many lie between."""
    many = 100_000
    events = [moment("rejected", number, strategy="bulkhead") for number in range(many)]
    spans = [
        span("op", None, "policy x", 0, many, events=events),
        *(span(f"a{number}", "op", "attempt 1", number, number + 0.5, attempt=number) for number in range(many)),
    ]
    began = time.process_time()
    picture = drawn(spans)
    assert time.process_time() - began < 10
    assert len(picture) < 250
    assert "… 199,800 more" in "\n".join(picture)


def test_a_long_chain_of_spans_is_walked_once() -> None:
    """Thirty thousand operations below thirty thousand nested spans take no more than each of them once."""
    deep = 30_000
    spans = [span("0", None, "root", 0, 1, scope="app")]
    spans += [span(str(number), str(number - 1), "nested", 0, 1, scope="app") for number in range(1, deep)]
    spans += [span(f"op{number}", str(deep - 1), "policy x", 0, 1) for number in range(deep)]
    began = time.process_time()
    assert len(operations(spans)) == deep
    assert time.process_time() - began < 10


def test_ascii_terminals_get_ascii() -> None:
    """Where the stream cannot encode the glyphs, other ones are used and bars still differ."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert glyphs_for(stream) is ASCII
    assert glyphs_for(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) is UNICODE
    picture = drawn(STORY, glyphs=ASCII)
    assert "".join(picture).isascii()
    assert "xx" in row(picture, "attempt 1")
    assert "##" in row(picture, "attempt 3")


def test_colour_is_for_terminals_whose_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR and TERM=dumb switch it off, and a pipe never has it."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())


def test_an_operation_that_ended_in_an_error_says_so() -> None:
    """Without an outcome attribute the span's status decides."""
    assert drawn([span("op", None, "policy x", 0, 5, error=True)])[0] == "policy x: failure after 0 attempts in 5.0 ms"


def test_an_instant_operation_can_be_drawn() -> None:
    """A span whose clock did not move still has a picture."""
    assert "policy x" in drawn([span("op", None, "policy x", 0, 0), span("a", "op", "attempt 1", 0, 0, attempt=1)])[4]


def test_a_worker_left_behind_lengthens_the_axis() -> None:
    """A span that outlives its operation (an abandoned worker) is drawn in full."""
    late = [
        span("op", None, "policy x", 0, 100),
        span("a", "op", "attempt 1", 0, 100, attempt=1),
        span("w", "a", "work", 0, 400),
    ]
    picture = drawn(late)
    assert picture[4].count("━") == pytest.approx(row(picture, "work").count("▬") / 4, abs=1)


def test_other_events_have_their_say() -> None:
    """Rejections name the strategy, timeouts their limit; shadow breakers say so; unknown events go by their name."""
    events = [
        moment("timeout", 1, limit=0.4, strategy="timeout"),
        moment("rejected", 2, strategy="circuit_breaker", shadow=True),
        moment("fallback", 3),
        moment("cache miss", 4),
    ]
    picture = drawn([span("op", None, "policy x", 0, 5, events=events)])
    for label in ("timeout of 400 ms", "rejected by circuit_breaker (shadow)", "fallback", "cache miss"):
        assert "◆" in row(picture, label)


def test_attempts_told_as_events_are_bars_too() -> None:
    """With attempt spans switched off, an attempt is an event that carries how long it took."""
    picture = drawn([span("op", None, "policy x", 0, 100, events=[moment("attempt", 100, attempt=1, duration=0.05)])])
    assert bar(picture, "attempt 1 ✓", "█") == pytest.approx((0.5, 1.0), abs=0.03)


def test_retry_without_a_next_attempt_waits_as_planned() -> None:
    """A wait that nothing followed is drawn as planned, to the end of the operation at most."""
    events = [
        moment("retry.scheduled", 10, delay=0.05, reason="backoff"),
        moment("retry.scheduled", 80, delay=60.0, reason="backoff"),
    ]
    first, second = (line for line in drawn([span("op", None, "policy x", 0, 100, events=events)]) if "wait (" in line)
    assert (first.split()[-2:], second.split()[-2:]) == (["50", "ms"], ["20", "ms"])


# ----------------------------------------------------------------------------------------------------- which operations


def test_a_wait_in_line_is_a_row_below_its_attempt() -> None:
    """What an attempt waited for has a bar of its own, beneath it."""
    picture = drawn(
        [
            span("op", None, "policy x", 0, 100),
            span("a", "op", "attempt 1", 0, 100, attempt=1, waited=0.05),
            span("w", "a", "wait bulkhead", 0, 50),
        ]
    )
    assert row(picture, "wait (bulkhead)").startswith("  └ wait (bulkhead) ")
    assert bar(picture, "wait (bulkhead)", "░") == pytest.approx((0, 0.5), abs=0.03)


def test_an_attempt_tells_of_retries_inside_it_and_that_it_is_a_hedge() -> None:
    """What multiplies requests is in the label of the attempt."""
    picture = drawn(
        [
            span("op", None, "policy x", 0, 100),
            span("a", "op", "attempt 1", 0, 90, attempt=1, inner_retries=2, error__type="server"),
            span("b", "op", "attempt 2", 50, 100, attempt=2, hedge=1),
        ]
    )
    assert "attempt 1 ✗ server (+2 inside)" in "\n".join(picture)
    assert "attempt 2 (hedge) ✓" in "\n".join(picture)


def test_the_summary_says_where_each_policys_time_went() -> None:
    """A line for each policy, the one that took most time first: calls, success, attempts, and three sums of time."""
    search = {"trace": "b" * 32}
    queue, many = {"trace": "d" * 32}, {"trace": "e" * 32}
    other = [
        span("o2", None, "policy search", 0, 5000, **search, outcome="failure", error=True, waited=3.0),
        span("a", "o2", "attempt 1", 0, 5000, **search, attempt=1, waited=3.0),
        span("w", "a", "wait rate_limit", 0, 3000, **search),
        span("x", None, "policy search", 0, 0, trace="c" * 32, outcome="success"),
        # it stood in line before its attempt, and a fallback took its time after it
        span("o3", None, "policy queue", 0, 1000, **queue, outcome="fallback", attempts=1, waited=0.7),
        span("w", "o3", "wait bulkhead", 0, 700, **queue),
        span("a", "o3", "attempt 1", 700, 800, **queue, attempt=1),
        span("f", "o3", "wait fallback", 800, 1000, **queue),
        # not each attempt has a span
        span("o4", None, "policy many", 0, 500, **many, outcome="failure", attempts=3000, retry_waited=0.1),
        span("a", "o4", "attempt 1", 0, 1, **many, attempt=1),
    ]
    story = [replace(STORY[0], attributes={**STORY[0].attributes, f"{OURS}.retry_waited": 1.4}), *STORY[1:]]
    lines = render(summary([*story, *other], width=100)).splitlines()
    assert [line.split() for line in lines] == [
        ["policy", "calls", "success", "attempts/call", "in", "attempts", "between", "in", "line"],
        ["search", "2", "50%", "0.50", "2.00", "s", "0.0", "ms", "3.00", "s"],
        ["chat", "1", "100%", "3.00", "600", "ms", "1.40", "s", "0.0", "ms"],
        ["queue", "1", "0%", "1.00", "100", "ms", "0.0", "ms", "700", "ms"],
        ["many", "1", "0%", "3000.00", "400", "ms", "100", "ms", "0.0", "ms"],
    ]


def test_the_summary_stays_short() -> None:
    """A file of a thousand policies has twenty lines of summary, in any width."""
    spans = [span(f"o{number}", None, f"policy p{number}", 0, 1) for number in range(1000)]
    lines = render(summary(spans)).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "and 980 more policies"
    assert max(map(len, lines)) <= 80


def test_only_outermost_operations_are_listed_in_order() -> None:
    """An operation inside another is drawn as part of it; strangers' spans are no operations, whatever their name."""
    spans = [
        span("late", None, "policy late", 50, 60, trace="b" * 32),
        span("outer", "root", "policy outer", 0, 40),
        span("root", None, "agent run", 0, 45, scope="app"),
        span("a", "outer", "attempt 1", 0, 40, attempt=1),
        span("inner", "a", "policy inner", 5, 30),
        span("fake", None, "policy of truth", 0, 5, scope="app", trace="c" * 32),
    ]
    found = operations(spans)
    assert [(op.span.name, op.under) for op in found] == [("policy outer", "agent run"), ("policy late", None)]
    picture = render(waterfall(found[0]))
    assert "policy inner" in picture
    assert "under agent run" in picture


def test_parents_in_a_circle_do_not_hang() -> None:
    """A file may lie about who is whose parent."""
    spans = [span("x", "y", "policy x", 0, 5), span("y", "x", "loop", 0, 5, scope="app")]
    assert len(render(waterfall(only(spans))).splitlines()) < 40


def test_interest_prefers_many_kinds_of_events() -> None:
    """The operation to which most different things happened counts as the most interesting."""
    dull = span("d", None, "policy dull", 0, 5, attempts=9, trace="b" * 32, events=[moment("retry.scheduled", 1)] * 8)
    found = operations([dull, *STORY])
    assert max(found, key=lambda op: op.interest).span.name == "policy chat"


# -------------------------------------------------------------------------------------------------------------- sources


def otlp(**span: Any) -> str:
    base = {
        "traceId": "ab" * 16,
        "spanId": "cd" * 8,
        "name": "policy x",
        "startTimeUnixNano": "10",
        "endTimeUnixNano": "30",
    }
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": OURS}, "spans": [base | span]}]}]})


def test_otlp_values_of_every_type_are_read() -> None:
    """Integers travel as text, and so do times; what has no plain value is None."""
    values = [
        {"key": "s", "value": {"stringValue": "x"}},
        {"key": "i", "value": {"intValue": "7"}},
        {"key": "d", "value": {"doubleValue": 0.5}},
        {"key": "b", "value": {"boolValue": False}},
        {"key": "l", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}},
        {"key": "n", "value": {}},
    ]
    events = [{"timeUnixNano": "20", "name": "fallback", "attributes": values[:1]}]
    reading = read([otlp(attributes=values, events=events, status={"code": 2})])
    (found,) = reading.spans
    assert found.attributes == {"s": "x", "i": 7, "d": 0.5, "b": False, "l": [1], "n": None}
    assert (found.start, found.end, found.error, found.scope, found.parent_id) == (10, 30, True, OURS, None)
    assert found.events == (Moment("fallback", 20, {"s": "x"}),)
    assert reading.problems == []


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "7",
        "null",
        '{"a": 1}',
        '{"resourceSpans": 7}',
        '{"resourceSpans": [{"sco',
    ],
)
def test_what_is_not_otlp_is_named_and_skipped(line: str) -> None:
    """A broken line costs that line only."""
    reading = read([otlp(), line, "", otlp(spanId="ef" * 8)])
    assert len(reading.spans) == 2
    assert reading.problems == ["line 2 is not OTLP JSON"]


def test_a_broken_span_costs_only_itself() -> None:
    """The other spans of its line, a batch, are drawn."""
    line = json.loads(otlp())
    spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.insert(0, spans[0] | {"spanId": "ef" * 8, "startTimeUnixNano": "noon"})
    reading = read([json.dumps(line)])
    assert len(reading.spans) == 1
    assert reading.problems == ["line 1 holds 1 span that cannot be read"]


@pytest.mark.parametrize("value", [10**25, -1, 10**400, 1e300])
def test_times_and_numbers_beyond_what_otlp_holds_are_drawn_at_its_ends(value: float) -> None:
    """A file may claim any time and any number: each has some place in the picture."""
    facts = ("attempts", "attempt", "limit", "delay", "waited", "retry_waited", "duration")
    claims = [{"key": f"{OURS}.{fact}", "value": {"intValue": int(value)}} for fact in facts]
    claims += [{"key": "http.response.status_code", "value": {"doubleValue": str(value)}}]
    happened = ("timeout", "retry.scheduled", "attempt", "hedge")
    events = [{"name": name, "timeUnixNano": str(int(value)), "attributes": claims} for name in happened]
    reading = read(
        [
            otlp(name="policy x", startTimeUnixNano=int(value), endTimeUnixNano=5, events=events, attributes=claims),
            otlp(name="attempt", spanId="ef" * 8, parentSpanId="cd" * 8, endTimeUnixNano=value, attributes=claims),
        ]
    )
    assert reading.problems == []
    assert max(cells(line) for line in drawn(reading.spans)) <= 80


def test_metrics_and_logs_are_passed_over() -> None:
    """A collector may write all signals into one file."""
    reading = read(['{"resourceMetrics": []}', '{"resourceLogs": []}', otlp()])
    assert (len(reading.spans), reading.problems) == (1, [])


def test_a_span_exported_twice_counts_once() -> None:
    """Exporters retry, so a span may be in a file twice."""
    assert len(read([otlp(), otlp()]).spans) == 1


def test_memory_and_file_give_the_same_spans(tmp_path: Path) -> None:
    """Spans of the real SDK read the same from memory and from the file that our exporter writes."""
    memory, path = InMemorySpanExporter(), tmp_path / "spans.jsonl"
    provider = TracerProvider(shutdown_on_exit=False)
    for exporter in (memory, JsonLinesExporter(path)):
        provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer(OURS)
    with tracer.start_as_current_span(
        "policy x", attributes={"resilient_agents.attempts": 2, "f": 0.5, "b": True}
    ) as operation:
        operation.add_event("rejected", {"resilient_agents.strategy": "bulkhead"})
        with tracer.start_as_current_span("attempt 1", kind=SpanKind.CLIENT) as attempt:
            attempt.set_status(Status(StatusCode.ERROR))
    provider.shutdown()
    from_file = read(path.read_text().splitlines())
    assert from_file.problems == []
    assert from_file.spans == from_sdk(memory.get_finished_spans())
    assert len(from_file.spans) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_writes_its_own_spans_and_none_of_the_parents(tmp_path: Path) -> None:
    """A child forked while another thread was in the midst of writing exports; what the parent wrote is there once."""
    path = tmp_path / "spans.jsonl"
    code = f"""
import os, sys, threading
from opentelemetry.sdk.trace import TracerProvider
from resilient_agents.trace.exporter import JsonLinesExporter

exporter = JsonLinesExporter({str(path)!r})
tracer = TracerProvider().get_tracer("t")
of_the_parent, of_the_child = tracer.start_span("parent"), tracer.start_span("child")
of_the_parent.end(), of_the_child.end()
exporter.export([of_the_parent])
writing, forked = threading.Event(), threading.Event()
def write():
    with exporter._lock:
        writing.set()
        forked.wait()
threading.Thread(target=write).start()
writing.wait()
if (child := os.fork()) == 0:
    exporter.export([of_the_child])
    exporter.shutdown()
    os._exit(0)
forked.set()
sys.exit(os.waitpid(child, 0)[1])
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=30)
    reading = read(path.read_text().splitlines())
    assert ([found.name for found in reading.spans], reading.problems) == (["parent", "child"], [])
    assert len(path.read_text().splitlines()) == 2


def test_a_line_that_could_not_be_finished_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full in the midst of a line, the next one begins anew."""

    class Full(io.FileIO):
        room = 10

        def write(self, data: Any) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "full")
            taken = super().write(bytes(data)[: self.room])
            self.room -= taken
            return taken

    full = Full(tmp_path / "spans.jsonl", "ab")
    monkeypatch.setattr(Path, "open", lambda path, *args, **options: full)
    exporter = JsonLinesExporter(tmp_path / "spans.jsonl")
    monkeypatch.undo()
    tracer = TracerProvider().get_tracer("t")
    ended = [tracer.start_span(name) for name in ("lost", "kept")]
    for each in ended:
        each.end()
    with pytest.raises(OSError, match="full"):
        exporter.export(ended[:1])
    full.room = 10_000
    exporter.export(ended[1:])
    exporter.shutdown()
    reading = read((tmp_path / "spans.jsonl").read_text().splitlines())
    assert [found.name for found in reading.spans] == ["kept"]
    assert reading.problems == ["line 1 is not OTLP JSON"]


def test_a_span_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    """A name may hold what UTF-8 cannot."""
    path = tmp_path / "spans.jsonl"
    exporter, tracer = JsonLinesExporter(path), TracerProvider().get_tracer("t")
    ended = [tracer.start_span(name) for name in ("one", "\ud800", "two")]
    for each in ended:
        each.end()
    assert exporter.export(ended).name == "SUCCESS"
    assert exporter.export(ended[1:2]).name == "FAILURE"
    exporter.shutdown()
    assert [found.name for found in read(path.read_text().splitlines()).spans] == ["one", "two"]


def test_the_exporter_refuses_after_shutdown(tmp_path: Path) -> None:
    """A span that ends after shutdown is not written to a closed file, and nothing raises."""
    exporter = JsonLinesExporter(tmp_path / "spans.jsonl")
    exporter.shutdown()
    assert exporter.export([]).name == "FAILURE"


# ----------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0.0 ms"),
        (400_000, "0.4 ms"),
        (9_960_000, "10 ms"),
        (999 * MS, "999 ms"),
        (999.6 * MS, "1.00 s"),
        (9_996 * MS, "10.0 s"),
        (99_960 * MS, "1 min 40 s"),
        (245_000 * MS, "4 min 5 s"),
        (100 * 60_000 * MS, "1.7 h"),
        (2**64, "213504 d"),
        (-5, "0.0 ms"),
    ],
)
def test_durations_read_well(nanoseconds: float, text: str) -> None:
    """Units change where the figures would grow long."""
    assert seconds(nanoseconds) == text


def test_clip_is_exact() -> None:
    """The result takes exactly the columns asked for."""
    assert clip("abc", 5, "…") == "abc  "
    assert clip("abcdef", 4, "…") == "abc…"
    assert cells(clip("名名名", 4, "…")) == 4
    assert len(clip("a" + "\u0301" * 1_000_000, 4, "…")) <= 20
