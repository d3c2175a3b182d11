"""How often a client library tried again by itself, inside one attempt of ours.

It shows in four places, none of which needs the library imported:

- the request header `x-stainless-retry-count` of openai, anthropic and their kin, which an error's request, a stream's
  response or a raw response carries (a raw response of theirs also has `retries_taken`);
- `ResponseMetadata.RetryAttempts` of botocore's results and of its errors that have a response;
- the frames that an error came through: redis-py's `call_with_retry` counts its `failures`, botocore's `_send_request`
  its `attempts`, and tenacity, with which google-genai and many others retry, has its state there.

A parsed answer of openai and anthropic shows nothing, nor does redis-py's.
"""

from __future__ import annotations

from types import FrameType, TracebackType
from typing import Any, Final

from resilient_agents.base.told import Told
from resilient_agents.classify.facts import cause_of, context_of, get, is_suppressed

__all__ = ["InnerRetries", "inner_retries"]

_HEADER: Final = "x-stainless-retry-count"
_MOST: Final = 1000  # more than that is no count
_DEEPEST: Final = 5  # errors that others were raised from
_FRAMES: Final = 200  # of a traceback

_STAINLESS: Final = "`max_retries=0` for its client"
_BOTO: Final = '`Config(retries={"total_max_attempts": 1})` for its client'

# Where a library's loop stands: module and function, the local variable that counts, what to subtract, the remedy.
_LOOPS: Final = {
    ("redis.retry", "call_with_retry"): ("failures", "`retry=Retry(NoBackoff(), 0)` for its client"),
    ("redis.asyncio.retry", "call_with_retry"): ("failures", "`retry=Retry(NoBackoff(), 0)` for its client"),
    ("botocore.endpoint", "_send_request"): ("attempts", _BOTO),
    ("tenacity", "__call__"): ("retry_state", "taking its own tenacity retry away"),
    ("tenacity.asyncio", "__call__"): ("retry_state", "taking its own tenacity retry away"),
    ("tenacity._asyncio", "__call__"): ("retry_state", "taking its own tenacity retry away"),
}
_NAMES: Final = frozenset(function for _, function in _LOOPS)
_GENAI: Final = "`HttpOptions(retry_options=HttpRetryOptions(attempts=1))` for its client"


class InnerRetries(Told):
    """How many retries the library made, and the words that tell how to switch them off."""

    retries: int
    remedy: str


# From an object to the request behind it.
_PATHS: Final = (("response", "request"), ("request",), ("http_request",), ("_response", "request"))
_known: dict[type, tuple[str, ...] | None] = {}  # of results, most of which have nothing to tell


def inner_retries(ended: object) -> InnerRetries | None:
    """What the result or error of an attempt says about retries inside it; None where it does not say. Never raises."""
    try:
        if isinstance(ended, BaseException):
            return _of_error(ended)
        cls = type(ended)
        if cls in _known:
            path = _known[cls]
            return None if path is None else _header(ended, path)
        return _of_metadata(ended) if isinstance(ended, dict) else _learn(cls, ended)
    except Exception:
        return None


def _learn(cls: type, result: object) -> InnerRetries | None:
    """Find out where results of this class tell it, if they do."""
    if len(_known) >= _MOST:
        _known.clear()
    path = _known[cls] = next((path for path in _PATHS if _header(result, path) is not None), None)
    return None if path is None else _header(result, path)


def _of_error(error: BaseException) -> InnerRetries | None:
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None:
            return None
        kept = found.__dict__
        told = None
        if kept and ("request" in kept or "response" in kept):
            told = _header(found, _PATHS[0]) or _header(found, _PATHS[1]) or _of_metadata(kept.get("response"))
        told = told or _of_frames(found.__traceback__)
        if told is not None:
            return told
        found = cause_of(found) or (None if is_suppressed(found) else context_of(found))
    return None


def _header(thing: object, path: tuple[str, ...]) -> InnerRetries | None:
    for step in path:
        thing = get(thing, step)
    read = get(get(thing, "headers"), "get")
    told = read(_HEADER) if callable(read) else None
    return InnerRetries(int(told), _STAINLESS) if isinstance(told, str) and told.isdecimal() else None


def _of_metadata(answer: object) -> InnerRetries | None:
    metadata = answer.get("ResponseMetadata") if isinstance(answer, dict) else None
    told = metadata.get("RetryAttempts") if isinstance(metadata, dict) else None
    return InnerRetries(told, _BOTO) if type(told) is int and 0 <= told <= _MOST else None


def _of_frames(trace: TracebackType | None) -> InnerRetries | None:
    newest = trace
    for _ in range(_FRAMES):
        if trace is None:
            return None
        frame = trace.tb_frame
        if frame.f_code.co_name in _NAMES:
            loop = _LOOPS.get((_module_of(frame), frame.f_code.co_name))
            if loop is not None:
                variable, remedy = loop
                count: Any = frame.f_locals.get(variable)
                count = get(count, "attempt_number") if variable == "retry_state" else count
                if type(count) is int and 1 <= count <= _MOST:
                    return InnerRetries(
                        count - 1, _GENAI if variable == "retry_state" and _in_genai(newest, trace) else remedy
                    )
        trace = trace.tb_next
    return None


def _in_genai(trace: TracebackType | None, end: TracebackType) -> bool:
    """Did google-genai stand between these two?"""
    while trace is not None and trace is not end:
        if _module_of(trace.tb_frame).startswith("google.genai"):
            return True
        trace = trace.tb_next
    return False


def _module_of(frame: FrameType) -> str:
    module = frame.f_globals.get("__name__")
    return module if isinstance(module, str) else ""
