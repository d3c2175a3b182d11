"""The demo: its counting, its pictures, and once the whole of it as its users run it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from rich.console import Console

from resilient_agents import Policy, classify, cli, events
from resilient_agents.demo import report
from resilient_agents.demo.display import LiveProgress, PlainProgress, progress
from resilient_agents.demo.faults import draw
from resilient_agents.demo.policies import policies
from resilient_agents.demo.server import TOKENS, Server
from resilient_agents.demo.session import Session, Workers
from resilient_agents.demo.tally import Tally, percentile
from resilient_agents.demo.traffic import KINDS, Arrival, Kind
from resilient_agents.telemetry.names import ATTEMPT_COUNT, REASON
from resilient_agents.trace import Moment, Operation, Span

# ------------------------------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0], 0.99, 1.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    """Nearest rank: a figure that some call really had."""
    assert percentile(values, share) == expected


def test_nothing_measured_is_not_a_number() -> None:
    """Without calls there is no rate and no percentile, rather than a pretty zero."""
    assert math.isnan(percentile([], 0.5))
    assert math.isnan(Tally(KINDS).numbers["agent"].share(0))


def test_a_tally_counts_what_callers_saw_and_what_policies_did() -> None:
    """Answers, failures by kind, and each deed of a strategy."""
    tally = Tally(KINDS)
    for _ in range(5):
        tally.start("agent")
    tally.answer("agent", 0.1)
    tally.answer("agent", 0.2)
    tally.fail("agent", "server")
    failure = classify(ConnectionError())
    told: list[events.Event] = [
        events.AttemptStarted("p", 1),
        events.RetryScheduled("p", 1, 0.2, "backoff", failure),
        events.TimeoutExpired("p", "timeout", 0.4),
        events.CallRejected("p", "circuit_breaker"),
        events.FallbackUsed("p", failure),
        events.CallEnded("p", "fallback", 1, 0.2),
        events.CallEnded("p", "success", 1, 0.2),
        events.CallEnded("p", "success", 1, 0.2, items=12, parts=3),
        events.Waited("p", "bulkhead", 0.1),
        events.CircuitOpened("p", "model", "closed", "open"),
        events.CircuitHalfOpened("p", "model", "open", "half-open"),
        events.CallStarted("p"),
    ]
    for event in told:
        tally.happened("agent", event, 1.0)
    numbers = tally.numbers["agent"]
    assert (numbers.started, numbers.answered, numbers.by_fallback, numbers.failed) == (5, 1, 1, 1)
    assert numbers.share(numbers.answered) == 1 / 3
    assert numbers.did == dict.fromkeys(
        ("attempts", "retries", "timeouts", "rejected", "fallbacks", "waited", "opened", "resumed"), 1
    )
    assert tally.circuits == {"model": "half-open"}
    assert [said for _, said in tally.changes] == ["circuit model: closed -> open", "circuit model: open -> half-open"]
    assert "agent: attempt 1 failed (connection), next in 0.20 s (backoff)" in [said for _, said in tally.said()]


# ------------------------------------------------------------------------------------------------------------- sessions


def test_a_run_without_policies_gives_callers_what_the_server_gave() -> None:
    """On a healthy server each call is one request and an answer, whichever way it is made."""
    tally = Tally(KINDS)
    began: list[bool] = []
    arrivals = [Arrival(0, kind, f"{kind}-1") for kind in KINDS]
    with Server(seed=1, faults=False) as server:
        Session(server.url, tally).run(arrivals, lambda: began.append(True), lambda elapsed: None)
        requests = dict(server.requests)
    assert began == [True]
    assert [tally.numbers[kind].answered for kind in KINDS] == [1, 1, 1]
    assert requests == {"/chat": 1, "/search": 1, "/stream": 1}
    assert all(numbers.did.total() == 0 for numbers in tally.numbers.values())


def test_a_run_with_policies_counts_what_they_do() -> None:
    """The same calls through policies are attempts of these."""
    tally = Tally(KINDS)
    guards: dict[Kind, Policy] = {kind: Policy(name=kind) for kind in KINDS}
    with Server(seed=1, faults=False) as server:
        Session(server.url, tally, guards).run([Arrival(0, kind, kind) for kind in KINDS], bool, lambda elapsed: None)
    assert [tally.numbers[kind].did["attempts"] for kind in KINDS] == [1, 1, 1]


def test_callers_see_failures_as_kinds() -> None:
    """What comes out as an error is counted by what it is."""
    tally = Tally(KINDS)
    with Server(seed=1, faults=False) as server:
        url = server.url
    Session(url, tally).run([Arrival(0, kind, kind) for kind in KINDS], bool, lambda elapsed: None)
    assert [dict(tally.numbers[kind].errors) for kind in KINDS] == [{"connection": 1}] * 3


def test_the_policies_name_their_strategies() -> None:
    """Agent and stream share the circuit breaker of their model, and the tool has one of its own."""
    made = policies()
    assert set(made) == set(KINDS)
    breakers = {
        kind: [s for s in policy.strategies if type(s).__name__ == "CircuitBreaker"] for kind, policy in made.items()
    }
    assert breakers["agent"] == breakers["tokens"] != breakers["tool"]


def test_workers_end_when_told_to() -> None:
    """Stopped workers leave no threads behind."""
    before = set(threading.enumerate())
    workers = Workers(2)
    started = set(threading.enumerate()) - before
    assert len(started) == 2
    workers.stop()
    for thread in started:
        thread.join(5)
        assert not thread.is_alive()


# ------------------------------------------------------------------------------------------------------------- pictures


def console(width: int = 80, *, terminal: bool = False) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, force_terminal=terminal, highlight=False, _environ={"TERM": "xterm"}), file


def test_a_pipe_gets_lines_now_and_then() -> None:
    """A line every two seconds, one when the server goes down and comes back, one for each change of a circuit."""
    screen, file = console()
    tally = Tally(KINDS)
    down = False
    with progress(screen, "run", tally, lambda: down, guarded=True) as shown:
        assert isinstance(shown, PlainProgress)
        for tenth in range(45):
            if tenth == 10:
                down = True
                tally.happened("agent", events.CircuitOpened("p", "model", "closed", "open"), 0.95)
            down = 10 <= tenth < 20
            shown.show(tenth / 10)
    assert file.getvalue().splitlines() == [
        "run",
        "   0.9 s  circuit model: closed -> open",
        "   1.0 s  the server is down",
        "   2.0 s  the server is back",
        "   2.0 s  answered: agent 0 of 0, tool 0 of 0, tokens 0 of 0",
        "   4.0 s  answered: agent 0 of 0, tool 0 of 0, tokens 0 of 0",
        "",
    ]


@pytest.mark.parametrize("guarded", [False, True])
def test_a_terminal_gets_a_live_table(guarded: bool) -> None:
    """Calls, attempts, what strategies did, circuits and the server's state, within 80 columns."""
    screen, file = console(terminal=True)
    tally = Tally(KINDS)
    tally.happened("agent", events.CircuitOpened("p", "model", "closed", "open"), 0.9)
    with progress(screen, "run", tally, lambda: True, guarded=guarded) as shown:
        assert isinstance(shown, LiveProgress)
        shown.show(1.0)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", file.getvalue())
    assert "DOWN" in text
    assert "async agent" in text
    assert ("retries" in text) is guarded
    assert max(map(len, text.replace("\r", "\n").splitlines())) <= 80


def printed(thing: object, width: int = 80) -> str:
    screen, file = console(width)
    screen.print(thing)
    return file.getvalue()


def test_the_comparison_holds_what_was_measured() -> None:
    """Rates, requests and percentiles of both runs; a kind without calls shows dashes."""
    without, guarded = Tally(KINDS), Tally(KINDS)
    for seconds in (0.1, 0.2, 0.3):
        without.answer("agent", seconds)
    without.fail("agent", "server")
    without.numbers["agent"].requests = 4
    guarded.answer("agent", 1.0)
    guarded.answer("agent", 1.5)
    guarded.numbers["agent"].did["fallbacks"] = 1
    lines = printed(report.comparison(without, guarded)).splitlines()
    first, second = [line.split() for line in lines if "async agent  " in line or line.split()[:1] == ["with"]][:2]
    assert first == ["async", "agent", "without", "4", "75.0%", "-", "4", "0", "200", "ms", "300", "ms"]
    assert second == ["with", "2", "50.0%", "50.0%", "0", "0", "1.00", "s", "1.50", "s"]
    assert "tool threads  without      0         -" in printed(report.comparison(without, guarded))
    assert "stay below 100 %" in printed(report.comparison(without, guarded))


def test_errors_and_deeds_are_listed() -> None:
    """Which kinds of failure callers were left with, the most frequent first, and what each strategy did."""
    without, guarded = Tally(KINDS), Tally(KINDS)
    for kind in ("timeout", "server", "server"):
        without.fail("tool", kind)
    guarded.numbers["tool"].did["retries"] = 7
    assert "2 server, 1 timeout" in printed(report.errors(without, guarded))
    assert "none" in printed(report.errors(without, guarded))
    assert re.search(r"tool threads +0 +7 +0", printed(report.deeds(guarded)))


def test_what_streams_save_is_said_in_tokens_and_seconds() -> None:
    """Tokens that were sent for nothing, of all that were sent, and those that were not sent again; how long a reader
    waited."""
    without, guarded = Tally(KINDS), Tally(KINDS)
    without.numbers["tokens"].tokens, without.numbers["tokens"].thrown_away = 90, 20
    guarded.numbers["tokens"].tokens, guarded.numbers["tokens"].left_out = 96, 14
    without.waited("tokens", 3.01)
    without.waited("tokens", 0.2)
    guarded.waited("tokens", 0.43)
    said = report.savings(without, guarded)
    assert "20 of 90 without policies, 0 of 96 with them" in said
    assert "not sent again: 14." in said
    assert "to hear that none comes: 3.0 s without policies, 0.4 s with them." in said


def test_a_broken_stream_goes_on() -> None:
    """Its caller gets each token once, and the server sends none twice."""
    tally = Tally(KINDS)
    name = next(n for n in map(str, range(9999)) if fates(n) == ["truncate", "none"])
    with Server(seed=1) as server:
        Session(server.url, tally, policies()).run([Arrival(0, "tokens", name)], bool, lambda elapsed: None)
        sent, left_out = server.tokens, server.left_out
    numbers = tally.numbers["tokens"]
    assert (numbers.answered, numbers.did["resumed"], sent) == (1, 1, TOKENS)
    assert 0 < left_out < TOKENS
    assert numbers.longest_wait > 0


def test_the_page_on_streams_shows_what_its_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """Word for word."""
    docs = Path(__file__).parents[1] / "docs"
    runpy.run_path(str(docs / "examples" / "streams.py"), run_name="__main__")
    assert capsys.readouterr().out in (docs / "pages" / "streams.md").read_text()


def fates(call: str) -> list[str]:
    return [draw(1, "/stream", call, arrival, stream=True, down=False).kind for arrival in (1, 2)]


def operation(
    name: str, *, error: bool = False, happened: tuple[str, ...] = (), attempts: int = 1, reason: str = "backoff"
) -> Operation:
    moments = tuple(Moment(what, 5, {REASON: reason}) for what in happened)
    span = Span("t", name, None, "resilient_agents", name, 0, 10, {ATTEMPT_COUNT: attempts}, moments, error)
    return Operation(span, {})


def test_the_most_telling_call_is_one_that_was_saved() -> None:
    """One with three attempts or a Retry-After; of these the one to which most happened, if possible to a good end."""
    dull, lost, saved = (
        operation("dull"),
        operation("lost", error=True, happened=("a", "b")),
        operation("saved", happened=("a", "b")),
    )
    assert report.telling([dull, lost, saved]) is saved
    assert report.telling([]) is None
    several, heeded = operation("several", attempts=3), operation("heeded", happened=("a",), reason="retry_after")
    assert report.telling([dull, saved, several]) is several
    assert report.telling([dull, saved, heeded]) is heeded


# ------------------------------------------------------------------------------------------------------------ exporting

TRACED = """
from opentelemetry import trace
from resilient_agents.demo.tracing import Tracing
tracing = Tracing()
with trace.get_tracer("resilient_agents").start_as_current_span("policy x"):
    pass
print([operation.span.name for operation in tracing.operations()])
print(tracing.finish())
"""


def traced(**environment: str) -> list[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", TRACED],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=inherited | environment,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_spans_are_kept_even_where_the_environment_samples_none() -> None:
    """The demo draws its own spans whatever the sampler that is set for programs."""
    assert traced(OTEL_TRACES_SAMPLER="always_off") == ["['policy x']", "None"]


def test_an_unreachable_endpoint_is_one_sentence() -> None:
    """Nothing listens there: no traceback, no long wait, no password on the screen."""
    spans, trouble = traced(OTEL_EXPORTER_OTLP_ENDPOINT="http://me:secret@127.0.0.1:9")
    assert spans == "['policy x']"
    assert trouble.startswith("Spans could not be exported to 127.0.0.1:9: ")
    assert "secret" not in trouble


class Receiver(BaseHTTPRequestHandler):
    """Takes what an OTLP exporter sends."""

    received: list[str]

    def do_POST(self) -> None:
        body = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.received += [s.name for r in body.resource_spans for scope in r.scope_spans for s in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    names: list[str] = []
    with HTTPServer(("127.0.0.1", 0), type("Kept", (Receiver,), {"received": names})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", names
        server.shutdown()
        thread.join()


def test_spans_go_where_the_standard_variables_say(receiver: tuple[str, list[str]]) -> None:
    """Both variables are honoured, and nothing is complained of."""
    url, names = receiver
    assert traced(OTEL_EXPORTER_OTLP_ENDPOINT=url)[1] == "None"
    assert traced(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{url}/v1/traces")[1] == "None"
    assert names == ["policy x", "policy x"]


# ------------------------------------------------------------------------------------------------------ the whole thing


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """One short demo in a pipe, with export."""
    path = tmp_path_factory.mktemp("demo") / "spans.jsonl"
    program = [sys.executable, "-W", "error", "-m", "resilient_agents", "demo", "--seconds", "2", "--export", str(path)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_") and key != "COLUMNS"}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False, env=inherited)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, path


def test_the_demo_tells_the_story(shown: tuple[str, Path]) -> None:
    """Both runs, the outage, circuits, the comparison, and a call as a waterfall."""
    text, _ = shown
    for expected in (
        "1 of 2, without policies",
        "2 of 2, with policies",
        "the server is down",
        "-> open",
        "The same traffic",
        "Errors that callers saw",
        "What the strategies did",
        "├ attempt 1",
        "wait (",
    ):
        assert expected in text, expected


def test_the_demo_in_a_pipe_is_plain_and_narrow(shown: tuple[str, Path]) -> None:
    """No escapes, no cursor tricks, 80 columns."""
    text, _ = shown
    assert "\x1b" not in text
    assert "\r" not in text
    assert max(len(line) for line in text.splitlines() if "spans.jsonl" not in line) <= 80


def test_policies_help(shown: tuple[str, Path]) -> None:
    """With policies the agent gets more answers than without: from the server and its fallback, each in a column."""
    text, _ = shown
    figures = re.findall(r"(?:async agent +without|^ +with) +\d+ +([\d.]+)% +(?:([\d.]+)%|-) ", text, re.MULTILINE)[:2]
    (without, nobody), (answered, by_fallback) = figures
    assert nobody == ""
    assert float(answered) + float(by_fallback) > float(without)


def test_what_the_demo_exported_goes_the_same_way_again(
    shown: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tool's calls, from threads and in real time, replayed under the same policy from a file."""
    file = tmp_path / "policies.toml"
    file.write_text(TOOL)
    assert cli.main(["simulate", str(file), "--replay", str(shown[1]), "--of", "tool", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["same_policy"]
    assert (found["same"], found["unknown"], found["shared"]) == (found["calls"], 0, {})
    assert found["requests"] == found["recorded_requests"] > found["calls"] > 20
    assert cli.main(["simulate", str(file), "--replay", str(shown[1]), "--of", "agent"]) == 0
    assert "passed 'model', too" in capsys.readouterr().out


TOOL = """
[policies.tool]
retry = { attempts = 4, wait = { kind = "exponential", base = "100ms", max = "1s" } }
bulkhead = 8
attempt_timeout = { seconds = "400ms", thread = true }

[policies.tool.circuit_breaker]
name = "search"
failures = "none"
failure_rate = 0.7
window = "1s"
minimum_calls = 8
reset_timeout = "500ms"
"""


def test_trace_draws_what_the_demo_exported(shown: tuple[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The exported file holds every operation with its attempts."""
    _, path = shown
    assert cli.main(["trace", str(path), "--limit", "1000"]) == 0
    out = capsys.readouterr().out
    for kind in KINDS:
        assert f"policy {kind}: " in out
    assert "attempt 2" in out
