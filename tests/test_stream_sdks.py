"""Streams of the real SDKs against a server that breaks them off: each kind of end is seen for what it is."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

from resilient_agents import (
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Policy,
    Retry,
    StreamFailedError,
    StreamTimeout,
    StreamTimeoutError,
    StreamTruncatedError,
    classify,
    fixed,
)
from resilient_agents.core.streams import Stream
from resilient_agents.events import CallEnded, CallStarted
from resilient_agents.integrations.resuming import text_so_far
from resilient_agents.strategies.stream_kinds import has_known_items
from tests.stream_server import (
    END,
    RESET,
    STALL,
    Server,
    answering,
    chat_events,
    message_events,
    response_events,
    serving,
)

TEXT = "to be, or not to be"
ASK: list[Any] = [{"role": "user", "content": "?"}]


class Sdk:
    """One way to ask one SDK for a stream. `call` is what a policy is to guard, with its arguments."""

    def __init__(self, name: str, events: Callable[..., list[bytes]], server: Server, *, blocking: bool) -> None:
        self.events, self.blocking = events, blocking
        openai_class: Any = openai.OpenAI if blocking else openai.AsyncOpenAI
        anthropic_class: Any = anthropic.Anthropic if blocking else anthropic.AsyncAnthropic
        asked: dict[str, Any] = {"model": "m", "stream": True}
        if name == "anthropic":
            self.client = anthropic_class(api_key="k", base_url=server.url, max_retries=0)
            self.create, self.asked = self.client.messages.create, {**asked, "messages": ASK, "max_tokens": 9}
        else:
            self.client = openai_class(api_key="k", base_url=server.url, max_retries=0)
            if name == "responses":
                if not hasattr(self.client, "responses"):
                    pytest.skip("the Responses API came with openai 1.66")
                self.create, self.asked = self.client.responses.create, {**asked, "input": "?"}
            else:
                self.create, self.asked = self.client.chat.completions.create, {**asked, "messages": ASK}

    def read(self, policy: Policy, seen: list[Any] | None = None) -> str:
        """The text that the consumer sees."""
        items: list[Any] = [] if seen is None else seen
        stream = policy.stream(self.create, **self.asked)
        if self.blocking:
            with stream:
                items.extend(stream)
            self.client.close()
        else:
            asyncio.run(self._aread(stream, items))
        return text_so_far(items)

    async def _aread(self, stream: Stream[Any], items: list[Any]) -> None:
        async with self.client, stream:
            async for item in stream:
                items.append(item)  # noqa: PERF401 - those before an error, too


KINDS: dict[str, Callable[..., list[bytes]]] = {
    "chat": chat_events, "responses": response_events, "anthropic": message_events,
}  # fmt: skip
each_sdk = pytest.mark.parametrize("kind", KINDS)
each_colour = pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "async"])


@each_sdk
@each_colour
def test_a_whole_stream(kind: str, blocking: bool) -> None:
    """Comes through, whatever the server does after its mark."""
    for ending in (END, STALL, RESET):
        parts: list[Any] = KINDS[kind](TEXT)
        if kind == "chat" and ending != END:
            parts.pop()  # `[DONE]`, at which the SDK stops reading
        with serving(answering([*parts, ending])) as server:
            breaker = CircuitBreaker(failures=1)
            sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
            assert sdk.read(Policy(breaker, StreamTimeout(idle=0.3))) == TEXT
            assert breaker.state == "closed"


@each_sdk
@each_colour
def test_the_text_alone(kind: str, blocking: bool) -> None:
    """Is read through the policy, whatever the items are."""

    async def text(sdk: Sdk, stream: Stream[Any]) -> str:
        async with sdk.client, stream:
            return "".join([text async for text in stream.text_stream])

    with serving(answering(529, KINDS[kind](TEXT))) as server:
        sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
        stream = Policy(Retry(2, wait=fixed(0)), StreamTimeout()).stream(sdk.create, **sdk.asked)
        if blocking:
            assert "".join(stream.text_stream) == TEXT
            sdk.client.close()
        else:
            assert asyncio.run(text(sdk, stream)) == TEXT


@pytest.mark.parametrize("kind", ["chat", "anthropic"])
@each_colour
def test_the_final_message_of_a_helper(kind: str, blocking: bool) -> None:
    """The SDKs' own helpers that build the whole answer are read through the policy, too, if nothing was read before;
    one that broke off gives no half of it."""
    method = "get_final_completion" if kind == "chat" else "get_final_message"

    async def final(sdk: Sdk, stream: Stream[Any]) -> Any:
        async with sdk.client, stream:
            return await getattr(stream, method)()

    events: list[Any] = KINDS[kind](TEXT)
    for parts in (events, events[:4]):
        with serving(answering(parts)) as server:
            sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
            asked = {name: value for name, value in sdk.asked.items() if name != "stream"}
            if kind == "chat":
                chat = sdk.client.chat if hasattr(sdk.client.chat.completions, "stream") else sdk.client.beta.chat
                stream = Policy(StreamTimeout()).stream(chat.completions.stream, **asked)
            else:
                stream = Policy(StreamTimeout()).stream(sdk.client.messages.stream, **asked)
            ends = contextlib.nullcontext() if parts is events else pytest.raises(StreamTruncatedError)
            with ends:
                if blocking:
                    with sdk.client, stream:
                        whole = getattr(stream, method)()
                else:
                    whole = asyncio.run(final(sdk, stream))
                said = whole.choices[0].message.content if kind == "chat" else whole.content[0].text
                assert said == TEXT


@each_sdk
@each_colour
def test_a_refusal_is_tried_again(kind: str, blocking: bool) -> None:
    """With 429 and with 529; and so is a stream that says nothing before it breaks off."""
    events = KINDS[kind](TEXT)
    with serving(answering(429, 529, [events[0], RESET], [events[0], END], events)) as server:
        sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
        assert sdk.read(Policy(Retry(5, wait=fixed(0)), StreamTimeout(first_item=5))) == TEXT
        assert len(server.requests) == 5


@each_sdk
@each_colour
def test_a_refusal_that_says_when_to_come_again_is_heard(kind: str, blocking: bool) -> None:
    """Its Retry-After is longer than this policy would wait, which gives up at once."""
    with serving(answering(429)) as server:
        server.retry_after = 60
        sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as raised:
            sdk.read(Policy(Retry(3, wait=fixed(0), max_retry_after=30), StreamTimeout(first_item=5)))
        assert (classify(raised.value).retry_after, len(server.requests)) == (60, 1)


@each_colour
def test_a_refusal_inside_a_200_is_tried_again(blocking: bool) -> None:
    """As azure refuses a stream of a Response: by an event where the first item should be."""
    told = {"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": None, "sequence_number": 1}
    events = response_events(TEXT)
    refused = [events[0], f"event: error\ndata: {json.dumps(told)}\n\n".encode(), END]
    with serving(answering(refused, events)) as server:
        sdk = Sdk("responses", response_events, server, blocking=blocking)
        assert sdk.read(Policy(Retry(2, wait=fixed(0)), StreamTimeout(first_item=5))) == TEXT
        assert len(server.requests) == 2


@each_sdk
@each_colour
def test_a_truncated_stream_is_an_error(kind: str, blocking: bool) -> None:
    """Which the SDK says nothing of."""
    with serving(answering([*KINDS[kind](TEXT)[:4], END])) as server:
        sdk, seen = Sdk(kind, KINDS[kind], server, blocking=blocking), list[Any]()
        breaker = CircuitBreaker(failures=1)
        with pytest.raises(StreamTruncatedError):
            sdk.read(Policy(breaker, StreamTimeout(idle=5)), seen)
        assert (text_so_far(seen) in TEXT, len(seen), breaker.state) == (True, 4, "open")


@pytest.mark.parametrize("module", ["openai.lib.streaming.responses", "openai.lib.streaming.chat",
                                    "anthropic.lib.streaming", "openai", "anthropic"])  # fmt: skip
def test_the_streams_of_the_sdks_are_known_before_their_first_item(module: str) -> None:
    """All classes of them, so that one that ends without any item is no answer."""
    found = vars(pytest.importorskip(module))
    streams = [made for name, made in list(found.items()) if name.endswith("Stream") and isinstance(made, type)]
    assert [made for made in streams if not has_known_items(made.__new__(made))] == []


@each_sdk
@each_colour
@pytest.mark.parametrize("ping", [b"", b": ping\n\n"], ids=["silence", "pings"])
def test_a_stall_ends(kind: str, blocking: bool, ping: bytes) -> None:
    """Also under pings without end, on which no time limit of an SDK fires."""
    stall: list[Any] = [part for _ in range(200) for part in (ping, 0.02)] if ping else [STALL]
    with serving(answering([*KINDS[kind](TEXT)[:4], *stall])) as server:
        sdk, seen = Sdk(kind, KINDS[kind], server, blocking=blocking), list[Any]()
        began = time.monotonic()
        with pytest.raises(StreamTimeoutError, match=r"idle\) after 4 items"):
            sdk.read(Policy(StreamTimeout(idle=0.2)), seen)
        assert (len(seen), time.monotonic() - began < 3) == (4, True)


@each_colour
@pytest.mark.parametrize(
    ("kind", "event", "failure"),
    [
        ("responses", {"type": "error", "code": "rate_limit_exceeded", "message": "x", "param": None}, "rate_limit"),
        ("responses", {"type": "error", "code": "server_error", "message": "x", "param": None}, "server"),
        ("anthropic", {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overload"),
        ("chat", {"error": {"code": "server_error", "type": "server_error", "message": "x"}}, "server"),
    ],
)
def test_an_error_event_is_a_failure(kind: str, event: dict[str, Any], failure: str, blocking: bool) -> None:
    """Of its kind, whether the SDK raises it or hands it out."""
    name = f"event: {event['type']}\n" if "type" in event else ""
    told = f"{name}data: {json.dumps({**event, 'sequence_number': 4})}\n\n".encode()
    with serving(answering([*KINDS[kind](TEXT)[:4], told, END])) as server:
        sdk = Sdk(kind, KINDS[kind], server, blocking=blocking)
        with pytest.raises((StreamFailedError, openai.APIError, anthropic.APIError)) as raised:
            sdk.read(Policy(StreamTimeout(idle=5)))
        assert classify(raised.value).kind == failure


def test_thousands_of_streams_leave_nothing() -> None:
    """Closed early, cancelled, abandoned, read on in another task, closed while they are read, raced: no slot, task or
    thread is left, and every operation that began has ended."""
    bulkhead, seen = Bulkhead(10_000), collections.Counter[type]()
    policy = Policy(bulkhead, StreamTimeout(idle=5, first_item=5))
    hedged = Policy(bulkhead, Hedge(0), StreamTimeout(idle=5))
    watched = Policy(policy)
    watched.observe(lambda event: seen.update([type(event)]))
    opened = closed = 0

    async def source() -> Any:
        nonlocal closed, opened
        opened += 1
        try:
            for n in range(5):
                await asyncio.sleep(0)
                yield n
            await asyncio.sleep(60)
        finally:
            closed += 1

    async def reads(stream: Any, count: int) -> None:
        async for _ in stream:
            count -= 1
            if not count:
                return

    async def each_way(n: int) -> None:
        chosen = watched if n % 2 else policy
        early, moved, ended, raced = (way.stream(source) for way in (chosen, chosen, chosen, hedged))
        await reads(early, 1 + n % 3)
        await early.aclose()
        await reads(raced, 1 + n % 3)
        await raced.aclose()
        task = asyncio.create_task(reads(chosen.stream(source), 9))
        abandoned = chosen.stream(source)
        await anext(abandoned)
        del abandoned
        await anext(moved)
        await asyncio.create_task(reads(moved, 2))
        await moved.aclose()
        reader = asyncio.create_task(reads(ended, 9))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await ended.aclose()
        await asyncio.wait([reader, task])

    async def main() -> None:
        await asyncio.gather(*(each_way(n) for n in range(350)))
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    threads = threading.active_count()
    asyncio.run(main())
    assert (bulkhead.in_use, threading.active_count() <= threads) == (0, True)
    assert opened == closed >= 2100
    assert seen[CallStarted] == seen[CallEnded] == 875
