"""What `Resume(continue_with)` may be for the common servers, and what helps to write one.

Servers that take the beginning of an answer (vLLM, DeepSeek, Mistral) and Responses that run in the background go on
exactly where the stream broke off. Others can only be asked to: the answer then goes on in the sense, not to the
letter.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, Literal, overload

from resilient_agents.classify.facts import get
from resilient_agents.core.driver import is_awaitable
from resilient_agents.strategies.stream_text import text_of

__all__ = ["continue_chat", "continue_messages", "continue_response", "text_so_far", "without_overlap"]

Continue = Callable[..., Any]

ASK_TO_GO_ON = (
    "Your answer was cut off. It ended with the text between the marks.\n<end>{end}</end>\n"
    "Go on exactly where it ended. Do not repeat any of it and do not comment on this."
)
QUOTED = 400
"""Characters of the end that are quoted to a model that is asked to go on."""
LAST_WITH_PREFILL = 4, 5
"""The version of Claude after which the server refuses the beginning of an answer."""
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")


def text_so_far(items: Iterable[Any]) -> str:
    """The text of the items of a known kind, put together."""
    return "".join(text_of(item) for item in items)


def continue_chat(create: Callable[..., Any], *, by: Literal["prefix", "continue_final_message"]) -> Continue:
    """Go on with chat completions on a server that takes the beginning of the assistant's answer.

    `create` is the client's (`client.chat.completions.create`), `by` how the server is told:
    "continue_final_message" for vLLM, "prefix" for DeepSeek's beta address and Mistral. `messages` must be given by
    name. Raises ValueError, when called, for another `by`.
    """
    if by not in ("prefix", "continue_final_message"):
        raise ValueError(f'by must be "prefix" or "continue_final_message", got {by!r}')

    def continue_with(items: list[Any], *args: Any, **kwargs: Any) -> Any:
        answer: dict[str, Any] = {"role": "assistant", "content": text_so_far(items)}
        if by == "prefix":
            answer["prefix"] = True
        else:
            body = {**(kwargs.get("extra_body") or {}), "continue_final_message": True, "add_generation_prompt": False}
            kwargs = {**kwargs, "extra_body": body}
        return create(*args, **{**kwargs, "messages": [*kwargs["messages"], answer]})

    return continue_with


def continue_response(retrieve: Callable[..., Any]) -> Continue:
    """Go on with a Response of openai that runs in the background (`background=True, stream=True`).

    `retrieve` is `client.responses.retrieve`. Raises LookupError, when called, where no item named the response.
    """

    def continue_with(items: list[Any], *args: Any, **kwargs: Any) -> Any:
        found = next((name for item in items if (name := get(get(item, "response"), "id"))), None)
        if found is None:
            raise LookupError("no item of the stream so far names its response: preamble= must not drop it")
        after = max((n for item in items if isinstance(n := get(item, "sequence_number"), int)), default=0)
        return retrieve(found, stream=True, starting_after=after)

    return continue_with


def continue_messages(create: Callable[..., Any], *, prefill: bool | None = None) -> Continue:
    """Go on with messages of anthropic: `create` is `client.messages.create`, called with `stream=True`.

    `prefill=True` gives the model its own answer to go on with, which models up to 4.5 take; later ones refuse it with
    a 400. `prefill=False` asks in a message that quotes the end: the answer then goes on in the sense, and where a word
    was cut in two, perhaps not to the letter. By default the call's `model` decides; where its name does not tell a
    version up to 4.5, a message asks. Raises ValueError, when called, for calls with tools or thinking, which
    cannot be gone on with.
    """

    def continue_with(items: list[Any], *args: Any, **kwargs: Any) -> Any:
        for option in ("tools", "thinking"):
            if kwargs.get(option):
                raise ValueError(f"a message with {option} cannot be gone on with")
        text = text_so_far(items)
        taken = text.rstrip()  # the server refuses white space at the end
        prefilled = _takes_prefill(kwargs.get("model")) if prefill is None else prefill
        if prefilled:
            more = [{"role": "assistant", "content": taken}]
        else:
            more = [
                {"role": "assistant", "content": taken or "..."},
                {"role": "user", "content": ASK_TO_GO_ON.format(end=text[-QUOTED:])},
            ]
        rest = create(*args, **{**kwargs, "messages": [*kwargs["messages"], *more]})
        return _without_space(rest, len(text) - len(taken)) if prefilled and text != taken else rest

    return continue_with


def _takes_prefill(model: object) -> bool:
    """Claude up to 4.5, whoever serves it: claude-3-5-haiku-latest, anthropic.claude-sonnet-4-20250514-v1:0."""
    version = _CLAUDE.search(model) if isinstance(model, str) else None
    return version is not None and (int(version[1]), int(version[2] or 0)) <= LAST_WITH_PREFILL


def _without_space(rest: Any, count: int) -> Any:
    async def awaited() -> WithoutSpace:
        return WithoutSpace(await rest, count)

    return awaited() if is_awaitable(rest) else WithoutSpace(rest, count)


class WithoutSpace:
    """A stream of messages without the white space at the beginning of its text that the consumer has already: so many
    characters at most, which the model writes again because it was not given them. All else is the stream's own."""

    def __init__(self, stream: Any, count: int) -> None:
        self._stream = stream
        self._left = count

    def _trimmed(self, event: Any) -> Any:
        text = text_of(event) if self._left else ""
        if text:
            rest = text.lstrip()
            again = min(len(text) - len(rest), self._left)
            self._left = 0 if rest else self._left - again
            event.delta.text = text[again:]
        return event

    def __iter__(self) -> Iterator[Any]:
        return map(self._trimmed, self._stream)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for event in self._stream:
            yield self._trimmed(event)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._stream, name)


@overload
def without_overlap(before: str, rest: Iterable[str], *, least: int = 8) -> Iterator[str]: ...
@overload
def without_overlap(before: str, rest: AsyncIterable[str], *, least: int = 8) -> AsyncIterator[str]: ...
def without_overlap(before: str, rest: Any, *, least: int = 8) -> Any:
    """`rest` without what it repeats at its beginning of the end of `before`: a model that is asked to go on likes to
    begin with its last words.

    A repetition shorter than `least` characters (default 8) may be chance and stays. `rest` may be an iterable of
    strings or an async one; the result is of the same kind.
    """
    if hasattr(rest, "__aiter__"):
        return _without_overlap_async(_Overlap(before, least), rest)
    return _without_overlap(_Overlap(before, least), rest)


def _without_overlap(overlap: _Overlap, rest: Iterable[str]) -> Iterator[str]:
    for piece in rest:
        if new := overlap.take(piece):
            yield new
    if new := overlap.end():
        yield new


async def _without_overlap_async(overlap: _Overlap, rest: AsyncIterable[str]) -> AsyncIterator[str]:
    async for piece in rest:
        if new := overlap.take(piece):
            yield new
    if new := overlap.end():
        yield new


class _Overlap:
    """Holds back the beginning of a text as long as it may repeat the end of another."""

    def __init__(self, before: str, least: int) -> None:
        self._before = before
        self._least = least
        self._held: str | None = ""

    def take(self, piece: str) -> str:
        if self._held is None:
            return piece
        held = self._held = self._held + piece
        before = self._before
        if any(before.startswith(held, start) for start in range(len(before) - len(held) + 1)):
            return ""  # it may go on like this
        return self.end()

    def end(self) -> str:
        held, self._held = self._held, None
        if not held:
            return ""
        for size in range(min(len(held), len(self._before)), self._least - 1, -1):
            if self._before.endswith(held[:size]):
                return held[size:]
        return held
