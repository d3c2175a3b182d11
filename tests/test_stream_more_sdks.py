"""Streams of further real SDKs, where they are installed, against a server that breaks them off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Hedge, Policy, Retry, StreamTimeout, fixed, is_transient
from tests.stream_server import RESET, STALL, Server, chat_events, serving

TEXT = "to be, or not to be"
ASK: list[Any] = [{"role": "user", "content": "?"}]
LATE = 0.3
Asked = tuple[Callable[..., Any], dict[str, Any]]


def google_events(text: str) -> list[bytes]:
    events = [{"candidates": [{"content": {"parts": [{"text": letter}], "role": "model"}}]} for letter in text]
    events[-1]["candidates"][0]["finishReason"] = "STOP"  # type: ignore[assignment]
    return [f"data: {json.dumps(event)}\r\n\r\n".encode() for event in events]


def ollama_events(text: str) -> list[bytes]:
    def line(content: str, **facts: Any) -> bytes:
        message = {"role": "assistant", "content": content}
        told = {"model": "m", "created_at": "2024-01-01T00:00:00Z", "message": message, "done": False}
        return (json.dumps({**told, **facts}) + "\n").encode()

    return [*map(line, text), line("", done=True, done_reason="stop")]


def google(url: str) -> Asked:
    genai = pytest.importorskip("google.genai")
    client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=url))
    return client.aio.models.generate_content_stream, {"model": "m", "contents": "?"}


def ollama(url: str) -> Asked:
    client = pytest.importorskip("ollama").AsyncClient(host=url)
    return client.chat, {"model": "m", "messages": ASK, "stream": True}


def mistral(url: str) -> Asked:
    client = pytest.importorskip("mistralai.client").Mistral(api_key="k", server_url=url)
    return client.chat.stream_async, {"model": "m", "messages": ASK}


SDKS: list[tuple[Callable[[str], Asked], Callable[[str], list[bytes]]]] = [
    (google, google_events),
    (ollama, ollama_events),
    (mistral, chat_events),
]
# Their modules warn of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")
each_sdk = pytest.mark.parametrize(("asked", "events"), SDKS, ids=["google-genai", "ollama", "mistralai"])


async def read(policy: Policy, asked: Asked, takes: int | None = None) -> str:
    fn, options = asked
    seen = ""
    async with policy.stream(fn, **options) as stream:
        async for text in stream.text_stream:
            seen += text
            if takes is not None and len(seen) >= takes:
                break
    return seen


def answering(server: list[Any]) -> Callable[[str, dict[str, Any]], tuple[int, list[Any]]]:
    """One answer after another: parts, or the status of a refusal."""

    def handler(path: str, body: dict[str, Any]) -> tuple[int, list[Any]]:
        answer = server.pop(0)
        return (answer, [b'{"error": {"message": "?"}}']) if isinstance(answer, int) else (200, answer)

    return handler


@each_sdk
def test_what_comes_whole_is_a_success(asked: Callable[[str], Asked], events: Callable[[str], list[bytes]]) -> None:
    """Tried again before its first item, whatever comes after its mark, raced, or closed early."""
    whole: list[Any] = events(TEXT)
    bulkhead, breaker = Bulkhead(9), CircuitBreaker(failures=2)
    policy = Policy(bulkhead, Retry(2, wait=fixed(0)), breaker, StreamTimeout(idle=LATE))
    raced = Policy(bulkhead, Hedge(0.05), breaker, StreamTimeout(idle=5))
    script = [429, whole, [*whole, STALL], whole, [LATE, *whole], whole]
    server: Server
    with serving(answering(script)) as server:
        ask = asked(server.url)

        async def main() -> None:
            for way, takes in ((policy, None), (policy, None), (policy, 1), (raced, None)):
                seen = await read(way, ask, takes)
                assert seen == (TEXT if takes is None else TEXT[: len(seen)])

        asyncio.run(main())
    assert (script, bulkhead.in_use, breaker.state) == ([], 0, "closed")


@each_sdk
@pytest.mark.parametrize("end", ["truncated", "stalled", "reset"])
def test_what_breaks_off_is_a_failure(
    asked: Callable[[str], Asked], events: Callable[[str], list[bytes]], end: str
) -> None:
    """A transient one, of the connection or of time."""
    endings: dict[str, list[Any]] = {"truncated": [], "stalled": [STALL], "reset": [0.02, RESET]}
    parts = [*events(TEXT)[:3], *endings[end]]
    bulkhead, breaker = Bulkhead(9), CircuitBreaker(failures=1)
    with serving(answering([parts])) as server:
        ask = asked(server.url)
        with pytest.raises(Exception) as raised:
            asyncio.run(read(Policy(bulkhead, breaker, StreamTimeout(idle=LATE)), ask))
    assert is_transient(raised.value)
    assert (bulkhead.in_use, breaker.state) == (0, "open")
