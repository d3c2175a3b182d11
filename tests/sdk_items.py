"""Items of SDKs' streams by the shape of their classes: what a stream is known by where the SDK is not installed."""

from __future__ import annotations

from types import SimpleNamespace as Object
from typing import Any


def item(module: str, name: str, **fields: Any) -> Any:
    """An object of a class of that name, as a module of that name would have it."""
    return type(name, (Object,), {"__module__": module})(**fields)


def chat(
    text: str | None = None, finish: str | None = None, *, module: str = "openai.types.chat", index: int = 0
) -> Any:
    """A chunk of chat completions; neither text nor reason: one with only a role."""
    delta = Object(role="assistant", content=text, tool_calls=None)
    return item(
        module, "ChatCompletionChunk", choices=[Object(index=index, delta=delta, finish_reason=finish)], usage=None
    )


def usage() -> Any:
    return item("openai.types.chat", "ChatCompletionChunk", choices=[], usage=Object(total_tokens=3))


def response(kind: str, **fields: Any) -> Any:
    """An event of openai's Responses."""
    return item(
        "openai.types.responses",
        "Response" + kind.title().replace(".", "").replace("_", "") + "Event",
        type=kind,
        **fields,
    )


def message(kind: str, **fields: Any) -> Any:
    """An event of anthropic's messages."""
    return item("anthropic.types", "Raw" + kind.title().replace("_", "") + "Event", type=kind, **fields)


def text_delta(text: str) -> Any:
    return message("content_block_delta", delta=Object(type="text_delta", text=text))


def candidate(text: str, finish: Any = None) -> Any:
    """A response of google-genai's stream."""
    content = Object(parts=[Object(text=text, function_call=None)])
    found = [Object(content=content, finish_reason=finish)]
    return item("google.genai.types", "GenerateContentResponse", candidates=found, text=text, prompt_feedback=None)


def ollama(text: str, *, done: bool = False) -> Any:
    return item(
        "ollama._types", "ChatResponse", message=Object(content=text), done=done, done_reason="stop" if done else None
    )


def mistral(text: str, finish: str | None = None) -> Any:
    choice = Object(index=0, delta=Object(content=text), finish_reason=finish)
    return item("mistralai.models", "CompletionEvent", data=Object(choices=[choice], usage=None))


def langchain(text: str, **metadata: str) -> Any:
    fields = {"content": text, "tool_call_chunks": [], "additional_kwargs": {}}
    return item(
        "langchain_core.messages.ai", "AIMessageChunk", response_metadata=metadata, chunk_position="last", **fields
    )


def agents(kind: str, **fields: Any) -> Any:
    return item(
        "agents.stream_events", "RawResponsesStreamEvent", type="raw_response_event", data=response(kind, **fields)
    )


def chunk_event(chunk: Any) -> Any:
    """What `chat.completions.stream` makes of a chunk."""
    return item("openai.lib.streaming.chat", "ChunkEvent", type="chunk", chunk=chunk)


def responded(kind: str, **fields: Any) -> Any:
    """An event that ends a response."""
    return response(kind, response=Object(**fields))


_DELTA = "response.output_text.delta"

COMPLETE: dict[str, list[Any]] = {
    "openai chat": [chat(), chat("to "), chat("be"), chat(None, "stop"), usage()],
    "openai chat, cut by its length": [chat("to "), chat("be", "length")],
    "a server that sends only a last chunk with the usage": [chat("to "), chat("be"), usage()],
    "groq": [chat("to ", module="groq.types.chat"), chat("be", "stop", module="groq.types.chat")],
    "litellm": [
        item("litellm.types.utils", "ModelResponseStream", **vars(chat("to "))),
        item("litellm.types.utils", "ModelResponseStream", **vars(chat("be", "stop"))),
    ],
    "chat.completions.stream": [chunk_event(chat("to ")), chunk_event(chat("be", "stop"))],
    "openai Responses": [
        response("response.created"),
        response(_DELTA, delta="to "),
        response(_DELTA, delta="be"),
        responded("response.completed", status="completed"),
    ],
    "openai Responses, incomplete": [
        response(_DELTA, delta="to "),
        response(_DELTA, delta="be"),
        responded("response.incomplete", incomplete_details=Object(reason="max_output_tokens")),
    ],
    "anthropic": [
        message("message_start"),
        message("content_block_start"),
        text_delta("to "),
        text_delta("be"),
        message("content_block_stop"),
        message("message_delta", delta=Object(stop_reason="end_turn")),
        message("message_stop"),
    ],
    "google-genai": [candidate("to "), candidate("be", Object(value="STOP"))],
    "ollama": [ollama("to "), ollama("be"), ollama("", done=True)],
    "mistral": [mistral("to "), mistral("be", "stop")],
    "LangChain": [langchain("to "), langchain("be"), langchain("", finish_reason="stop")],
    "openai-agents": [
        agents("response.created"),
        agents(_DELTA, delta="to "),
        agents(_DELTA, delta="be"),
        agents("response.completed", response=Object(status="completed")),
    ],
}
"""A whole stream of each kind, that says `to be`."""
