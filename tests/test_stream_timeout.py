"""`StreamTimeout`: limits of steps, completion, failures that are items, and preambles."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace as Object
from typing import Any

import pytest

from resilient_agents import (
    CircuitBreaker,
    DeadlineExceeded,
    Fallback,
    Policy,
    Registry,
    Retry,
    StreamFailedError,
    StreamTimeout,
    StreamTimeoutError,
    StreamTruncatedError,
    Timeout,
    classify,
    counts_against_dependency,
    deadline,
    fixed,
    is_transient,
    json_lines,
    sse_done,
)
from resilient_agents.core.call import NEUTRAL
from resilient_agents.events import CallEnded
from resilient_agents.strategies.stream_kinds import reader_of
from resilient_agents.strategies.stream_text import text_of
from resilient_agents.telemetry.facts import facts
from resilient_agents.telemetry.names import FINISH
from tests.conftest import Events, Harness, run_on
from tests.sdk_items import (
    COMPLETE,
    agents,
    candidate,
    chat,
    item,
    langchain,
    message,
    ollama,
    responded,
    response,
    text_delta,
)
from tests.test_stream_steps import Paced, collect
from tests.test_streams import Holding


class Script:
    """A stream that follows a script: numbers are seconds, exceptions are raised, anything else is an item. Each
    opening follows the next one."""

    def __init__(self, h: Harness, *scripts: list[Any]) -> None:
        self.h, self.scripts = h, list(scripts)
        self.opened = self.closed = 0
        self.function: Callable[..., Any] = self.blocking if h.blocking else self.asynchronous

    def blocking(self, *args: Any) -> Iterator[Any]:
        self.opened += 1
        try:
            for part in self.scripts[min(self.opened, len(self.scripts)) - 1]:
                if isinstance(part, float):
                    try:
                        self.h.sleep(part).send(None)
                    except StopIteration:
                        continue
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            self.closed += 1

    async def asynchronous(self, *args: Any) -> AsyncIterator[Any]:
        self.opened += 1
        try:
            for part in self.scripts[min(self.opened, len(self.scripts)) - 1]:
                if isinstance(part, float):
                    await self.h.sleep(part)
                elif isinstance(part, Exception):
                    raise part
                else:
                    yield part
        finally:
            self.closed += 1


def limited(*around: Any, **limits: Any) -> Policy:
    return Policy(*around, StreamTimeout(**limits))


async def test_a_stall_ends_the_stream(h: Harness) -> None:
    """In async code when the time is up; in blocking code the item that came too late is handed out before."""
    source, holding, seen = Paced(h, 1, 1, 60, 1), Holding(), list[int]()
    with pytest.raises(StreamTimeoutError) as raised:
        await collect(h, limited(holding, idle=5).stream(source.function), seen)
    error = raised.value
    assert seen == ([0, 1, 2] if h.blocking else [0, 1])
    assert (error.which, error.limit, error.items, error.strategy) == ("idle", 5, len(seen), "stream_timeout")
    assert f"limit of 5 s (idle) after {len(seen)} items" in str(error)
    assert (classify(error).kind, is_transient(error), isinstance(error, TimeoutError)) == ("timeout", True, True)
    assert (source.closed, holding.held, holding.outcomes) == (1, 0, [error])


@pytest.mark.parametrize("limits", [{"first_item": 2, "idle": 2, "total": 4}, {"idle": 2}], ids=["all", "idle"])
async def test_the_consumers_own_time_counts_for_none_of_the_limits(h: Harness, limits: dict[str, float]) -> None:
    """However slowly it takes the items."""
    policy = limited(**limits)
    assert await collect(h, policy.stream(Paced(h, 1, 1, 1).function), [], pause=100) == [0, 1, 2]


async def test_the_total_is_that_of_all_steps_together(h: Harness) -> None:
    """And of the opening."""
    source, seen = Paced(h, *[2] * 9), list[int]()
    with pytest.raises(StreamTimeoutError, match=r"limit of 5 s \(total\)") as raised:
        await collect(h, limited(total=timedelta(seconds=5), idle=3).stream(source.function), seen, pause=10)
    assert seen == ([0, 1, 2] if h.blocking else [0, 1])
    assert (raised.value.which, source.closed) == ("total", 1)


async def test_a_slow_first_item_is_tried_again(h: Harness) -> None:
    """Inside a Retry each attempt has a limit of its own. A blocking one cannot be cut off: its item is handed out."""
    source = Script(h, [9.0, "late"], [1.0, "a", "b"])
    seen: list[Any] = []
    stream = limited(Retry(2, wait=fixed(0)), first_item=5).stream(source.function)
    if h.blocking:
        with pytest.raises(StreamTimeoutError, match="first_item"):
            await collect(h, stream, seen)
        assert (seen, source.opened) == (["late"], 1)
    else:
        assert await collect(h, stream, seen) == ["a", "b"]
        assert (source.opened, source.closed) == (2, 2)


async def test_an_error_that_comes_late_is_the_limits(h: Harness) -> None:
    """In blocking code, which could not cut the step off; it is raised from it."""
    broken = OSError("broken")
    with pytest.raises(StreamTimeoutError) as raised:
        await collect(h, limited(idle=5).stream(Script(h, ["a", 9.0, broken]).function), [])
    assert raised.value.__cause__ is (broken if h.blocking else None)


async def test_the_callers_deadline_goes_before(h: Harness) -> None:
    """It ends earlier, so it is the one that fires."""
    with deadline(3), pytest.raises(DeadlineExceeded):
        await collect(h, limited(first_item=5, idle=5).stream(Paced(h, 1, 9, 1).function), [])


async def test_a_timeout_of_the_streams_own_passes_through(h: Harness) -> None:
    """A limit owns its own expiry only."""
    own = TimeoutError("own")
    with pytest.raises(TimeoutError) as raised:
        await collect(h, limited(idle=5).stream(Script(h, ["a", own]).function), [])
    assert raised.value is own


async def test_a_breaker_counts_a_stall(h: Harness) -> None:
    """As a timeout of the dependency."""
    breaker = CircuitBreaker(failures=1)
    with pytest.raises(StreamTimeoutError):
        await collect(h, limited(breaker, idle=5).stream(Paced(h, 1, 9, 9).function), [])
    assert breaker.state == "open"
    inside = CircuitBreaker(failures=1)
    with pytest.raises(StreamTimeoutError):
        await collect(h, Policy(StreamTimeout(first_item=5), inside).stream(Paced(h, 9, 1).function), [])
    assert inside.state == "open"


@pytest.mark.parametrize("place", ["around", "inside"])
async def test_a_breaker_does_not_count_what_an_impatient_callers_deadline_cut_off(h: Harness, place: str) -> None:
    """It had left the step less than the step's own limit, which tells nothing about the dependency."""
    breaker, limit = CircuitBreaker(failures=1), StreamTimeout(first_item=10, idle=10)
    policy = Policy(breaker, limit) if place == "around" else Policy(limit, breaker)
    for script in ([20.0, "late"], ["a", 20.0, "late"]):
        with deadline(5), pytest.raises(DeadlineExceeded):
            await collect(h, policy.stream(Script(h, script).function), [])
        assert breaker.state == "closed"
    with deadline(15), pytest.raises(StreamTimeoutError):
        await collect(h, policy.stream(Script(h, [12.0, "late"]).function), [])
    assert breaker.state == "open"


async def test_a_breaker_counts_what_a_whole_limit_of_the_call_cut_off(h: Harness) -> None:
    """A Timeout around it that had most of its time left ends the first step before the step's own limit does."""
    breaker = CircuitBreaker(failures=1)
    policy = Policy(Timeout(5, thread=False), StreamTimeout(first_item=10), breaker)
    with pytest.raises(TimeoutError):
        await collect(h, policy.stream(Script(h, [20.0, "late"]).function), [])
    assert breaker.state == "open"


async def test_watchers_hear_of_the_limit(h: Harness) -> None:
    """By an event of its own strategy."""
    events, policy = Events(), limited(idle=5)
    policy.observe(events)
    with pytest.raises(StreamTimeoutError):
        await collect(h, policy.stream(Paced(h, 1, 9, 1).function), [])
    assert [(e.strategy, e.limit) for e in events if type(e).__name__ == "TimeoutExpired"] == [("stream_timeout", 5)]


@pytest.mark.parametrize("kind", COMPLETE)
async def test_a_whole_stream_of_a_known_kind_passes(h: Harness, kind: str) -> None:
    """Each item, in order, its openers too."""
    items = COMPLETE[kind]
    seen = await collect(h, limited().stream(Script(h, items).function), [])
    assert all(one is other for one, other in zip(seen, items, strict=True))
    assert "".join(text_of(one) for one in seen) == "to be"


@pytest.mark.parametrize("kind", COMPLETE)
async def test_one_that_ends_before_its_mark_is_truncated(h: Harness, kind: str) -> None:
    """It breaks off at any item before: a transient failure of the connection, also to a breaker."""
    items = COMPLETE[kind]
    marks = [n for n in range(len(items)) if n >= len(items) - 2 and n > 0]
    for cut in range(1, marks[0] if kind in ("openai chat", "anthropic") else len(items) - 1):
        breaker = CircuitBreaker(failures=1)
        with pytest.raises(StreamTruncatedError, match="complete=None") as raised:
            await collect(h, limited(breaker).stream(Script(h, items[:cut]).function), [])
        assert (classify(raised.value).kind, is_transient(raised.value), breaker.state) == ("connection", True, "open")
        assert raised.value.items == cut
        assert await collect(h, limited(complete=None).stream(Script(h, items[:cut]).function), []) == items[:cut]


async def test_after_the_mark_nothing_is_a_failure(h: Harness) -> None:
    """Neither a stall nor an error: all that counts has come."""
    for ending in ([60.0, "never"], [OSError("reset")]):
        holding, items = Holding(), [chat("a"), chat(None, "stop")]
        seen = await collect(h, limited(holding, idle=5).stream(Script(h, items + ending).function), [])
        assert (seen[:2], holding.outcomes) == (items, [None])


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (chat("be", "length"), "length"),
        (chat("", "content_filter"), "content_filter"),
        (responded("response.incomplete", incomplete_details=Object(reason="max_output_tokens")), "max_output_tokens"),
        (message("message_delta", delta=Object(stop_reason="refusal")), "refusal"),
        (candidate("be", Object(value="SAFETY")), "SAFETY"),
        (chat("be", "no more: you know who you are"), None),
    ],
)
async def test_one_that_was_cut_by_its_length_is_complete(h: Harness, last: Any, reason: str | None) -> None:
    """It is no failure; those who watch hear the reason, where it is a word."""
    seen, policy = Events(), Policy(StreamTimeout())
    policy.observe(seen)
    assert await h.items(policy.stream(Script(h, [last]).function)) == [last]
    (ended,) = seen.of(CallEnded)
    assert (ended.outcome, ended.finish) == ("success", reason)
    assert facts(ended).get(FINISH) == reason


async def test_every_choice_of_several_must_finish(h: Harness) -> None:
    """`n=2`: the mark of one is not that of both."""
    items = [chat("a"), chat("b", index=1), chat(None, "stop")]
    with pytest.raises(StreamTruncatedError):
        await collect(h, limited().stream(Script(h, items).function), [])
    items.append(chat(None, "stop", index=1))
    assert await collect(h, limited().stream(Script(h, items).function), []) == items


async def test_a_turn_that_calls_a_function_may_not_be_the_last(h: Harness) -> None:
    """google-genai calls it and asks again; agents do."""
    calls = candidate("", Object(value="STOP"))
    calls.candidates[0].content.parts[0].function_call = Object(name="f")
    broken = OSError("second turn")
    for items in ([calls, broken], [agents("response.completed"), agents("response.created"), broken]):
        with pytest.raises(OSError, match="second turn"):
            await collect(h, limited().stream(Script(h, items).function), [])
    with pytest.raises(StreamTruncatedError):
        await collect(h, limited().stream(Script(h, [calls, candidate("more")]).function), [])


@pytest.mark.parametrize(
    ("event", "kind", "code"),
    [
        (response("error", code="server_error", message="text"), "server", "server_error"),
        (response("error", code="rate_limit_exceeded", message="text"), "rate_limit", "rate_limit_exceeded"),
        (response("response.failed", response=Object(error=Object(code="server_error"))), "server", "server_error"),
        (response("response.cancelled", response=Object(error=None)), "unknown", "cancelled"),
        (message("error", error=Object(type="overloaded_error")), "overload", "overloaded_error"),
        (response("error", code=None, status_code=429), "rate_limit", None),
    ],
)
async def test_an_item_that_says_the_stream_failed_is_a_failure(h: Harness, event: Any, kind: str, code: str) -> None:
    """With its kind and status, and without its message."""
    with pytest.raises(StreamFailedError) as raised:
        await collect(h, limited().stream(Script(h, [text_delta("a"), event]).function), [])
    error = raised.value
    assert (classify(error).kind, error.code, error.event) == (kind, code, event.type)
    assert "text" not in str(error)


async def test_a_refusal_as_the_first_item_is_tried_again(h: Harness) -> None:
    """Azure's, inside a 200."""
    source = Script(h, [response("error", code="rate_limit_exceeded")], COMPLETE["openai Responses"])
    policy = limited(Retry(2, wait=fixed(0)))
    assert await collect(h, policy.stream(source.function), []) == COMPLETE["openai Responses"]


async def test_a_preamble_is_held_back(h: Harness) -> None:
    """What fails after it is tried again; what follows comes after it, once."""
    start = [message("message_start"), message("content_block_start")]
    whole = [*start, text_delta("a"), message("message_stop")]
    source = Script(h, [*start, ConnectionError("early")], whole)
    assert await collect(h, limited(Retry(2, wait=fixed(0))).stream(source.function), []) == whole
    assert (source.opened, source.closed) == (2, 2)
    stalled = Script(h, [*start, 60.0], whole)
    if not h.blocking:
        policy = limited(Retry(2, wait=fixed(0)), first_item=5)
        assert await collect(h, policy.stream(stalled.function), []) == whole
    source = Script(h, [*start, ConnectionError("early")])
    policy = limited(Fallback(lambda error, *args: ["instead"]))
    assert await collect(h, policy.stream(source.function), []) == ["instead"]


async def test_a_preamble_that_ends_the_stream_is_no_answer(h: Harness) -> None:
    """It is truncated before its first item that means something; without `complete` it is handed out."""
    start = [message("message_start"), message("content_block_start")]
    source = Script(h, start, COMPLETE["anthropic"])
    assert await collect(h, limited(Retry(2, wait=fixed(0))).stream(source.function), []) == COMPLETE["anthropic"]
    assert await collect(h, limited(complete=None).stream(Script(h, start).function), []) == start


async def test_an_end_that_litellm_makes_up_is_none(h: Harness) -> None:
    """It says that a stream has stopped that broke off before its first chunk; after one it is the server's word."""

    def chunk(text: str | None, finish: str | None = None) -> Any:
        made = chat(text, finish)
        return item("litellm.types.utils", "ModelResponseStream", choices=made.choices, usage=None)

    whole = [chunk(None), chunk("a"), chunk(None, "stop")]
    source = Script(h, [chunk(None, "stop")], whole)
    assert await collect(h, limited(Retry(2, wait=fixed(0))).stream(source.function), []) == whole
    for said in ([chunk(None), chunk(None, "stop")], [chunk("a", "stop")], [chunk(None, "length")]):
        assert await collect(h, limited().stream(Script(h, said).function), []) == said


async def test_predicates_take_the_place_of_what_is_known(h: Harness) -> None:
    """Of the mark, and of the preamble."""
    policy = limited(Retry(2, wait=fixed(0)), complete=lambda line: line == "end", preamble=str.isspace)
    source = Script(h, [" ", " ", ConnectionError()], [" ", "a", "end"])
    assert await collect(h, policy.stream(source.function), []) == [" ", "a", "end"]
    with pytest.raises(StreamTruncatedError):
        await collect(h, policy.stream(Script(h, ["a"]).function), [])
    with pytest.raises(StreamTruncatedError, match="after 0 items"):
        await collect(h, policy.stream(Script(h, []).function), [])


async def test_a_preamble_may_hold_the_mark_of_completion(h: Harness) -> None:
    """A stream that says nothing else is whole, whatever comes after the mark; it is opened once and closed."""
    for after in ("", ConnectionError("after the mark"), 60.0):
        source = Script(h, [" ", "end ", *([after] if after else [])], ["again"])
        policy = limited(
            Retry(2, wait=fixed(0)), first_item=5, complete=lambda line: line == "end ", preamble=lambda line: True
        )
        assert await collect(h, policy.stream(source.function), []) == [" ", "end "]
        assert (source.opened, source.closed) == (1, 1)


async def test_a_predicate_that_raises_takes_no_item_away(h: Harness) -> None:
    """Its error comes in place of the next one, and says whose it is; also one that counts as false."""

    class Nothing(Exception):
        def __len__(self) -> int:
            return 0

    def complete(item: str) -> bool:
        raise Nothing(item)

    for option in ("complete", "preamble"):
        seen: list[Any] = []
        with pytest.raises(Nothing, match="a") as raised:
            await collect(h, limited(**{option: complete}).stream(Script(h, ["a", "b"]).function), seen)
        assert seen == ["a"]
        assert raised.value.__notes__ == [f"raised by {option}= of the StreamTimeout, about an item of str"]


async def test_errors_that_only_mean_that_the_stream_broke_off_are_transient(h: Harness) -> None:
    """The same object, in the midst of a stream of their own SDK; and a breaker counts them."""
    google = type("UnknownApiResponseError", (ValueError,), {"__module__": "google.genai.errors"})
    own = type("ResponseError", (Exception,), {"__module__": "ollama._types", "status_code": -1})
    behaviour = type("ModelBehaviorError", (Exception,), {"__module__": "agents.exceptions"})
    cut = json.JSONDecodeError("cut", "{", 1)
    for first, error in [
        (candidate("a"), google()),
        (ollama("a"), own()),
        (ollama("a"), json.JSONDecodeError("cut", "{", 1)),
        (langchain("a"), cut),
        (agents("response.created"), behaviour()),
    ]:
        with pytest.raises(type(error)) as raised:
            await collect(h, limited().stream(Script(h, [first, "b", error]).function), [])
        assert raised.value is error
        assert (is_transient(error), counts_against_dependency(error)) == (True, True)
    elsewhere = json.JSONDecodeError("cut", "{", 1)
    with pytest.raises(json.JSONDecodeError):
        await collect(h, limited().stream(Script(h, ["a", elsewhere]).function), [])
    assert (is_transient(elsewhere), counts_against_dependency(elsewhere)) == (False, False)


@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("openai.types.chat", "ChatCompletionChunk", "chat"),
        ("openai.lib.streaming.chat", "ChunkEvent", "chat"),
        ("openai.types.responses", "ResponseCompletedEvent", "responses"),
        ("openai.types.responses", "ResponseErrorEvent", "responses"),
        ("anthropic.types", "RawMessageStopEvent", "messages"),
        ("anthropic.types.beta", "BetaRawMessageStopEvent", "messages"),
        ("anthropic.lib.streaming", "TextEvent", "messages"),
        ("google.genai.types", "GenerateContentResponse", "google"),
        ("groq.types.chat", "ChatCompletionChunk", "chat"),
        ("ollama", "ChatResponse", "ollama"),
        ("mistralai.client.models", "CompletionEvent", "chat"),
        ("litellm.types.utils", "ModelResponseStream", "chat"),
        ("langchain_core.messages", "AIMessageChunk", "langchain"),
        ("agents", "RawResponsesStreamEvent", "agents"),
    ],
)
def test_the_real_classes_are_known(module: str, name: str, kind: str) -> None:
    """Of those SDKs that are installed here."""
    found = reader_of(getattr(pytest.importorskip(module), name))
    assert found is not None
    assert found[0] == kind


def test_other_events_of_anthropic_are_of_no_known_kind() -> None:
    """Sessions of managed agents end without the mark of a message."""
    other = item("anthropic.types.beta", "BetaManagedAgentsDeltaEvent", type="delta")
    assert reader_of(type(other)) is None


def test_marks_of_bare_lines() -> None:
    """For `complete=`, where items are text or bytes."""
    assert sse_done("data: [DONE]")
    assert sse_done(b'data: {"a": 1}\n\ndata: [DONE]\n\n')
    assert not any(map(sse_done, ["data: {}", b"", None, 7]))
    assert json_lines('{"done": true}')
    assert not any(map(json_lines, ['{"done": false}', "[]", "{", "", None, b"\xff"]))


async def test_send_and_throw_pass_through_it(h: Harness) -> None:
    """To the generator."""

    def blocking() -> Any:
        got = yield "first"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = yield repr(error)

    async def asynchronous() -> Any:
        got = yield "first"
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = yield repr(error)

    policy = limited(idle=5)
    if h.blocking:
        generator = policy(blocking)()
        assert [next(generator), generator.send("a"), generator.throw(KeyError("k"))] == ["first", "a", "KeyError('k')"]
        generator.close()
    else:
        agenerator = policy(asynchronous)()
        assert await anext(agenerator) == "first"
        assert [await agenerator.asend("a"), await agenerator.athrow(KeyError("k"))] == ["a", "KeyError('k')"]
        await agenerator.aclose()


async def test_a_generators_value_passes_through_it(h: Harness) -> None:
    """What it returns."""
    if h.blocking:

        def source() -> Any:
            yield 1
            return "value"

        generator = limited(idle=5)(source)()
        next(generator)
        with pytest.raises(StopIteration, match="value"):
            next(generator)


async def test_closing_early_is_neutral(h: Harness) -> None:
    """Whatever had not come yet."""
    holding, source = Holding(), Script(h, COMPLETE["anthropic"])
    stream = limited(holding, idle=5).stream(source.function)
    if h.blocking:
        with stream:
            next(stream)
    else:
        async with stream:
            await anext(stream)
    assert (holding.outcomes, source.closed) == ([NEUTRAL], 1)


async def test_two_of_them_hold_both(h: Harness) -> None:
    """The one that ends first is the one that fires."""
    policy = Policy(StreamTimeout(total=5), StreamTimeout(idle=3))
    with pytest.raises(StreamTimeoutError) as raised:
        await collect(h, policy.stream(Paced(h, 2, 2, 2, 2).function), [])
    assert raised.value.which == "total"
    with pytest.raises(StreamTimeoutError) as raised:
        await collect(h, policy.stream(Paced(h, 1, 3.5, 0.1).function), [])
    assert raised.value.which == "idle"


async def never(item: Any) -> bool:
    return False


async def test_around_a_call_that_is_no_stream_it_is_refused(h: Harness) -> None:
    """With the remedy."""

    async def work() -> int:
        return 1

    with pytest.raises(TypeError, match="is no stream"):
        await h.call(limited(idle=5), work)
    with pytest.raises(TypeError, match="work' is no stream"):
        limited(idle=5)(h.fn(work))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"idle": 0}, "idle must be"),
        ({"first_item": -1}, "first_item must be"),
        ({"total": float("nan")}, "total must be"),
        ({"idle": "1"}, "idle must be"),
        ({"complete": "yes"}, "complete must be"),
        ({"preamble": dict}, "preamble must be"),
        ({"complete": never}, "complete must be a plain predicate"),
        ({"preamble": never}, "preamble must be a plain predicate"),
        ({"thread": 1}, "thread must be"),
    ],
)
def test_wrong_options_are_refused_when_it_is_built(options: dict[str, Any], message: str) -> None:
    """By name, rule and value."""
    with pytest.raises((TypeError, ValueError), match=message):
        StreamTimeout(**options)


def test_a_reload_keeps_the_threads_that_were_left_behind() -> None:
    """New limits hold from then on; the steps that still run stay counted."""
    source: dict[str, Any] = {"policies": {"p": {"stream_timeout": {"idle": 5, "thread": True}}}}
    registry = Registry(source)
    policy = registry.policy("p")
    (before,) = policy.layers
    source["policies"] = {"p": {"stream_timeout": {"idle": 9, "thread": True}}}
    registry.reload()
    (after,) = policy.layers
    assert isinstance(before, StreamTimeout)
    assert isinstance(after, StreamTimeout)
    assert (after.idle, after.workers) == (9, before.workers)


def test_it_describes_itself() -> None:
    """As plain data, functions by name."""
    limit = StreamTimeout(first_item=10, idle=5, complete=sse_done)
    assert limit.describe() == {
        "strategy": "stream_timeout", "first_item": 10.0, "idle": 5.0, "total": None,
        "complete": "sse_done", "preamble": "auto", "thread": None,
    }  # fmt: skip
    assert repr(limit) == "StreamTimeout(first_item=10, idle=5, complete=sse_done)"
    assert item("openai", "Unknown") is not None


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_timeout_around_the_consumer_is_not_taken_for_it(runtime: str) -> None:
    """Who cuts off is who raises."""
    h = Harness(runtime)

    async def main() -> None:
        async def consumer() -> None:
            await collect(h, limited(idle=5).stream(Paced(h, 1, 60).function), [])

        with pytest.raises(TimeoutError, match="limit of 3 s"):
            await Policy(Timeout(3)).acall(consumer)

    run_on(runtime, main)
