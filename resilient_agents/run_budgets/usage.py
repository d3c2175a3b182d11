"""How many tokens a result of a model cost, read from where client libraries keep it, without importing any.

A shape is known by the names of its fields: openai (chat, Responses and their streams), anthropic, google-genai,
litellm, groq, mistral, LangChain, pydantic-ai, openai-agents and ollama; the same as dictionaries. What a stream says
is put together from its items: most say it once or cumulatively, so the largest counts; LangChain's chunks add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from resilient_agents.base.durations import EXACT, number

__all__ = ["Gathered", "Usage", "usage_of"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that went in and came out, what they cost where the result says so, and the name of the model.

    Raises ValueError for numbers that are negative or not finite, TypeError for what is no number or no name.
    """

    input: float = 0
    output: float = 0
    cost: float | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if not (type(self.input) is type(self.output) is int and 0 <= self.input <= EXACT >= self.output >= 0):
            number(self.input, "input")
            number(self.output, "output")
        if self.cost is not None:
            number(self.cost, "cost")
        if self.model is not None and not isinstance(self.model, str):
            raise TypeError(f"model must be a name or None, got {self.model!r}")

    @property
    def tokens(self) -> float:
        """All of them."""
        return self.input + self.output


_INPUT: Final = ("prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count", "request_tokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "candidates_token_count", "eval_count", "response_tokens")
_BESIDE: Final = ("cache_creation_input_tokens", "cache_read_input_tokens", "thoughts_token_count")
"""Counted beside the others: anthropic's cached tokens, google's thoughts."""
_TOTAL: Final = ("total_tokens", "total_token_count")
_KEPT_IN: Final = ("usage", "usage_metadata", "token_usage")
_AROUND: Final = (
    *("response", "completion", "message", "chunk", "data", "raw_response", "result"),
    *("x_groq", "llm_output", "context_wrapper"),
)
"""Where events, chunks and results of agents keep the object that has the usage."""
_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, list, tuple, set})


def usage_of(result: Any) -> Usage | None:
    """The usage that a result, an item of a stream or an error speaks of; None where it speaks of none, or not in
    numbers that can be."""
    try:
        return None if type(result) in _PLAIN else _look(result, 2)
    except Exception:  # what it looks at is somebody else's
        return None


def _look(thing: Any, depth: int) -> Usage | None:
    for name in _KEPT_IN:
        found = _get(thing, name)
        if callable(found):  # pydantic-ai's
            found = found()
        if type(found) not in _PLAIN and found is not None:
            usage = _read(found, thing)
            if usage is not None:
                return usage
    usage = _read(thing, thing)  # ollama's, or a usage object by itself
    if usage is None and depth:
        for name in _AROUND:
            inner = _get(thing, name)
            if type(inner) not in _PLAIN and not callable(inner):
                usage = _look(inner, depth - 1)
                if usage is not None:
                    return usage
    return usage


def _read(usage: Any, result: Any) -> Usage | None:
    going_in, coming_out = _number(usage, _INPUT), _number(usage, _OUTPUT)
    total = _number(usage, _TOTAL)
    if going_in is None and coming_out is None and total is None:
        return None
    if total is not None:  # all of them: what it has beyond the others came out, and what is beside is among them
        going_in = min(going_in or 0, total)
        coming_out = max((coming_out or 0), total - going_in)
    else:
        beside = [_number(usage, (name,)) or 0 for name in _BESIDE]
        going_in = (going_in or 0) + beside[0] + beside[1]
        coming_out = (coming_out or 0) + beside[2]
    hidden = _get(result, "_hidden_params")
    cost = _number(hidden, ("response_cost",)) if hidden is not None else None
    return Usage(going_in, coming_out, cost, _model(result))


def _model(result: Any) -> str | None:
    for holder in (result, _get(result, "response_metadata")):
        for name in ("model", "model_name", "model_version"):
            found = _get(holder, name)
            if isinstance(found, str):
                return found
    return None


def _number(holder: Any, names: tuple[str, ...]) -> float | None:
    for name in names:
        found = _get(holder, name)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return found
    return None


def _get(thing: Any, name: str) -> Any:
    """An attribute or the value of a key; None where there is neither, or looking for it fails."""
    if isinstance(thing, dict):
        return thing.get(name)
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


class Gathered:
    """The usage of a stream, put together from what `read` finds in its items."""

    __slots__ = ("_largest", "_read", "_sum")

    def __init__(self, read: Callable[[Any], Usage | None]) -> None:
        self._read = read
        self._largest: Usage | None = None
        self._sum: Usage | None = None

    def add(self, item: Any) -> None:
        usage = self._read(item)
        if usage is None:
            return
        if type(item).__name__.endswith("MessageChunk"):  # LangChain's, which add up as its messages do
            self._sum = _combined(self._sum, usage, lambda one, other: one + other)
        else:
            self._largest = _combined(self._largest, usage, max)

    @property
    def usage(self) -> Usage | None:
        """What was found so far."""
        return self._largest or self._sum


def _combined(one: Usage | None, other: Usage, by: Callable[[float, float], float]) -> Usage:
    if one is None:
        return other
    cost = one.cost if other.cost is None else other.cost if one.cost is None else by(one.cost, other.cost)
    return Usage(by(one.input, other.input), by(one.output, other.output), cost, other.model or one.model)
