"""Streams of the real SDKs that break off and go on, against a server that can: the consumer sees the text once."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from resilient_agents import Policy, Resume, Retry, StreamTimeout, fixed
from resilient_agents.integrations.resuming import continue_chat, continue_messages, continue_response, text_so_far
from tests.stream_server import END, RESET, response_events, serving
from tests.test_stream_sdks import Sdk, each_colour

SHORT = "to b"


def terse_chat(text: str) -> list[bytes]:
    """A whole chat completion in as few bytes as the SDK reads."""
    chunks = [*[{"delta": {"content": letter}} for letter in text], {"delta": {}, "finish_reason": "stop"}]
    return [f"data: {json.dumps({'choices': [chunk]}, separators=(',', ':'))}\n\n".encode() for chunk in chunks]


def terse_message(text: str) -> list[bytes]:
    """The same of a message."""

    def event(kind: str, **facts: Any) -> bytes:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **facts}, separators=(',', ':'))}\n\n".encode()

    deltas = [event("content_block_delta", delta={"type": "text_delta", "text": letter}) for letter in text]
    return [event("message_start"), *deltas, event("message_stop")]


TERSE = {"chat": terse_chat, "anthropic": terse_message}


class GoesOn:
    """A server that breaks every first answer off after `cut` bytes, and then goes on from the prefix it is given."""

    def __init__(self, events: Callable[[str], list[bytes]], end: str) -> None:
        self.events, self.end = events, end
        self.cut = 0
        self.billed: list[str] = []

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, list[Any]]:
        last = body["messages"][-1]
        begun = last["content"] if last["role"] == "assistant" else ""
        rest = SHORT[len(begun) :]
        self.billed.append(rest)
        stream = b"".join(self.events(rest))
        return 200, [stream[: self.cut], self.end] if len(self.billed) == 1 else [stream]


@pytest.mark.parametrize("kind", TERSE)
@each_colour
@pytest.mark.parametrize("end", [END, RESET])
def test_with_resume_the_text_is_whole_wherever_it_was_cut(kind: str, blocking: bool, end: str) -> None:
    """At any byte, once, and the server is asked once more for what was lost."""
    server_of = GoesOn(TERSE[kind], end)
    length = len(b"".join(TERSE[kind](SHORT)))
    with serving(server_of) as server:
        sdk = Sdk(kind, TERSE[kind], server, blocking=blocking)
        create = sdk.create
        more = continue_chat(create, by="prefix") if kind == "chat" else continue_messages(create, prefill=True)
        policy = Policy(Resume(more), Retry(2, wait=fixed(0)), StreamTimeout(idle=5))

        def cuts() -> Iterator[None]:
            for cut in range(1, length, 1 if end == END else 5):
                server_of.cut = cut
                server_of.billed.clear()
                yield

        def whole(items: list[Any]) -> bool:
            return text_so_far(items) == SHORT and len(server_of.billed) <= 2

        async def main() -> None:
            async with sdk.client:
                for _ in cuts():
                    assert whole([item async for item in policy.stream(create, **sdk.asked)])

        if not blocking:
            asyncio.run(main())
        else:
            for _ in cuts():
                assert whole(list(policy.stream(create, **sdk.asked)))
            sdk.client.close()


class InBackground:
    """A server of Responses that run in the background: it gives one up after `cut` events, and from then on those that
    come after the one that is named."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.cut = 0
        self.asked: list[str] = []
        self.events = response_events(SHORT, size=1)

    def cuts(self) -> Iterator[None]:
        """At every event after the one that names the response."""
        for cut in range(2, len(self.events)):
            self.cut = cut
            self.asked.clear()
            yield

    def __call__(self, path: str, body: dict[str, Any]) -> tuple[int, list[Any]]:
        url = urlsplit(path)
        self.asked.append(url.path)
        if url.path == "/responses":
            assert (body["background"], body["stream"]) == (True, True)
            return 200, [*self.events[: self.cut], self.end]
        query = parse_qs(url.query)
        assert query["stream"] == ["true"]
        begin = int(query["starting_after"][0]) + 1
        return 200, [*self.events[begin : begin + 2], self.end]


@each_colour
@pytest.mark.parametrize("end", [END, RESET])
def test_a_response_in_the_background_goes_on_where_it_was_cut(blocking: bool, end: str) -> None:
    """At every event, again and again: the text is whole, once, and no further response is made."""
    answer = InBackground(end)
    with serving(answer) as server:
        sdk = Sdk("responses", response_events, server, blocking=blocking)
        retrieve = sdk.client.responses.retrieve
        if "starting_after" not in inspect.signature(retrieve).parameters:
            pytest.skip("this openai does not go on with a stream of a response")
        asked = {**sdk.asked, "background": True}
        policy = Policy(Resume(continue_response(retrieve), times=9), StreamTimeout(idle=5))

        def whole(items: list[Any]) -> bool:
            numbers = [item.sequence_number for item in items]
            made, *gone_on = answer.asked
            assert (made, set(gone_on)) == ("/responses", {"/responses/r"})
            return text_so_far(items) == SHORT and numbers == list(range(len(answer.events)))

        async def main() -> None:
            async with sdk.client:
                for _ in answer.cuts():
                    assert whole([item async for item in policy.stream(sdk.create, **asked)])

        if not blocking:
            asyncio.run(main())
        else:
            with sdk.client:
                assert all(whole(list(policy.stream(sdk.create, **asked))) for _ in answer.cuts())
