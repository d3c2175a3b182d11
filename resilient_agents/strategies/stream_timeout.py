"""`StreamTimeout`: how long a stream may let its consumer wait, and whether it came to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from resilient_agents.core.call import Call, Proceed
from resilient_agents.core.match import refuse_async
from resilient_agents.core.options import Check, Configured, Flag, Seconds
from resilient_agents.core.threads import Workers
from resilient_agents.strategies.guarded_stream import GuardedStream

__all__ = ["StreamTimeout"]

Judge: TypeAlias = Callable[[Any], object]

MAX_THREADS = 256
"""Steps that one `StreamTimeout(thread=True)` runs at a time."""

MAX_ABANDONED = 32
"""Steps that outran their limit and still run; at this many, new streams are rejected."""


class _Judge(Check):
    """ "auto", a predicate on items, or None. `ours`: predicates that come with this package, for the error."""

    ours: str = ""

    def checked(self, value: Any, name: str) -> Any:
        if value != "auto" and (not callable(value) or isinstance(value, type)):
            raise TypeError(f'{name} must be "auto", a predicate on items{self.ours} or None, got {value!r}')
        if value != "auto":
            refuse_async(value, name)
        return value

    def shown(self, value: Any) -> Any:
        return getattr(value, "__name__", type(value).__name__) if callable(value) else value

    def spelled(self, value: Any) -> str:
        shown = self.shown(value)
        return str(shown) if callable(value) else repr(shown)


class StreamTimeout(Configured):
    """A stream may take `first_item` seconds to its first item, `idle` seconds to each further one, and `total` seconds
    in all (each a float or timedelta; None, the default: no such limit). After that StreamTimeoutError comes out.

    The consumer's own time between two items counts for none of them, and a deadline of the caller's that ends earlier
    goes before. A limit is final: it closes the stream. Around a `Retry` the time to the first item is that of all
    attempts together; inside one each attempt has its own, and one that is too slow is made again.

    Async code is cancelled and awaited. What happens to a blocking stream, `thread` chooses:

    - `None` (default) or `False`: limits are looked at between items. An item that comes late is handed out, then the
      limit ends the stream. With `None` a stalled HTTP/1 stream of httpx, or of an SDK on it, is really cut off: by
      shutting down its connection.
    - `True`: each step runs in a daemon thread of a pool of this StreamTimeout's own, in a copy of the caller's
      context. When time is up the caller goes on, and the thread ends when its step ends. With 32 such steps, or 256
      running ones, further ones raise `Rejected`.

    `complete` knows the item that says that a stream is complete: a predicate, `sse_done` and `json_lines` among them,
    None for nobody, or "auto" (default), which knows the items of openai (chat and Responses), groq, anthropic,
    google-genai, litellm, LangChain, openai-agents, ollama and mistralai. A stream that ends without it raises
    StreamTruncatedError; after it, a stall or an error ends the stream as a success. With "auto" an item that says that
    the stream has failed raises StreamFailedError.

    `preamble` knows items that say nothing yet, such as `message_start` and chunks with only a role: "auto" (default),
    a predicate, or None. Those at the beginning are held back until something follows, so that until then a `Retry`
    or `Fallback` outside can act; then they come first.

    Raises TypeError or ValueError, when built, for options of a wrong type or value, and TypeError, when it decorates a
    function that is no generator function or is called around a call that is no stream.
    """

    strategy = "stream_timeout"
    OPTIONS = MappingProxyType(
        {
            "first_item": Seconds(zero=False, none=True),
            "idle": Seconds(zero=False, none=True),
            "total": Seconds(zero=False, none=True),
            "complete": _Judge(none=True, ours=" such as resilient_agents.sse_done or json_lines"),
            "preamble": _Judge(none=True),
            "thread": Flag(none=True),
        }
    )

    first_item: float | None
    idle: float | None
    total: float | None
    complete: Judge | Literal["auto"] | None
    preamble: Judge | Literal["auto"] | None
    thread: bool | None

    def __init__(
        self,
        *,
        first_item: float | timedelta | None = None,
        idle: float | timedelta | None = None,
        total: float | timedelta | None = None,
        complete: Judge | Literal["auto"] | None = "auto",
        preamble: Judge | Literal["auto"] | None = "auto",
        thread: bool | None = None,
    ) -> None:
        self.take(locals())
        self.workers = Workers(MAX_THREADS, MAX_ABANDONED, "stream_timeout") if thread else None

    def execute(self, proceed: Proceed, call: Call) -> Awaitable[Any]:
        if call.closers is None:
            self.refuse_no_stream(call.name)
        return GuardedStream(self, call).open(proceed)

    def refuse_no_stream(self, name: str) -> None:
        raise TypeError(
            f"{name!r} is no stream, which a StreamTimeout limits: call it by policy.stream(...) or decorate the "
            f"generator function, or limit the call with Timeout"
        )

    def take_over(self, old: StreamTimeout) -> None:
        """Go on with the threads of the one whose place this one takes, so that the steps left behind stay counted."""
        if self.workers is not None and old.workers is not None:
            self.workers = old.workers

    def live(self) -> dict[str, Any]:
        return {} if self.workers is None else {"abandoned": self.workers.abandoned}
