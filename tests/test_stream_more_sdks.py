"""Streams of further real SDKs, where they are installed, against a server that breaks them off."""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Policy,
    Resume,
    Retry,
    StreamTimeout,
    fixed,
    is_transient,
)
from resilient_agents.events import CallEnded, CallStarted
from resilient_agents.integrations.resuming import text_so_far
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
    policy = Policy(bulkhead, Retry(3, wait=fixed(0)), breaker, StreamTimeout(idle=LATE))
    raced = Policy(bulkhead, Hedge(0.05), breaker, StreamTimeout(idle=5))
    goes_on = [] if asked is agents else [STALL]  # an agent may take a further turn
    script = [429, 529, whole, [*whole, *goes_on], whole, [LATE, *whole], whole]
    server: Server
    with serving(answering(script)) as server:
        ask = asked(server.url)

        async def main() -> None:
            for way, takes in ((policy, None), (policy, None), (policy, 1), (raced, None)):
                seen = await read(way, ask, takes)
                assert seen == (TEXT if takes is None else TEXT[: len(seen)])

        asyncio.run(main())
    assert (script, bulkhead.in_use, breaker.state) == ([], 0, "closed")


def says_failed(asked: Callable[[str], Asked]) -> bytes:
    """What the server of an SDK sends when it breaks off by itself."""
    if asked is ollama:
        return b'{"error": "the runner has stopped"}\n'
    told: dict[str, Any] = {"error": {"code": "server_error", "type": "server_error", "message": "?"}}
    if asked is google:
        told = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "?"}}
    if asked is agents:
        told = {"type": "error", "code": "server_error", "message": "?", "param": None, "sequence_number": 3}
    return f"{'event: error' if asked is agents else ''}\ndata: {json.dumps(told)}\n\n".encode().lstrip(b"\n")


# What keeps a connection alive without an item; google-genai takes a comment for half an answer.
PINGS = {google: b"\r\n", ollama: b" "}


@each_sdk
@pytest.mark.parametrize("end", ["truncated", "cut inside an event", "stalled", "pings", "reset", "error event"])
def test_what_breaks_off_is_a_failure(
    asked: Callable[[str], Asked], events: Callable[[str], list[bytes]], end: str
) -> None:
    """A transient one, of the connection, of the server or of time."""
    whole: list[Any] = events(TEXT)
    endings: dict[str, list[Any]] = {
        "truncated": [],
        "cut inside an event": [whole[3][:20]],
        "stalled": [STALL],
        "pings": [part for _ in range(100) for part in (PINGS.get(asked, b": ping\n\n"), 0.02)],
        "reset": [0.02, RESET],
        "error event": [says_failed(asked), 0.02],
    }
    parts = [*whole[:3], *endings[end]]
    bulkhead, breaker = Bulkhead(9), CircuitBreaker(failures=1)
    with serving(answering([parts])) as server:
        ask = asked(server.url)
        with pytest.raises(Exception) as raised:
            asyncio.run(read(Policy(bulkhead, breaker, StreamTimeout(idle=LATE)), ask))
    assert is_transient(raised.value)
    assert (bulkhead.in_use, breaker.state) == (0, "open")


SHORT = "to be"
EVERY_BYTE = bool(os.environ.get("RESILIENT_AGENTS_EVERY_BYTE"))
"""Cut at each byte, and not only at some in each event: that takes minutes."""

CAN_GO_ON = [case for case in SDKS if case[0] is not agents]  # an agent's run has more in it than its text


class GoesOn:
    """A server that breaks every first answer off after `cut` bytes, and goes on after the text it is given."""

    def __init__(self, events: Callable[[str], list[bytes]]) -> None:
        self.events = events
        self.cut = 0
        self.billed: list[str] = []

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, list[Any]]:
        last = (body.get("messages") or body["contents"])[-1]
        begun = "" if last["role"] == "user" else last.get("content") or last["parts"][0]["text"]
        rest = SHORT[len(begun) :]
        self.billed.append(rest)
        stream = b"".join(self.events(rest))
        return 200, [stream[: self.cut] if len(self.billed) == 1 else stream]

    def cuts(self) -> Iterator[None]:
        """At each end of an event, and inside."""
        at = 0
        for event in self.events(SHORT):
            for offset in range(1, len(event)) if EVERY_BYTE else (1, 7, len(event) - 3):
                self.cut = at + offset
                self.billed.clear()
                yield
            at += len(event)
            self.cut = at
            self.billed.clear()
            yield


def goes_on(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Asks for what comes after the text so far."""

    def continue_with(items: list[Any], **options: Any) -> Any:
        begun = text_so_far(items)
        if "contents" in options:
            said = {"role": "model", "parts": [{"text": begun}]}
            return fn(**{**options, "contents": [{"role": "user", "parts": [{"text": "?"}]}, said]})
        return fn(**{**options, "messages": [*options["messages"], {"role": "assistant", "content": begun}]})

    return continue_with


@pytest.mark.parametrize(("asked", "events"), CAN_GO_ON, ids=["google-genai", "ollama", "mistralai", "groq", "litellm"])
def test_with_resume_the_text_is_whole_wherever_it_was_cut(
    asked: Callable[[str], Asked], events: Callable[[str], list[bytes]]
) -> None:
    """Between events and inside of them: once, and the server is asked once more for what was lost."""
    answer = GoesOn(functools.partial(events, **({"size": 1} if events is chat_events else {})))
    with serving(answer) as server:
        fn, options = asked(server.url)
        policy = Policy(Resume(goes_on(fn)), Retry(2, wait=fixed(0)), StreamTimeout(idle=5))

        async def main() -> None:
            for _ in answer.cuts():
                assert await read(policy, (fn, options)) == SHORT
                assert len(answer.billed) <= 2

        asyncio.run(main())


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
