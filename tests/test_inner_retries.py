"""Retries inside client libraries are seen where the libraries show them: through the real ones, on loopback."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import MagicMock

import pytest
import tenacity

from resilient_agents import CircuitBreaker, Policy, Retry, events
from resilient_agents.backoff import fixed
from resilient_agents.classify.inner_retries import inner_retries

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
}
CHUNK = {
    "id": "x",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}],
}


class Server(ThreadingHTTPServer):
    """Answers with 503 as often as told, then well."""

    daemon_threads = True
    failing = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("content-length", 0)))
        assert isinstance(self.server, Server)
        failing, self.server.failing = self.server.failing, self.server.failing - 1
        if failing > 0:
            self._answer(503, b'{"error": {"message": "busy", "type": "server_error"}}', "application/json")
        elif b'"stream": true' in asked or b'"stream":true' in asked:
            body = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n"
            self._answer(200, body.encode(), "text/event-stream")
        else:
            self._answer(200, json.dumps(ANSWER).encode(), "application/json")

    do_GET = do_POST

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("retry-after-ms", "1")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ended(call: Callable[[], Any]) -> Any:
    """The result, or the error."""
    try:
        return call()
    except Exception as error:
        return error


async def ended_async(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except Exception as error:
        return error


def seen(what: object) -> int | None:
    found = inner_retries(what)
    return None if found is None else found.retries


ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def test_openai_shows_its_retries_on_errors_streams_and_raw_responses(server: Server) -> None:
    """The request that failed last says which retry it was; a parsed answer says nothing."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key="k", base_url=server.url) as client:
        create = client.chat.completions.create
        server.failing = 9
        assert seen(ended(lambda: create(**ASKED))) == 2
        server.failing = 1
        stream = create(**ASKED, stream=True)
        assert seen(stream) == 1
        stream.close()
        server.failing = 1
        assert seen(client.chat.completions.with_raw_response.create(**ASKED)) == 1
        server.failing = 1
        assert seen(create(**ASKED)) is None


def test_openais_connection_errors_show_them_too() -> None:
    """Without any response the error still carries the request."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9", max_retries=1) as client:
        error = ended(lambda: client.chat.completions.create(**ASKED))
        assert seen(error) == 1
        wrapped = RuntimeError("the tool failed")
        wrapped.__cause__ = error
        assert seen(wrapped) == 1


def test_anthropic_shows_its_retries(server: Server) -> None:
    """The same header, from the other library."""
    anthropic = pytest.importorskip("anthropic")
    with anthropic.Anthropic(api_key="k", base_url=server.url) as client:
        server.failing = 9
        assert seen(ended(lambda: client.messages.create(**ASKED, max_tokens=1))) == 2


@pytest.mark.parametrize("mode", ["legacy", "standard"])
def test_botocore_shows_its_retries_on_results_and_errors(server: Server, mode: str) -> None:
    """`RetryAttempts` where there is a response; the loop's own count where there is none."""
    session = pytest.importorskip("botocore.session").get_session()
    config = pytest.importorskip("botocore.config").Config(retries={"mode": mode, "total_max_attempts": 2})
    session.set_credentials("a", "b")

    def client(url: str) -> Any:
        return session.create_client("dynamodb", region_name="us-east-1", endpoint_url=url, config=config)

    server.failing = 9
    assert seen(ended(client(server.url).list_tables)) == 1
    server.failing = 1
    assert seen(ended(client(server.url).list_tables)) == 1
    assert seen(ended(client("http://127.0.0.1:9").list_tables)) == 1


def test_redis_counts_in_its_retry_object() -> None:
    """An error that came through `call_with_retry` was retried as often as that counted, in either colour."""
    redis = pytest.importorskip("redis")
    pytest.importorskip("redis.asyncio")

    def refused() -> None:
        raise redis.exceptions.ConnectionError

    async def refused_async() -> None:
        refused()

    async def nothing(error: Exception) -> None:
        pass

    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.001), 3)
    assert seen(ended(lambda: retry.call_with_retry(refused, lambda error: None))) == 3
    again = redis.asyncio.retry.Retry(redis.backoff.ConstantBackoff(0.001), 2)
    assert seen(asyncio.run(ended_async(lambda: again.call_with_retry(refused_async, nothing)))) == 2


def test_google_genai_retries_with_tenacity(server: Server) -> None:
    """Its loop's state tells, in either colour; by default it makes one request."""
    genai = pytest.importorskip("google.genai")
    types = genai.types
    options = types.HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.002)
    for retry_options, expected in ((options, 2), (None, 0)):
        client = genai.Client(
            api_key="k", http_options=types.HttpOptions(base_url=server.url, retry_options=retry_options)
        )
        server.failing = 9
        error = ended(lambda client=client: client.models.generate_content(model="m", contents="x"))
        assert seen(error) == expected
        assert "HttpRetryOptions" in inner_retries(error).remedy  # type: ignore[union-attr]


@pytest.mark.parametrize("reraise", [True, False])
def test_anybodys_tenacity_shows(reraise: bool) -> None:
    """Whoever retries with tenacity inside: the error came through its loop."""

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=reraise)
    def fetch() -> None:
        raise ConnectionError

    assert seen(ended(fetch)) == 2


class Hostile(Exception):
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError


@pytest.mark.parametrize("what", [MagicMock(), Hostile(), {"ResponseMetadata": {"RetryAttempts": "2"}}, {}, None, 5])
def test_what_says_nothing_is_none(what: object) -> None:
    """A mock that has every attribute, an object that raises, or numbers in text prove nothing."""
    assert inner_retries(what) is None


# ------------------------------------------------------------------------------------------------- through a policy


def guarded(*attempts: int) -> Callable[[], str]:
    """A function that retries inside, and makes so many attempts each time it is called before it fails."""
    left = list(attempts)

    def fetch() -> str:
        if not left:
            return "ok"

        @tenacity.retry(stop=tenacity.stop_after_attempt(left.pop(0)), reraise=True)
        def inner() -> str:
            raise ConnectionError

        return inner()

    return fetch


def test_attempts_tell_of_retries_inside_them() -> None:
    """`AttemptEnded` carries the count, None where nothing is known."""
    told: list[events.Event] = []
    policy = Policy(Retry(3, wait=fixed(0)), name="inner: told")
    policy.observe(told.append)
    with pytest.warns(RuntimeWarning, match="attempts multiply"):
        assert policy.call(guarded(3, 1)) == "ok"
    assert [event.inner_retries for event in told if isinstance(event, events.AttemptEnded)] == [2, 0, None]


@pytest.mark.parametrize("watched", [True, False])
def test_a_retry_around_a_retry_is_warned_of_once(watched: bool) -> None:
    """The warning names the function and how to switch the inner retries off; without an observer it comes when the
    policy gives up."""
    policy = Policy(Retry(2, wait=fixed(0)), name=f"inner: warned {watched}")
    if watched:
        policy.observe(lambda event: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert isinstance(ended(lambda: policy.call(guarded(3, 3))), ConnectionError)
    (warning,) = caught
    assert re.search("tried again 2 times within one attempt.* taking its own", str(warning.message))


def test_one_attempt_of_ours_multiplies_nothing() -> None:
    """A policy that gives up at once has not retried what the client did."""
    policy = Policy(Retry(1), name="inner: once")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert isinstance(ended(lambda: policy.call(guarded(3))), ConnectionError)
    assert not caught


def test_without_a_retry_of_ours_nothing_multiplies() -> None:
    """A policy that does not retry leaves the client its retries, and says nothing."""
    policy = Policy(CircuitBreaker(), name="inner: alone")
    policy.observe(lambda event: None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ConnectionError):
            policy.call(guarded(3))
    assert not caught
