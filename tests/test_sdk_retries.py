"""A client's retries are switched off in a copy that shares its connections, and closes none of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import anthropic
import botocore.session
import groq
import httpx
import openai
import pytest
import redis
import requests
from redis.asyncio import Redis as AsyncRedis
from urllib3.util import Retry as UrllibRetry

from resilient_agents import Policy, Retry, fixed
from resilient_agents.integrations import without_sdk_retries


class Failing(BaseHTTPRequestHandler):
    """Answers 500 to everything, and keeps the connection."""

    protocol_version = "HTTP/1.1"
    requests = 0
    connections: ClassVar[set[Any]] = set()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = type(self)
        kind.requests += 1
        kind.connections.add(self.client_address)
        body = b'{"error": {"message": "down"}}'
        self.send_response(500)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after-ms", "1")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Failing]]]:
    handler = type("Counted", (Failing,), {"requests": 0, "connections": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", handler
        listening.shutdown()
        thread.join()


MESSAGES: Any = [{"role": "user", "content": "hi"}]
BLOCKING: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "openai": (
        lambda url: openai.OpenAI(api_key="k", base_url=url),
        lambda client: client.chat.completions.create(model="m", messages=MESSAGES),
    ),
    "azure": (
        lambda url: openai.AzureOpenAI(api_key="k", azure_endpoint=url, api_version="1"),
        lambda client: client.chat.completions.create(model="m", messages=MESSAGES),
    ),
    "anthropic": (
        lambda url: anthropic.Anthropic(api_key="k", base_url=url),
        lambda client: client.messages.create(model="m", max_tokens=1, messages=MESSAGES),
    ),
    "groq": (
        lambda url: groq.Groq(api_key="k", base_url=url),
        lambda client: client.chat.completions.create(model="m", messages=MESSAGES),
    ),
}
ASYNC: dict[str, tuple[Callable[[str], Any], Callable[[Any], Any]]] = {
    "openai": (lambda url: openai.AsyncOpenAI(api_key="k", base_url=url), BLOCKING["openai"][1]),
    "azure": (
        lambda url: openai.AsyncAzureOpenAI(api_key="k", azure_endpoint=url, api_version="1"),
        BLOCKING["openai"][1],
    ),
    "anthropic": (lambda url: anthropic.AsyncAnthropic(api_key="k", base_url=url), BLOCKING["anthropic"][1]),
    "groq": (lambda url: groq.AsyncGroq(api_key="k", base_url=url), BLOCKING["groq"][1]),
}
if hasattr(anthropic, "AnthropicFoundry"):  # not in the oldest
    BLOCKING["foundry"] = (lambda url: anthropic.AnthropicFoundry(api_key="k", base_url=url), BLOCKING["anthropic"][1])
    ASYNC["foundry"] = (lambda url: anthropic.AsyncAnthropicFoundry(api_key="k", base_url=url), ASYNC["anthropic"][1])


@pytest.mark.parametrize("library", BLOCKING)
def test_one_attempt_of_ours_is_one_request(library: str, server: tuple[str, type[Failing]]) -> None:
    """Where the original makes three; both over one connection, which only the original closes."""
    url, seen = server
    make, call = BLOCKING[library]
    with make(url) as original:
        client = without_sdk_retries(original)
        assert isinstance(client, type(original))
        policy = Policy(Retry(3, wait=fixed(0)))
        for used, expected in ((original, 9), (client, 3)):
            seen.requests = 0
            with pytest.raises(Exception, match="500|down"):
                policy.call(call, used)
            assert seen.requests == expected
        assert len(seen.connections) == 1
        client.close()
        with client:
            pass
        assert not original.is_closed()
        with pytest.raises(Exception, match="500|down"):
            call(original)


@pytest.mark.parametrize("library", ASYNC)
def test_async_clients_too(library: str, server: tuple[str, type[Failing]]) -> None:
    """The same."""
    url, seen = server
    make, call = ASYNC[library]

    async def main() -> None:
        async with make(url) as original:
            client = without_sdk_retries(original)
            with pytest.raises(Exception, match="500|down"):
                await call(client)
            assert seen.requests == 1
            async with client:
                pass
            await client.close()
            assert not original.is_closed()

    asyncio.run(main())  # over a real socket, so in real time


def test_sessions_of_requests(server: tuple[str, type[Failing]]) -> None:
    """Cookies, headers and connections are those of the original."""
    url, seen = server
    with requests.Session() as original:
        original.headers["x-who"] = "me"
        original.mount("http://", requests.adapters.HTTPAdapter(max_retries=UrllibRetry(3, status_forcelist=[500])))
        session = without_sdk_retries(original)
        assert session.get(url).status_code == 500
        assert seen.requests == 1
        assert session.headers["x-who"] == "me"
        assert session.cookies is original.cookies
        with session:
            session.close()
        seen.requests = 0
        with pytest.raises(requests.exceptions.RetryError):
            original.get(url)
        assert seen.requests == 4
        assert len(seen.connections) == 1


def test_transports_and_clients_of_httpx(server: tuple[str, type[Failing]]) -> None:
    """They retry connecting; the copy does not, and uses the connections that are open."""
    url, seen = server
    transport = httpx.HTTPTransport(retries=3)
    with httpx.Client(transport=transport, base_url=url) as original:
        copies = [without_sdk_retries(original), httpx.Client(transport=without_sdk_retries(transport), base_url=url)]
        for client in copies:
            assert client.get("/").status_code == 500
            client.close()
        with copies[0], without_sdk_retries(transport):
            pass
        assert original.get("/").status_code == 500
        assert len(seen.connections) == 1


def test_async_clients_of_httpx(server: tuple[str, type[Failing]]) -> None:
    """A copy of a client that is in use can be entered as well, which opens and closes nothing."""
    url, seen = server

    async def main() -> None:
        async with httpx.AsyncClient(base_url=url) as original:
            assert (await original.get("/")).status_code == 500
            async with without_sdk_retries(original) as client:
                assert (await client.get("/")).status_code == 500
            await client.aclose()
            assert (await original.get("/")).status_code == 500
        assert len(seen.connections) == 1

    asyncio.run(main())


@pytest.mark.parametrize("retries", [2, 0])
def test_a_copy_of_a_transport_does_not_try_to_connect_again(retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the port closed, the original tries as often as it is told."""
    tries: list[str] = []
    transport = httpx.HTTPTransport(retries=2)
    used = transport if retries else without_sdk_retries(transport)
    backend = vars(transport)["_pool"]._network_backend
    connect = backend.connect_tcp
    monkeypatch.setattr(backend, "connect_tcp", lambda *args, **kwargs: tries.append("try") or connect(*args, **kwargs))
    with httpx.Client(transport=used) as client, pytest.raises(httpx.ConnectError):
        client.get("http://127.0.0.1:9/")
    assert len(tries) == retries + 1


class Genai:
    """By its class shape: a client of google-genai."""


Genai.__module__ = "google.genai.client"


def test_subclasses_of_known_clients_are_known() -> None:
    """By their base, wherever they are."""
    client = without_sdk_retries(type("Mine", (openai.OpenAI,), {"__module__": "mine"})(api_key="k"))
    assert client.max_retries == 0
    client.close()
    assert not client.is_closed()


def s3() -> Any:
    return botocore.session.Session().create_client(
        "s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (redis.Redis, r"retry=Retry\(NoBackoff\(\), 0\)"),
        (AsyncRedis, r"retry=Retry\(NoBackoff\(\), 0\), of redis.asyncio.retry"),
        (s3, r"Config\(retries=\{\"total_max_attempts\": 1\}\)"),
        (Genai, r"HttpRetryOptions\(attempts=1\)"),
        (object, "nobody here knows how a builtins.object retries"),
        (lambda: type("Odd", (), {"__module__": "openai"})(), "is not a client with max_retries"),
        (lambda: type("Odd", (), {"__module__": "requests"})(), "is not a Session"),
        (lambda: httpx.MockTransport(lambda request: httpx.Response(200)), "is not a transport that has connections"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_remedy(make: Callable[[], Any], said: str) -> None:
    """The setting to use where the client is made."""
    with pytest.raises(TypeError, match=said):
        without_sdk_retries(make())
