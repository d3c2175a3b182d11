"""Streams of text: what items of known kinds add to it, and marks of completion among bare lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from resilient_agents.classify.facts import get, name_of
from resilient_agents.strategies.stream_kinds import reader_of

__all__ = ["json_lines", "sse_done", "text_in", "text_of"]


def sse_done(line: Any) -> bool:
    """Is this line of an event stream the mark of completion that OpenAI's servers send, `data: [DONE]`? For
    `complete=` where the items are lines or chunks of text or bytes; so is it at the end of a chunk."""
    if isinstance(line, bytes | bytearray):
        line = bytes(line).decode("utf-8", "replace")
    return isinstance(line, str) and line.rstrip().endswith(("data: [DONE]", "data:[DONE]"))


def json_lines(line: Any) -> bool:
    """Is this line a JSON object that says `"done": true`, as the last one of ollama's is? For `complete=` where the
    items are lines."""
    try:
        said = json.loads(line)
    except (TypeError, ValueError):
        return False
    return isinstance(said, dict) and said.get("done") is True


def text_of(item: Any) -> str:
    """The text that an item adds to the answer, "" where it adds none; a string is its own."""
    return text_in(item) or ""


def text_in(item: Any) -> str | None:
    """The same, but None for an item of no known kind."""
    if isinstance(item, str):
        return item
    found = reader_of(type(item))
    if found is None:
        return None
    text = _TEXT[found[0]](item)
    return text if isinstance(text, str) else ""


def _chat_text(chunk: Any) -> Any:
    if name_of(type(chunk)).partition("[")[0] == "CompletionEvent":
        chunk = get(chunk, "data")
    chunk = get(chunk, "chunk") or chunk
    choices = get(chunk, "choices")
    return get(get(choices[0], "delta"), "content") if choices else None


def _delta_text(event: Any) -> Any:
    return get(event, "delta") if get(event, "type") == "response.output_text.delta" else None


def _block_text(event: Any) -> Any:
    return get(get(event, "delta"), "text") if get(event, "type") == "content_block_delta" else None


def _parts_text(response: Any) -> Any:
    """What `.text` gives without warning of parts that are none. A thought is no answer."""
    candidates = get(response, "candidates")
    parts = get(get(candidates[0], "content"), "parts") if candidates else None
    texts = [get(part, "text") for part in parts or () if not get(part, "thought")]
    return "".join(text for text in texts if isinstance(text, str))


def _blocks_text(chunk: Any) -> Any:
    content = get(get(chunk, "message") or chunk, "content")
    if not isinstance(content, list):
        return content
    texts = [block if isinstance(block, str) else get(block, "text") for block in content]
    return "".join(text for text in texts if isinstance(text, str))


_TEXT: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "chat": _chat_text,
        "responses": _delta_text,
        "messages": _block_text,
        "google": _parts_text,
        "ollama": lambda part: get(get(part, "message"), "content") or get(part, "response"),
        "langchain": _blocks_text,
        "agents": lambda event: _delta_text(get(event, "data")),
    }
)
