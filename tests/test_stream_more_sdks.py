"""Streams of further real SDKs, where they are installed, against a server that breaks them off."""

from __future__ import annotations

import asyncio
import collections
import gc
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

from resilient_agents import Bulkhead, CircuitBreaker, Hedge, Policy, Retry, StreamTimeout, fixed, is_transient
from resilient_agents.events import CallEnded, CallStarted
from tests.stream_server import RESET, STALL, Server, chat_events, response_events, serving

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
    package = pytest.importorskip("mistralai")
    if not hasattr(package, "Mistral"):  # it has moved with version 2
        package = pytest.importorskip("mistralai.client")
    client = package.Mistral(api_key="k", server_url=url)
    # A client that is collected closes what its methods need.
    return lambda **asked: client.chat.stream_async(**asked), {"model": "m", "messages": ASK}


def groq(url: str) -> Asked:
    client = pytest.importorskip("groq").AsyncGroq(api_key="k", base_url=url, max_retries=0)
    return client.chat.completions.create, {"model": "m", "messages": ASK, "stream": True}


def litellm(url: str) -> Asked:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network when it is imported
        package = pytest.importorskip("litellm")
    asked = {"model": "openai/m", "api_base": url, "api_key": "k", "max_retries": 0, "messages": ASK, "stream": True}
    return package.acompletion, asked


def agents(url: str) -> Asked:
    package = pytest.importorskip("agents")
    client = openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0)
    model = package.OpenAIResponsesModel(model="m", openai_client=client)
    agent, config = package.Agent(name="a", model=model), package.RunConfig(tracing_disabled=True)
    return lambda: package.Runner.run_streamed(agent, "?", run_config=config).stream_events(), {}


SDKS: list[tuple[Callable[[str], Asked], Callable[[str], list[bytes]]]] = [
    (google, google_events),
    (ollama, ollama_events),
    (mistral, chat_events),
    (groq, chat_events),
    (litellm, chat_events),
    (agents, response_events),
]
# Their modules warn of themselves when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")
each_sdk = pytest.mark.parametrize(
    ("asked", "events"), SDKS, ids=["google-genai", "ollama", "mistralai", "groq", "litellm", "openai-agents"]
)


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
    goes_on = [] if asked is agents else [STALL]  # an agent may take a further turn
    script = [429, whole, [*whole, *goes_on], whole, [LATE, *whole], whole]
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


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="file descriptors are counted in /proc")
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])
def test_what_is_left_of_a_stream_of_googles(blocking: bool) -> None:
    """Closed early or dropped after its first item, it frees its slot and ends its operation at once. Its connection
    stands in a cycle of google-genai's own, which the collector ends: after that no file, thread or task is left."""
    genai = pytest.importorskip("google.genai")
    bulkhead, told = Bulkhead(99), collections.Counter[type]()
    policy = Policy(bulkhead, StreamTimeout(idle=5))
    policy.observe(lambda event: told.update([type(event)]))
    asked: dict[str, Any] = {"model": "m", "contents": "?"}

    def leave(client: Any) -> None:
        for n in range(10):
            stream = policy.stream(client.models.generate_content_stream, **asked)
            assert next(stream).text == TEXT[0]
            if n % 2:
                stream.close()
            del stream
            assert bulkhead.in_use == 0

    async def aleave(client: Any) -> None:
        for n in range(10):
            stream = policy.stream(client.aio.models.generate_content_stream, **asked)
            assert (await anext(stream)).text == TEXT[0]
            if n % 2:
                await stream.aclose()
            del stream
            await asyncio.sleep(0.001)
            assert bulkhead.in_use == 0
        gc.collect()
        for _ in range(1000):  # what it has found is closed by tasks
            if len(asyncio.all_tasks()) == 1:
                return
            await asyncio.sleep(0.001)
        raise AssertionError(asyncio.all_tasks())

    with serving(lambda path, body: (200, google_events(TEXT))) as server:
        client = genai.Client(api_key="k", http_options=genai.types.HttpOptions(base_url=server.url))
        threads, before = threading.active_count(), descriptors()
        for _ in range(2):
            if blocking:
                leave(client)
            else:
                asyncio.run(aleave(client))
            gc.collect()
    assert threading.active_count() < threads  # the server's has ended
    assert (descriptors() <= before, told[CallStarted], told[CallEnded]) == (True, 20, 20)
