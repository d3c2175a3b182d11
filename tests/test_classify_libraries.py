"""What the libraries of the field raise, in their own shape, and as they raise it where they are installed."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_agents import Fallback, Policy, classify
from resilient_agents.classify import transient_by_itself
from resilient_agents.errors import BulkheadFullError
from tests.classify_server import Response, foreign, misbehaving
from tests.classify_table import ROWS, Row, grpc, made, rpc_status, table, written


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.library}: {row.fault}")
def test_what_a_library_raises_is_what_the_table_says(row: Row) -> None:
    """Kind, transience, status, wait and phase of each row."""
    failure = classify(row.make())
    assert row.holds(failure), failure


def test_the_documented_table_is_that_of_the_tests() -> None:
    """`python -m tests.classify_table` writes it."""
    assert written() == table()


# -------------------------------------------------------------------------------------------------------- wait hints

NOW = 1_800_000_000.0
IN_90_SECONDS = datetime.fromtimestamp(NOW + 90, UTC)


def wait_of(status: int, **headers: Any) -> float | None:
    response = Response(status, {name.replace("_", "-"): value for name, value in headers.items()})
    return classify(made("client.Error", response=response)()).retry_after


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.mark.usefixtures("wall_clock")
@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("6m0s", 360.0), ("1m3.5s", 63.5), ("20ms", 0.02), ("1h2m", 3720.0), ("1d", 86400.0), ("8.64s", 8.64)),
        *(("60", 60.0), ("0", 0.0), (12, 12.0), (f"{NOW + 90:.0f}", 90.0), (f"{(NOW + 90) * 1000:.0f}", 90.0)),
        *((IN_90_SECONDS.isoformat(), 90.0), (IN_90_SECONDS.strftime("%Y-%m-%dT%H:%M:%SZ"), 90.0)),
        *((IN_90_SECONDS.strftime("%a, %d %b %Y %H:%M:%S GMT"), 90.0), (f"{NOW - 90:.0f}", 0.0)),
        *(("", None), ("soon", None), ("-5", None), ("6m6m", None), ("9" * 400, None), ("2026-99-99", None)),
    ],
)
def test_a_reset_is_a_duration_or_a_moment(value: Any, seconds: float | None) -> None:
    """openai writes durations, GitHub Unix times, anthropic RFC 3339; what is none of these is ignored."""
    for name in (
        "x_ratelimit_reset_requests",
        "x_ratelimit_reset",
        "ratelimit_reset",
        "anthropic_ratelimit_tokens_reset",
    ):
        assert wait_of(429, **{name: value}) == pytest.approx(seconds)


def test_a_reset_counts_only_where_the_limit_was_hit() -> None:
    """Servers send it with every answer."""
    for status, seconds in ((429, 5.0), (503, 5.0), (500, None), (400, None), (404, None)):
        assert wait_of(status, x_ratelimit_reset="5") == seconds


def test_a_wait_in_so_many_words_beats_a_reset() -> None:
    """Retry-After is about this call, the reset about the limit."""
    assert wait_of(429, retry_after="2", x_ratelimit_reset="60") == 2.0


def test_the_reset_of_the_limit_that_is_spent_counts() -> None:
    """Where one has nothing left the others do not matter; else the longest is meant."""
    resets = {"x_ratelimit_reset_requests": "2s", "x_ratelimit_reset_tokens": "6m0s"}
    assert wait_of(429, **resets) == 360.0
    assert wait_of(429, **resets, x_ratelimit_remaining_requests="0", x_ratelimit_remaining_tokens="9") == 2.0
    anthropic = {"anthropic_ratelimit_requests_reset": "4", "anthropic_ratelimit_tokens_reset": "40"}
    assert wait_of(429, **anthropic, anthropic_ratelimit_requests_remaining="0") == 4.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"burst"; r=0; t=5, "daily";r=7;t=3600;pk=:cGFydA==:', 5.0),
        ('"a;b, c=d";r=1;t=4, other;r=1;t=9', 9.0),
        ("limit=10, remaining=0, reset=60", 60.0),
        (b'"default";r=0;t=30', 30.0),
        (['"one";r=0;t=3', '"two";r=0;t=4'], 4.0),
        ('"default";r=0', None),
        ('"default";r=0;t=-3, "other";r=0;t="soon", third;t=9999999999999999', None),
        ("30", None),
        (';;;,,,="', None),
        (7, None),
        ("", None),
    ],
)
def test_the_ratelimit_field_says_when_a_limit_is_full_again(value: Any, seconds: float | None) -> None:
    """draft-ietf-httpapi-ratelimit-headers, in version 07 and since version 08; a reset like the others."""
    assert wait_of(429, ratelimit=value) == wait_of(503, ratelimit=value) == seconds
    assert wait_of(500, ratelimit=value) is None
    assert wait_of(429, ratelimit=value, retry_after="2") == 2.0


@pytest.mark.usefixtures("wall_clock")
def test_openrouter_puts_headers_into_its_errors() -> None:
    """Those of a limit of its own, inside the error that the SDK keeps as `body`, or inside the whole answer.
    (gitlawb/openclaude, issue 936, shows one.)"""
    limit = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": f"{(NOW + 8) * 1000:.0f}"}
    error = {"message": "free-models-per-min", "code": 429, "metadata": {"headers": limit, "provider_name": None}}
    plain = Response(429, {"content-type": "application/json"})
    for body in (error, {"error": error}):
        failure = classify(made("openai.RateLimitError", status_code=429, response=plain, body=body)())
        assert (failure.kind, failure.retry_after) == ("rate_limit", 8.0)
        assert classify(made("openai.APIError", code=429, body=body)()).retry_after == 8.0  # inside a stream
    for nonsense in ({"metadata": 7}, {"metadata": {"headers": 7}}, {"error": 7}, 7):
        assert classify(made("openai.RateLimitError", status_code=429, body=nonsense)()).retry_after is None


@pytest.mark.usefixtures("wall_clock")
def test_githubs_403_is_a_limit_only_when_nothing_is_left() -> None:
    """It sends the reset with every refusal."""
    spent = made(
        "github.Error", response=Response(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 9}"})
    )
    refused = made(
        "github.Error", response=Response(403, {"x-ratelimit-remaining": "7", "x-ratelimit-reset": f"{NOW + 9}"})
    )
    limit, refusal = classify(spent()), classify(refused())
    assert (limit.kind, limit.transient, limit.verdict, limit.retry_after) == ("rate_limit", True, "neutral", 9.0)
    assert (refusal.kind, refusal.transient, refusal.retry_after) == ("auth", False, None)


@pytest.mark.parametrize("status", [403, 413, 420, 430])
def test_a_refusal_with_a_wait_is_a_limit(status: int) -> None:
    """Only a limit has an end that a server can name."""
    hinted = classify(made("client.Error", status_code=status, headers={"retry-after": "3"})())
    assert (hinted.kind, hinted.transient, hinted.retry_after) == ("rate_limit", True, 3.0)
    assert not classify(made("client.Error", status_code=status)()).transient
    spent = made("openai.Error", status_code=status, code="insufficient_quota", headers={"retry-after": "3"})
    assert classify(spent()).kind == "quota"


@pytest.mark.usefixtures("wall_clock")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "30,120"}, 120.0),
        ({"retry-after": ["5", "30"]}, 30.0),
        ({"retry-after": ("5", b"30")}, 30.0),
        ({"retry-after": "5, soon"}, 5.0),
        ({"retry-after": "soon, later"}, None),
        ({"Retry-After": "5", "retry-after": "7"}, 7.0),
        ({"retry-after": f"5, {IN_90_SECONDS:%a, %d %b %Y %H:%M:%S} GMT"}, 90.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({b"retry-after": b"4"}, 4.0),
    ],
    ids=repr,
)
def test_of_several_waits_the_longest_counts(headers: dict[Any, Any], seconds: float | None) -> None:
    """A header may come twice, as a list, or joined by a proxy."""
    assert classify(made("client.Error", status_code=429, headers=headers)()).retry_after == seconds


def test_headers_that_come_twice_are_heard_in_real_mappings() -> None:
    """Each client has its own way to keep both."""
    httpx = pytest.importorskip("httpx")
    multidict = pytest.importorskip("multidict")
    twice = [("Retry-After", "5"), ("Retry-After", "30")]
    message = Message()
    for name, value in twice:
        message[name] = value
    for headers in (httpx.Headers(twice), multidict.CIMultiDict(twice), message):
        assert classify(made("client.Error", status_code=429, headers=headers)()).retry_after == 30.0


@pytest.mark.parametrize("name", ["retry_after", "retry_after_s", "retry_after_seconds"])
def test_an_error_names_its_wait_in_its_own_way(name: str) -> None:
    """In seconds; milliseconds are read as such."""
    assert classify(made("client.Error", **{name: 2})()).retry_after == 2.0
    assert classify(made("client.Error", retry_after_ms=2500)()).retry_after == 2.5


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(b"\x08\x05", 5.0), (b"\x10\x80\xca\xb5\xee\x01", 0.5), (b"", 0.0), (b"\x08\x85\x01", 133.0)],
)
def test_a_retry_info_of_grpcs_is_read(duration: bytes, seconds: float) -> None:
    """Seconds and nanoseconds; what is 0 does not travel."""
    error = grpc("UNAVAILABLE", "", ("other", 1), ("grpc-status-details-bin", rpc_status(duration)))
    assert classify(error()).retry_after == seconds


@pytest.mark.parametrize(
    "status",
    [
        *(b"", b"\x08", rpc_status()[:-3], rpc_status()[:-6], b"\x0f" + rpc_status(), 3, "x", rpc_status() * 500),
        *(
            b"\x1a" + b"\xff" * 11,
            rpc_status(b"\x08" + b"\xff" * 9 + b"\x01"),
            rpc_status(b"\x0a\x00"),
            rpc_status(b"\x12\x00"),
        ),
    ],
)
def test_a_broken_rpc_status_is_no_wait(status: Any) -> None:
    """What does not parse, or is absurd, is ignored, and spoils nothing else."""
    failure = classify(grpc("UNAVAILABLE", "", ("grpc-status-details-bin", status))())
    assert (failure.kind, failure.retry_after) == ("connection", None)


@pytest.mark.parametrize("metadata", [3, (("a",),), ((1, 2, 3),), object()])
def test_metadata_that_are_none_are_ignored(metadata: Any) -> None:
    """Whatever `trailing_metadata` returns."""
    error = grpc("UNAVAILABLE")()
    error.trailing_metadata = lambda: metadata
    assert classify(error).kind == "connection"


@pytest.mark.parametrize(
    ("said", "transient"), [("9" * 20, False), ("soon", False), ("", False), (b"\xff", False), ("20", True)]
)
def test_a_pushback_that_cannot_be_read_forbids_a_retry(said: Any, transient: bool) -> None:
    """gRFC A6."""
    assert classify(grpc("UNAVAILABLE", "", ("grpc-retry-pushback-ms", said))()).transient is transient


def test_pushback_beats_retry_info() -> None:
    """gRFC A6 decides, in both directions."""
    both = ("grpc-retry-pushback-ms", "100"), ("grpc-status-details-bin", rpc_status())
    assert classify(grpc("UNAVAILABLE", "", *both)()).retry_after == 0.1
    never = classify(grpc("UNAVAILABLE", "", ("grpc-retry-pushback-ms", "-1"), both[1])())
    assert (never.retry_after, never.transient) == (None, False)


# ------------------------------------------------------------------------------------------------ an error's own word


@pytest.mark.parametrize("name", ["is_retryable", "retryable", "retriable", "should_retry"])
def test_an_error_that_says_whether_to_retry_is_believed(name: str) -> None:
    """On the class or on the instance; only a bool is a word, and `transient` and the server come first."""
    assert classify(foreign("client.Error", **{name: True})()).transient
    assert not classify(made("client.Error", status_code=503, **{name: False})()).transient
    assert not classify(made("client.Error", **{name: "yes"})()).transient
    assert not classify(made("client.Error", **{name: True}, transient=False)()).transient
    assert classify(made("client.Error", **{name: False}, headers={"x-should-retry": "true"})()).transient


def test_a_method_that_says_so_is_asked_where_it_is_known() -> None:
    """neo4j has `is_retryable()`, pymongo labels, Temporal `non_retryable`."""
    neo4j = foreign("neo4j.exceptions.DriverError", is_retryable=lambda self: True)
    assert classify(neo4j()).transient
    mongo = made("pymongo.errors.OperationFailure", code=1, has_error_label=lambda name: name == "RetryableWriteError")
    assert classify(mongo()).transient
    assert not classify(made("temporalio.exceptions.ApplicationError", status_code=503, non_retryable=True)()).transient


# ------------------------------------------------------------------------------------------------ statuses and causes


@pytest.mark.parametrize(
    "facts",
    [
        {"code": 429},
        {"code": "429"},
        {"body": {"code": 429}},
        {"body": {"error": {"code": 429}}},
        {"http_status": 429},
        {"meta": SimpleNamespace(status=429)},
        {"resp": SimpleNamespace(status=429)},
        {"raw_response": SimpleNamespace(status_code=429)},
    ],
    ids=repr,
)
def test_a_status_is_found_wherever_it_is_kept(facts: dict[str, Any]) -> None:
    """Gateways, stripe, elasticsearch, googleapiclient, mistral."""
    failure = classify(made("client.Error", **facts)())
    assert (failure.kind, failure.status) == ("rate_limit", 429)


@pytest.mark.parametrize("name", ["inner_exception", "orig", "source", "original_exception", "reason"])
def test_an_error_is_explained_by_the_one_it_holds(name: str) -> None:
    """azure-core, SQLAlchemy, qdrant, PyMySQL, urllib3."""
    failure = classify(made("client.Error", **{name: ConnectionRefusedError()})())
    assert (failure.kind, failure.phase) == ("connection", "connect")
    assert classify(made("client.Error", **{name: "text"})()).kind == "unknown"


def test_an_error_is_explained_by_the_one_it_was_made_from() -> None:
    """`raise ConnectError(error) from None` hides the cause in the arguments."""
    error = made("client.Error", "while connecting", TimeoutError())()
    error.__suppress_context__ = True
    assert classify(error).kind == "timeout"
    assert transient_by_itself(error)


def test_a_deprecated_attribute_is_not_read() -> None:
    """websockets warns when `code` of a closed connection is read."""

    def code(self: object) -> int:
        warnings.warn("use rcvd.code", DeprecationWarning, stacklevel=2)
        return 1008

    closed = foreign("websockets.exceptions.ConnectionClosed", code=property(code))()
    closed.rcvd, closed.sent = SimpleNamespace(code=1008), None
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert classify(closed).kind == "validation"
    assert not seen


def test_the_worst_refused_recipient_decides() -> None:
    """A mail that one server refuses for good is not worth another try."""
    import smtplib

    assert classify(smtplib.SMTPRecipientsRefused({"a": (450, b"later")})).transient
    both = smtplib.SMTPRecipientsRefused({"a": (450, b"later"), "b": (550, b"no")})
    assert not classify(both).transient
    assert classify(smtplib.SMTPRecipientsRefused({})).kind == "validation"


# ------------------------------------------------------------------------------------------------------------ phases


def test_what_proves_that_a_request_was_not_sent() -> None:
    """No free connection, none that could be made, or a refusal of a policy's own."""
    assert classify(ConnectionRefusedError()).unsent
    assert classify(socket.gaierror()).unsent
    assert classify(BulkheadFullError("full")).unsent
    assert classify(foreign("httpx.PoolTimeout")()).unsent
    for error in (ConnectionResetError(), TimeoutError(), foreign("httpx.ReadError")(), foreign("httpx.WriteError")()):
        assert not classify(error).unsent


def test_an_answer_has_no_phase() -> None:
    """A request that was answered was sent, whatever the error was made from."""
    answered = classify(made("client.Error", ConnectionRefusedError(), status_code=503)())
    assert (answered.phase, answered.unsent) == (None, False)


def test_a_group_has_a_phase_only_if_its_leaves_share_it() -> None:
    """One request that may have been sent is enough to spoil the proof."""
    assert classify(ExceptionGroup("g", [ConnectionRefusedError(), socket.gaierror()])).phase == "connect"
    assert classify(ExceptionGroup("g", [ConnectionRefusedError(), ConnectionResetError()])).phase is None


def test_a_context_proves_nothing_for_an_error_that_speaks_for_itself() -> None:
    """A timeout raised while a refused connection was handled is about something else."""
    error = TimeoutError()
    error.__context__ = ConnectionRefusedError()
    assert classify(error).phase is None


def made_in_a_handler() -> BaseException:
    """As ollama does it: an error of its own in place of the client's, whose context it hides."""
    try:
        try:
            raise ConnectionRefusedError(111, "refused")
        except OSError:
            raise ConnectionError("is it running?") from None
    except ConnectionError as error:
        return error


def met_in_a_handler() -> BaseException:
    """What stands in for a dependency that refuses connections loses its own."""

    def stand_in() -> None:
        raise foreign("psycopg.OperationalError")("server closed the connection unexpectedly")

    try:
        try:
            raise ConnectionRefusedError(111, "refused")
        except OSError:
            stand_in()
    except Exception as error:
        return error
    raise AssertionError


def raised_by_c_in_a_handler() -> BaseException:
    """The same where what stands in is written in C, and has no frame of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.setblocking(False)
        try:
            try:
                raise ConnectionRefusedError(111, "refused")
            except OSError:
                client.recv(1)
        except OSError as error:
            return error
    raise AssertionError


def test_an_error_made_of_another_one_has_its_phase() -> None:
    """Where the handler that caught that one raised it, also `from None`."""
    failure = classify(made_in_a_handler())
    assert (failure.kind, failure.phase, failure.unsent) == ("connection", "connect", True)


@pytest.mark.parametrize("failing", [met_in_a_handler, raised_by_c_in_a_handler])
def test_what_fails_while_another_failure_is_handled_has_not_its_phase(failing: Callable[[], BaseException]) -> None:
    """A fallback's request may have been sent, although the first one never was."""
    failure = classify(failing())
    assert failure.transient
    assert (failure.phase, failure.unsent) == (None, False)


def test_a_fallback_that_breaks_off_may_have_been_sent() -> None:
    """Its error comes out with the first one as its context, which proves nothing."""

    def refused() -> None:
        raise ConnectionRefusedError(111, "refused")

    def pay(_: Exception) -> None:
        raise foreign("payments.Broken")("who knows")

    failure = classify(raised(lambda: Policy(Fallback(pay)).call(refused)))
    assert not failure.unsent


# --------------------------------------------------------------------------------------------- the real ones, running


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # whatever it is, it is classified
        call()
    return caught.value


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a TLS server with a certificate that nobody vouches for."""
    where = tmp_path_factory.mktemp("tls")
    key, cert = where / "key", where / "cert"
    order = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {cert} -days 2 -subj /CN=localhost"
    try:
        subprocess.run(order.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), connection, context.wrap_socket(connection, server_side=True):
                    pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"https://localhost:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def nobody() -> str:
    """The base URL of a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


async def aiohttp_get(url: str) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url):
        pass


def openai_list(url: str) -> None:
    import openai

    with openai.OpenAI(api_key="x", base_url=url, max_retries=0) as client:
        client.models.list()


def anthropic_message(url: str) -> None:
    import anthropic

    with anthropic.Anthropic(api_key="x", base_url=url, max_retries=0) as client:
        client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])


def httpx_async(url: str) -> None:
    import httpx

    async def get() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(get())


def redis_ping(url: str) -> None:
    import redis

    host, _, port = url.partition("://")[2].partition(":")
    with redis.Redis(host=host, port=int(port), ssl=url.startswith("https"), retry=None) as client:
        client.ping()


CLIENTS: dict[str, tuple[str, Callable[[str], object]]] = {
    "httpx": ("httpx", lambda url: __import__("httpx").get(url)),
    "httpx, async": ("httpx", httpx_async),
    "httpx2": ("httpx2", lambda url: __import__("httpx2").get(url)),
    "requests": ("requests", lambda url: __import__("requests").get(url, timeout=9)),
    "urllib3": ("urllib3", lambda url: __import__("urllib3").PoolManager().request("GET", url, retries=False)),
    "aiohttp": ("aiohttp", lambda url: asyncio.run(aiohttp_get(url))),
    "urllib": ("urllib", urllib.request.urlopen),
    "openai": ("openai", openai_list),
    "anthropic": ("anthropic", anthropic_message),
    "redis": ("redis", redis_ping),
}
clients = pytest.mark.parametrize(("module", "call"), CLIENTS.values(), ids=CLIENTS)


@clients
def test_a_bad_certificate_is_not_transient_under_any_client(
    module: str, call: Callable[[str], object], untrusted: str
) -> None:
    """The truth is in the innermost error, wherever the client keeps it; nothing was sent."""
    pytest.importorskip(module)
    failure = classify(raised(lambda: call(untrusted)))
    assert (failure.kind, failure.transient, failure.verdict, failure.unsent) == ("connection", False, "failure", True)


@clients
def test_a_refused_connection_proves_that_nothing_was_sent(
    module: str, call: Callable[[str], object], nobody: str
) -> None:
    """Under every client."""
    pytest.importorskip(module)
    failure = classify(raised(lambda: call(nobody)))
    assert (failure.kind, failure.transient, failure.phase) == ("connection", True, "connect")


@clients
def test_a_reset_connection_proves_nothing(module: str, call: Callable[[str], object]) -> None:
    """The request may have been carried out."""
    pytest.importorskip(module)
    with misbehaving() as url:
        failure = classify(raised(lambda: call(f"{url}/reset" if "redis" not in module else url)))
    assert failure.transient
    assert not failure.unsent


def test_what_gave_up_on_answers_says_what_these_were() -> None:
    """requests with urllib3's own retries names no connection that failed: the server had answered each time."""
    requests = pytest.importorskip("requests")
    retries = pytest.importorskip("urllib3").Retry(
        1, backoff_factor=0, status_forcelist=[429, 503], respect_retry_after_header=False
    )

    def get(url: str) -> None:
        with requests.Session() as session:
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
            session.get(url, timeout=9)

    with misbehaving() as url:
        told = [classify(raised(lambda path=path: get(f"{url}/{path}"))) for path in ("503", "429")]
    assert [(each.kind, each.status, each.transient) for each in told] == [
        ("overload", 503, True),
        ("rate_limit", 429, True),
    ]


def test_an_answer_that_was_handled_meanwhile_is_not_that_of_a_lost_connection() -> None:
    """Only an error that a connection error is made of tells that the server had answered."""

    def fall_back() -> None:
        try:
            raise made("client.Error", status_code=503)()
        except Exception:
            raise made("requests.exceptions.ConnectionError", "reset")()  # noqa: B904 - that is the case

    assert (classify(raised(fall_back)).kind, classify(raised(fall_back)).status) == ("connection", None)


def test_the_name_of_a_page_is_no_code() -> None:
    """SQLAlchemy keeps one in `code`; the driver's own number is told in its place, where there is one."""
    wrapped = {row.fault: row.make() for row in ROWS if row.library == "sqlalchemy"}["a driver's error"]
    assert classify(wrapped).code == "1213"
    assert classify(made("sqlalchemy.exc.TimeoutError", code="3o7r")()).code is None


def test_a_driver_s_number_is_kept_beside_its_cause() -> None:
    """PyMySQL puts its own number on the error of the socket."""
    error = made("pymysql.err.OperationalError", 2003, "no", original_exception=ConnectionRefusedError())()
    assert (classify(error).code, classify(error).phase) == ("2003", "connect")


class Refusing(http.server.BaseHTTPRequestHandler):
    """A proxy that does not know who asks."""

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("httpx", lambda proxy: __import__("httpx").get("https://x.test", proxy=proxy)),
        ("httpx2", lambda proxy: __import__("httpx2").get("https://x.test", proxy=proxy)),
        ("requests", lambda proxy: __import__("requests").get("https://x.test", proxies={"https": proxy}, timeout=9)),
        (
            "urllib3",
            lambda proxy: __import__("urllib3").ProxyManager(proxy).request("GET", "https://x.test", retries=0),
        ),
        (
            "urllib",
            lambda proxy: urllib.request.build_opener(urllib.request.ProxyHandler({"https": proxy})).open(
                "https://x.test"
            ),
        ),
    ],
)
def test_a_proxy_that_refuses_a_tunnel_has_answered(module: str, call: Callable[[str], object]) -> None:
    """With a status of its own; the request behind it was never sent."""
    pytest.importorskip(module)
    with http.server.HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True).start()
        failure = classify(raised(lambda: call(f"http://127.0.0.1:{server.server_port}")))
        server.shutdown()
    assert (failure.kind, failure.transient, failure.status, failure.unsent) == ("auth", False, 407, True)


def test_a_client_without_a_key_is_no_failure_of_the_dependency(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where it is made."""
    openai = pytest.importorskip("openai")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    failure = classify(raised(openai.OpenAI))
    assert (failure.kind, failure.transient, failure.verdict) == ("validation", False, "neutral")
