"""What the items of known SDKs say about their stream: that it begins, is complete, or has failed.

An item is known by its top package and class name; no client library is imported. What each SDK sends when was found
out by running it against a server that ends, stalls and fails at every place: see the table in docs/pages/streams.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from resilient_agents.classify.facts import get, mro_of, name_of, package_of

__all__ = [
    "COMPLETE",
    "FAILED",
    "ITEM",
    "OPENER",
    "Progress",
    "Reader",
    "breaks",
    "has_known_items",
    "reader_of",
]

ITEM: Final = 0
OPENER: Final = 1
COMPLETE: Final = 2
FAILED: Final = 3


class Progress:
    """How far a stream has come. `known`: its kind, "" for none; `complete`: its mark of completion has come;
    `may_go_on`: it may take further turns after that; `finish`: the reason that it gave, in its own word; `failed`:
    what it said of its failure (type, code, status); `begun`: it has had an item."""

    __slots__ = ("begun", "complete", "failed", "finish", "known", "may_go_on", "unfinished")

    def __init__(self) -> None:
        self.known = ""
        self.begun = False
        self.complete = False
        self.may_go_on = False
        self.finish: str | None = None
        self.failed: tuple[str, str | None, int | None] | None = None
        self.unfinished: set[int] = set()

    def see(self, item: Any) -> int:
        """Take in what an item says."""
        found = reader_of(type(item))
        if found is None:
            return ITEM
        self.known, read = found
        says = read(item, self)
        self.begun = True
        if says == COMPLETE:
            self.complete = True
        elif says == ITEM and self.may_go_on:
            self.complete = False
        return says


Reader: TypeAlias = Callable[[Any, Progress], int]


def _chat(chunk: Any, progress: Progress, *, made_up: str | None = None) -> int:
    """`choices[].finish_reason`; some servers send none, only a last chunk with the usage and no choices. `made_up`:
    the reason that an SDK gives by itself for a stream that broke off before its first chunk."""
    choices = get(chunk, "choices")
    if not choices:
        return COMPLETE if get(chunk, "usage") is not None else OPENER
    finished = False
    opener = True
    for position, choice in enumerate(choices):
        index = get(choice, "index")
        index = index if isinstance(index, int) else position
        reason = get(choice, "finish_reason")
        if reason:
            finished = True
            progress.finish = _word(reason)
            progress.unfinished.discard(index)
        else:
            progress.unfinished.add(index)
        opener = opener and _only_a_role(get(choice, "delta"))
    if finished and opener and progress.finish == made_up and not progress.begun and get(chunk, "usage") is None:
        progress.finish = None
        return OPENER
    if finished:
        return ITEM if progress.unfinished else COMPLETE
    return OPENER if opener else ITEM


def _only_a_role(delta: Any) -> bool:
    fields = {**(get(delta, "__dict__") or {}), **(get(delta, "__pydantic_extra__") or {})}
    return not any(value for name, value in fields.items() if name != "role" and not name.startswith("_"))


def _chat_event(event: Any, progress: Progress) -> int:
    """What `chat.completions.stream` gives: a chunk, among events made of it."""
    chunk = get(event, "chunk")
    return ITEM if chunk is None else _chat(chunk, progress)


def _mistral(event: Any, progress: Progress) -> int:
    return _chat(get(event, "data"), progress)


_RESPONSES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "response.created": OPENER,
        "response.in_progress": OPENER,
        "response.queued": OPENER,
        "response.output_item.added": OPENER,
        "response.content_part.added": OPENER,
        "response.completed": COMPLETE,
        "response.incomplete": COMPLETE,
        "response.failed": FAILED,
        "response.cancelled": FAILED,
        "error": FAILED,
    }
)

_MESSAGES: Final[Mapping[str, int]] = MappingProxyType(
    {"message_start": OPENER, "content_block_start": OPENER, "ping": OPENER, "message_stop": COMPLETE, "error": FAILED}
)


def _responses(event: Any, progress: Progress) -> int:
    kind = get(event, "type")
    says = _RESPONSES.get(kind, ITEM) if isinstance(kind, str) else ITEM
    response = get(event, "response")
    if says == COMPLETE:
        reason = get(get(response, "incomplete_details"), "reason")
        progress.finish = _word(reason or get(response, "status"))
    elif says == FAILED:
        error = get(response, "error") or event
        status = get(event, "status_code") or get(error, "status_code")
        code = get(error, "code") or ("cancelled" if kind == "response.cancelled" else None)
        progress.failed = kind, _word(code), status if isinstance(status, int) else None
    return says


def _messages(event: Any, progress: Progress) -> int:
    """`message_stop`, or the `stop_reason` that comes before it."""
    kind = get(event, "type")
    says = _MESSAGES.get(kind, ITEM) if isinstance(kind, str) else ITEM
    if kind == "message_delta":
        reason = get(get(event, "delta"), "stop_reason")
        if reason:
            progress.finish = _word(reason)
            return COMPLETE
    elif says == FAILED:
        progress.failed = "error", _word(get(get(event, "error"), "type")), None
    return says


def _candidates(response: Any, progress: Progress) -> int:
    candidates = get(response, "candidates")
    parts = get(get(candidates[0], "content"), "parts") if candidates else None
    if parts and any(get(part, "function_call") is not None for part in parts):
        progress.may_go_on = True  # the SDK may call the function and ask again
    reason = (
        get(candidates[0], "finish_reason") if candidates else get(get(response, "prompt_feedback"), "block_reason")
    )
    progress.finish = _word(reason)
    return COMPLETE if reason else ITEM


def _message_chunk(chunk: Any, progress: Progress) -> int:
    """LangChain's. `chunk_position="last"` is set by LangChain itself, also on a stream that broke off."""
    facts = get(chunk, "response_metadata")
    if not isinstance(facts, Mapping):
        return ITEM
    for name in ("finish_reason", "stop_reason", "status", "done_reason"):
        reason = facts.get(name)
        if reason and reason != "in_progress":
            progress.finish = _word(reason)
            return COMPLETE
    opener = not get(chunk, "content") and not get(chunk, "tool_call_chunks") and not get(chunk, "additional_kwargs")
    return OPENER if opener else ITEM


def _generation_chunk(chunk: Any, progress: Progress) -> int:
    return _message_chunk(get(chunk, "message"), progress)


def _agents(event: Any, progress: Progress) -> int:
    data = get(event, "data")
    if data is None:
        return ITEM
    progress.may_go_on = True
    return _responses(data, progress)


def _done(response: Any, progress: Progress) -> int:
    if get(response, "done") is not True:
        return ITEM
    progress.finish = _word(get(response, "done_reason"))
    return COMPLETE


_KINDS: Final[Mapping[tuple[str, str], tuple[str, Reader]]] = MappingProxyType(
    {
        ("openai", "ChatCompletionChunk"): ("chat", _chat),
        ("openai", "ChunkEvent"): ("chat", _chat_event),
        ("groq", "ChatCompletionChunk"): ("chat", _chat),
        ("litellm", "ModelResponseStream"): ("chat", functools.partial(_chat, made_up="stop")),
        ("litellm", "ModelResponse"): ("chat", _chat),
        ("mistralai", "CompletionEvent"): ("chat", _mistral),
        ("google", "GenerateContentResponse"): ("google", _candidates),
        ("ollama", "ChatResponse"): ("ollama", _done),
        ("ollama", "GenerateResponse"): ("ollama", _done),
        ("langchain_core", "AIMessageChunk"): ("langchain", _message_chunk),
        ("langchain_core", "ChatGenerationChunk"): ("langchain", _generation_chunk),
        ("agents", "RawResponsesStreamEvent"): ("agents", _agents),
        ("agents", "AgentUpdatedStreamEvent"): ("agents", lambda _, __: OPENER),
    }
)


# Events of anthropic's that are no message's, and whose streams end without its mark.
_NO_MESSAGES: Final = ("ManagedAgents", "Webhook")


def _by_family(package: str, name: str) -> tuple[str, Reader] | None:
    """The events of which there are dozens of classes, told apart by their `type`."""
    if package == "anthropic" and name.endswith("Event") and not any(other in name for other in _NO_MESSAGES):
        return "messages", _messages
    if package == "openai" and name.startswith(("Response", "BetaResponse")) and name.endswith("Event"):
        return "responses", _responses
    return None


def _find_reader(kind: type) -> tuple[str, Reader] | None:
    for cls in mro_of(kind):
        package, name = package_of(cls), name_of(cls).partition("[")[0]
        found = _KINDS.get((package, name)) or _by_family(package, name)
        if found is not None:
            return found
    return None


reader_of = cast(Callable[[type], "tuple[str, Reader] | None"], functools.lru_cache(maxsize=1024)(_find_reader))
"""How to read items of this class, and of which kind its stream is; None where nothing is known about it."""

# How classes of streams end that have items of a known kind, if they have any.
_SOURCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": ("Stream",),
        "groq": ("Stream",),
        "anthropic": ("Stream",),
        "mistralai": ("EventStream", "EventStreamAsync"),
        "litellm": ("CustomStreamWrapper",),
        "resilient_agents": ("WithoutSpace",),
    }
)


def has_known_items(source: Any) -> bool:
    """Is this an SDK's stream, which is not complete without an item?"""
    return any(
        name_of(cls).partition("[")[0].endswith(_SOURCES.get(package_of(cls), ())) for cls in mro_of(type(source))
    )


def _always(error: Exception, known: str) -> bool:
    return True


def _without_status(error: Exception, known: str) -> bool:
    return bool(get(error, "status_code") == -1)


def _reading(*packages: str) -> Callable[[Exception, str], bool]:
    """Raised by one of these, of an item that it could not read."""
    return lambda error, known: known in packages or _raised_inside(error, packages)


# Errors by which an SDK shows, in the midst of its stream, that the connection or the server broke off, and when.
_BROKEN: Final[Mapping[tuple[str, str], Callable[[Exception, str], bool]]] = MappingProxyType(
    {
        ("google", "UnknownApiResponseError"): _always,
        ("agents", "ModelBehaviorError"): _always,
        ("mistralai", "ResponseValidationError"): _always,
        ("ollama", "ResponseError"): _without_status,
        ("json", "JSONDecodeError"): _reading("ollama", "langchain"),
        ("pydantic_core", "ValidationError"): _reading("mistralai"),
    }
)


def breaks(error: Exception, known: str) -> bool:
    """Does this error, in the midst of a stream of this kind, only mean that the stream broke off?"""
    return any(
        broken(error, known)
        for cls in mro_of(type(error))
        if (broken := _BROKEN.get((package_of(cls), name_of(cls)))) is not None
    )


def _raised_inside(error: Exception, packages: tuple[str, ...]) -> bool:
    """Did this error pass through one of these, which could not read an item?"""
    entry = error.__traceback__
    while entry is not None:
        name = entry.tb_frame.f_globals.get("__name__")
        if isinstance(name, str) and name.startswith(packages):
            return True
        entry = entry.tb_next
    return False


def _word(value: Any) -> str | None:
    """A reason or code as a short word: of an enumeration its value; nothing that could be a sentence."""
    value = get(value, "value") or value
    return value if isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() else None
