"""What the documentation says is true: its code runs, its tables match the code, its links lead somewhere.

Each ```python block of README.md and of docs/pages runs alone, in a namespace of its own and in virtual time. Top-level
`await` is allowed. A comment after a `print(...)` is the line that it must print. Instead of a network there is one
small server behind httpx: each path answers 503 or 429 the first time it is asked, and well from then on.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import gc
import http.server
import inspect
import logging
import re
import selectors
import sys
import textwrap
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
from opentelemetry import trace
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.util._once import Once

import resilient_agents
from resilient_agents import cli, errors, events, health
from resilient_agents.classify import KINDS
from resilient_agents.classify.classes import PACKAGES
from resilient_agents.classify.kinds import TRANSIENT
from resilient_agents.telemetry import contract, metric_table
from tests.conftest import swapped_clock

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "pages"
SOURCES = [ROOT / "README.md", *sorted(PAGES.glob("*.md"))]

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    path: Path
    line: int
    source: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks(path: Path, language: str) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, textwrap.dedent(match["body"]))
        for match in FENCE.finditer(text)
        if match["language"] == language
    ]


PYTHON = [block for path in SOURCES for block in blocks(path, "python")]


# ------------------------------------------------------------------------------------------------------- running blocks


class VirtualTime:
    """One clock for a block's threads and event loops: sleeping moves it, and a loop with nothing to do jumps ahead."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def loop(self) -> asyncio.AbstractEventLoop:
        time = self

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                ready = super().select(0)
                if ready or timeout is None or timeout <= 0:
                    return ready or super().select(timeout)
                time.now += timeout
                return ready

        class Loop(asyncio.SelectorEventLoop):
            def time(self) -> float:
                return time.now

        return Loop(Selector())


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Generator[VirtualTime, None, None]:
    time = VirtualTime()
    monkeypatch.setattr(asyncio.events, "new_event_loop", time.loop)  # what `asyncio.run` makes its loop with
    with swapped_clock(time.monotonic, time.sleep):
        yield time


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other end of every httpx client: misbehaves once on each path."""
    asked: set[str] = set()

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        first = path not in asked
        asked.add(path)
        if first:
            throttled = path.endswith("chat")
            return httpx.Response(429, headers={"retry-after": "1"}) if throttled else httpx.Response(503)
        if path.endswith("stream"):
            return httpx.Response(200, text="to\nbe\nor\nnot\n")
        return httpx.Response(200, json={"path": path, "answer": "42"})

    async def answer_async(_: object, request: httpx.Request) -> httpx.Response:
        return answer(request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, request: answer(request))
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", answer_async)


@pytest.fixture(scope="module")
def collector() -> Generator[tuple[str, list[str]], None, None]:
    """An OTLP collector on loopback: its address, and the paths that were posted to it."""
    posted: list[str] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            posted.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()
        thread.join()


@pytest.fixture
def otlp(collector: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is posted to the collector, to which the standard variables point."""
    address, posted = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    posted.clear()
    return posted


@pytest.fixture
def globals_restored(otlp: list[str]) -> Generator[None, None, None]:
    """What a block does to the whole process is undone: providers are put back and its own shut down, loggers, names in
    the registry."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    providers: tuple[Any, Any] = trace._TRACER_PROVIDER, metrics_internal._METER_PROVIDER
    trace._TRACER_PROVIDER, trace._TRACER_PROVIDER_SET_ONCE = None, Once()
    metrics_internal._METER_PROVIDER, metrics_internal._METER_PROVIDER_SET_ONCE = None, Once()
    yield
    for provider in (trace._TRACER_PROVIDER, metrics_internal._METER_PROVIDER):
        if provider is not None:
            provider.shutdown()  # type: ignore[attr-defined]
    trace._TRACER_PROVIDER, metrics_internal._METER_PROVIDER = providers
    root.handlers[:], root.level = handlers, level
    vars(resilient_agents.registry).update(vars(resilient_agents.Registry()))
    gc.collect()  # a breaker of a block must not be the twin of the next one's


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None, None, None]:
    """A block's files are written where they may be, and what it serves is served on a free port."""
    monkeypatch.chdir(tmp_path)
    serving: list[Any] = []

    def start(port: int, *_: Any, **__: Any) -> Any:
        serving.append(start_http_server(0, addr="127.0.0.1"))
        return serving[-1]

    start_http_server = prometheus_client.start_http_server
    monkeypatch.setattr(prometheus_client, "start_http_server", start)
    yield
    for server, thread in serving:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_block_runs(
    block: Block,
    elsewhere: None,
    globals_restored: None,
    otlp: list[str],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Every example runs as it stands and prints what its comments say. One with the demo's server runs against it, in
    real time."""
    loop = asyncio.new_event_loop
    if "resilient_agents.demo.server" not in block.source:
        request.getfixturevalue("wire")
        loop = request.getfixturevalue("virtual_time").loop
    compiled = compile(
        "\n" * block.line + block.source,  # so that a traceback shows the line of the page
        str(block.path),
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    namespace: dict[str, Any] = {"__name__": "app"}
    ran: Any = eval(compiled, namespace)
    if inspect.iscoroutine(ran):
        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(ran)
    expected = PRINTS.findall(block.source)
    if expected:
        assert capsys.readouterr().out.splitlines() == expected
    if "OTLPSpanExporter" in block.source:
        trace.get_tracer_provider().force_flush()  # type: ignore[attr-defined]
        assert otlp == ["/v1/traces"]


def test_blocks_are_found() -> None:
    """The examples are looked for where they are: README and most pages have some."""
    assert {"README.md", "index.md", "retry.md"} <= {block.path.name for block in PYTHON}


# --------------------------------------------------------------------------------------------------------------- tables


def section(page: str, marker: str) -> str:
    """The table that follows `<!-- marker -->` on a page."""
    text = (PAGES / page).read_text(encoding="utf-8")
    found = re.search(rf"^<!-- {re.escape(marker)} -->\n+((?:\|.*\n)+)", text, re.MULTILINE)
    assert found, f"{page} has no table after <!-- {marker} -->"
    return found[1]


def rows(table: str) -> list[list[str]]:
    """Its cells, without the heading."""
    lines = [line.replace("\\|", "\0") for line in table.splitlines()]
    return [[cell.strip().replace("\0", "|") for cell in line.strip("|").split("|")] for line in lines[2:]]


def table(heading: tuple[str, ...], cells: list[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def code(*words: str) -> str:
    return ", ".join(f"`{word}`" for word in words)


def spans_table() -> str:
    cells = [(code(span.name), span.description, code(*span.attributes)) for span in contract.SPANS]
    return table(("Span", "What it is", "Attributes"), cells)


def span_events_table() -> str:
    cells = [(code(event.name), event.description, code(*event.attributes)) for event in contract.EVENTS]
    return table(("Event", "What it is", "Attributes"), cells)


def metrics_table() -> str:
    cells = [
        (
            code(metric.name),
            metric.kind,
            code(*filter(None, [metric.unit])),
            metric.description,
            code(*metric.attributes),
        )
        for metric in metric_table.METRICS
    ]
    return table(("Metric", "Kind", "Unit", "What it is", "Attributes"), cells)


def _unit(metric: metric_table.Metric) -> str:
    return code(metric.unit) if metric.unit else ""


def attributes_table() -> str:
    cells = [
        (code(attribute.name), attribute.type, " ".join([attribute.description, code(*attribute.values)]).strip())
        for attribute in contract.ATTRIBUTES
    ]
    return table(("Attribute", "Type", "What it says"), cells)


def events_table() -> str:
    kinds = [getattr(events, name) for name in events.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, events.Event)]
    kinds = [kind for kind in kinds if kind not in (events.Event, events.CircuitChanged)]
    kinds.sort(key=lambda kind: inspect.getsourcelines(kind)[1])
    cells = [(code(kind.__name__), " ".join((kind.__doc__ or "").split()), _fields(kind)) for kind in kinds]
    return table(("Event", "What happened", "Fields"), cells)


def _fields(kind: type[events.Event]) -> str:
    return code(*(field for field in kind.__match_args__ if field != "policy"))


GENERATED: dict[tuple[str, str], Callable[[], str]] = {
    ("telemetry.md", "table: spans"): spans_table,
    ("telemetry.md", "table: span events"): span_events_table,
    ("telemetry.md", "table: metrics"): metrics_table,
    ("telemetry.md", "table: attributes"): attributes_table,
    ("observers.md", "table: events"): events_table,
}


@pytest.mark.parametrize(("page", "marker"), GENERATED, ids=lambda value: str(value))
def test_table_is_generated(page: str, marker: str) -> None:
    """The tables of telemetry names and of events are those of the code. `python -m tests.test_docs` rewrites them."""
    assert section(page, marker) == GENERATED[page, marker]()


DEFAULTS = [
    ("retry.md", "Retry"),
    ("retry.md", "RetryBudget"),
    ("circuit-breaker.md", "CircuitBreaker"),
    ("bulkhead.md", "Bulkhead"),
    ("rate-limit.md", "RateLimit"),
    ("gate.md", "Gate"),
    ("run-budget.md", "run_budget"),
    ("timeout.md", "Timeout"),
    ("fallback.md", "Fallback"),
    ("hedge.md", "Hedge"),
    ("chaos.md", "Chaos"),
    ("backoff.md", "exponential"),
    ("backoff.md", "linear"),
    ("backoff.md", "fibonacci"),
    ("backoff.md", "fixed"),
    ("health.md", "HealthCheck"),
    ("health.md", "HealthMonitor"),
]


@pytest.mark.parametrize(("page", "name"), DEFAULTS)
def test_defaults(page: str, name: str) -> None:
    """A table of defaults names every argument in order, and the default that it has."""
    home = resilient_agents if hasattr(resilient_agents, name) else health
    parameters = inspect.signature(getattr(home, name)).parameters.values()
    assert [row[:2] for row in rows(section(page, f"defaults: {name}"))] == [
        [code(parameter.name), _default(parameter.default)] for parameter in parameters
    ]


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or type(value).__name__ == "_Missing":
        return "required" if value is inspect.Parameter.empty else ""
    if isinstance(value, tuple):
        return code(f"({', '.join(map(_name, value))})")
    if isinstance(value, resilient_agents.exponential().__class__):
        return code("exponential()")
    return code(_name(value))


def _name(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return f'"{value}"'
    return getattr(value, "__name__", None) or repr(value)


def test_kinds() -> None:
    """The table of failure kinds names them all, and which of them are transient."""
    documented = {row[0]: row[1] for row in rows(section("classification.md", "kinds"))}
    assert documented == {code(kind): "yes" if kind in TRANSIENT else "no" for kind in KINDS}


def test_libraries() -> None:
    """The table of libraries names every package that the classifier knows classes of, the standard library's aside."""
    documented = " ".join(row[0] for row in rows(section("classification.md", "libraries")))
    known = set(PACKAGES) - sys.stdlib_module_names - {"resilient_agents"}
    assert known <= set(re.findall(r"`(\w+)`", documented))


def test_waterfall(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The waterfall on the page is what `resilient-agents trace` draws of the spans in docs/examples."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["trace", str(ROOT / "docs" / "examples" / "spans.jsonl")]) == 0
    text = (PAGES / "telemetry.md").read_text(encoding="utf-8")
    assert f"<!-- waterfall -->\n\n```text\n{capsys.readouterr().out.rstrip()}\n```\n" in text


def test_error_tree() -> None:
    """The tree of errors is the one in the module."""
    (tree,) = [block.source for block in blocks(PAGES / "errors.md", "text") if block.source.startswith("RuntimeError")]
    assert tree in (errors.__doc__ or "")


# -------------------------------------------------------------------------------------------------------- pages, README


def anchors(path: Path) -> set[str]:
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower())).strip("-") for heading in headings}


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.md")), ids=lambda path: path.name)
def test_links(path: Path) -> None:
    """A relative link leads to a page beside this one, and to a heading that it has."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        page, _, anchor = target.partition("#")
        linked = PAGES / page if page else path
        assert linked.parent == PAGES, f"{target} leads out of the pages"
        assert linked.is_file(), f"{target} does not exist"
        assert not anchor or anchor in anchors(linked), f"{target}: no such heading"


def test_navigation() -> None:
    """The navigation has every page once, and nothing else."""
    text = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .*?([\w-]+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in PAGES.glob("*.md"))


@pytest.mark.parametrize("path", [ROOT / "README.md", PAGES / "index.md"], ids=lambda path: path.name)
def test_the_list_of_pages(path: Path) -> None:
    """Who reads the pages where they lie, without the navigation, finds each of them."""
    _, _, listed = path.read_text(encoding="utf-8").partition(
        "## Documentation" if path.parent == ROOT else "## All pages"
    )
    linked = re.findall(r"\]\((?:docs/pages/)?([\w-]+\.md)\)", listed)
    assert {*linked, "index.md"} == {page.name for page in PAGES.glob("*.md")}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_one_sentence_a_line(path: Path) -> None:
    """Prose has one sentence a line, so that a change shows as what it is."""
    prose = FENCE.sub("", path.read_text(encoding="utf-8"))
    prose = re.sub(r"`[^`\n]*`", "x", prose)
    offending = [
        line for line in prose.splitlines() if not line.startswith("|") and re.search(r"[a-z)x][.?!] +[A-Z]", line)
    ]
    assert not offending


@pytest.mark.parametrize(
    ("marker", "commands"),
    [
        ("ci:demo", ['pip install ".[demo]"', "resilient-agents demo"]),
        ("ci:test", ['pip install -e ".[test]"', "python -m pytest"]),
    ],
)
def test_readme_commands(marker: str, commands: list[str]) -> None:
    """The two commands of README.md stand where `.ci/run` cuts them out."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"\n<!-- {marker} -->\n```sh\n" + "\n".join(commands) + "\n```\n" in text


def test_public_names_are_documented() -> None:
    """Every public name is mentioned in the pages."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    public = {name for name in resilient_agents.__all__ if not name.startswith("__")}
    assert {name for name in public if not re.search(rf"\b{name}\b", text)} == set()


def test_public_names_are_typed() -> None:
    """Every public name is used under tests/typing."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "typing").glob("*.py"))
    assert {name for name in resilient_agents.__all__ if not re.search(rf"\b{name}\b", text)} == set()


def _rewrite() -> None:
    for (page, marker), generate in GENERATED.items():
        path = PAGES / page
        comment = f"<!-- {marker} -->"
        before, after = path.read_text(encoding="utf-8").split(comment)
        after = re.sub(r"\A\s*(?:\|.*\n)*\n*", "", after)
        path.write_text(f"{before}{comment}\n\n{generate()}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    _rewrite()
