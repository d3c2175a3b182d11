"""`Resume`: a stream that broke off goes on, without a gap or a repetition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents import (
    BudgetExceededError,
    Bulkhead,
    CircuitBreaker,
    DeadlineExceeded,
    Policy,
    Resume,
    Retry,
    StreamTimeout,
    deadline,
    fixed,
    run_budget,
)
from resilient_agents.core.call import NEUTRAL
from resilient_agents.integrations.resuming import (
    continue_chat,
    continue_messages,
    continue_response,
    text_so_far,
    without_overlap,
)
from tests.conftest import Events, Harness, run_on
from tests.sdk_items import chat, message, responded, response, text_delta
from tests.test_stream_steps import collect
from tests.test_stream_timeout import Script
from tests.test_streams import Holding

WHOLE = list(range(8))


class Breaking:
    """A stream of 0 to 7 that breaks off before each item of `cuts`, each once; every part begins where it is told."""

    def __init__(self, h: Harness, *cuts: int, error: Callable[[], Exception] = ConnectionError) -> None:
        self.h, self.cuts, self.error = h, list(cuts), error
        self.billed: list[int] = []
        self.open = self.most_open = 0

    def _item(self, n: int) -> int:
        if n in self.cuts:
            self.cuts.remove(n)
            raise self.error()
        self.billed.append(n)
        return n

    def blocking(self, begin: int) -> Iterator[int]:
        self._opens()
        try:
            for n in WHOLE[begin:]:
                yield self._item(n)
        finally:
            self.open -= 1

    async def asynchronous(self, begin: int) -> AsyncIterator[int]:
        self._opens()
        try:
            for n in WHOLE[begin:]:
                await self.h.sleep(1)
                yield self._item(n)
        finally:
            self.open -= 1

    def _opens(self) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def whole(self) -> Any:
        return self.blocking(0) if self.h.blocking else self.asynchronous(0)

    def rest(self, items: list[int]) -> Any:
        return self.blocking(len(items)) if self.h.blocking else self.asynchronous(len(items))


@pytest.mark.parametrize("cut", range(1, 8))
async def test_the_consumer_sees_one_stream(h: Harness, cut: int) -> None:
    """Wherever it broke off; and no item is paid for twice."""
    source, holding = Breaking(h, cut), Holding()
    assert await collect(h, Policy(holding, Resume(source.rest)).stream(source.whole), []) == WHOLE
    assert (source.billed, source.open, source.most_open, holding.outcomes) == (WHOLE, 0, 1, [None])


@pytest.mark.parametrize("kind", ["decorated", "stream"])
async def test_before_its_first_item_it_is_not_its_affair(h: Harness, kind: str) -> None:
    """A Retry's."""
    source = Breaking(h, 0)
    with pytest.raises(ConnectionError):
        await collect(h, Policy(Resume(source.rest)).stream(source.whole), [])
    source = Breaking(h, 0, 3)
    policy = Policy(Resume(source.rest), Retry(2, wait=fixed(0)))
    assert await collect(h, policy.stream(source.whole), []) == WHOLE


async def test_what_is_inside_runs_for_each_part(h: Harness) -> None:
    """Slots come back in between, attempts count anew, and a breaker counts each part."""
    source, inner, bulkhead = Breaking(h, 2, 5), Holding(), Bulkhead(1, queue=0)
    breaker = CircuitBreaker(failures=5)
    policy = Policy(Resume(source.rest), inner, breaker, bulkhead)
    assert await collect(h, policy.stream(source.whole), []) == WHOLE
    assert [type(outcome) for outcome in inner.outcomes] == [ConnectionError, ConnectionError, type(None)]
    assert (bulkhead.in_use, breaker.metrics()["failures"]) == (0, 2)


async def test_when_it_cannot_go_on_the_first_error_comes_out(h: Harness) -> None:
    """After `times` parts, opened or not; with a note."""
    errors = [ConnectionError(n) for n in range(4)]
    left = iter(errors)
    source = Breaking(h, 2, 4, 6, error=lambda: next(left))
    seen: list[int] = []
    with pytest.raises(ConnectionError) as raised:
        await collect(h, Policy(Resume(source.rest)).stream(source.whole), seen)
    assert (raised.value, seen, source.open) == (errors[0], WHOLE[:6], 0)
    assert raised.value.__notes__ == ["broke off after 6 items in 3 parts"]

    def refuses(items: list[int]) -> Any:
        tried.append(list(items))
        raise ConnectionError("refused")

    tried: list[list[int]] = []
    with pytest.raises(ConnectionError, match="first"):
        source = Breaking(h, 2, error=lambda: ConnectionError("first"))
        await collect(h, Policy(Resume(refuses, times=3)).stream(source.whole), [])
    assert tried == [[0, 1]] * 3


async def test_other_errors_come_out_at_once(h: Harness) -> None:
    """`on` chooses; a bug in `continue_with` shows."""
    source = Breaking(h, 2, error=LookupError)
    with pytest.raises(LookupError):
        await collect(h, Policy(Resume(source.rest)).stream(source.whole), [])
    source = Breaking(h, 2, error=LookupError)
    assert await collect(h, Policy(Resume(source.rest, on=LookupError)).stream(source.whole), []) == WHOLE
    source = Breaking(h, 2)
    with pytest.raises(TypeError):
        await collect(h, Policy(Resume(lambda: None)).stream(source.whole), [])  # type: ignore[misc]


async def test_continue_with_must_return_a_stream(h: Harness) -> None:
    """What it returned is named, and why it was asked; the items before are intact."""
    broken = ConnectionError("broken")
    source, seen = Breaking(h, 2, error=lambda: broken), list[int]()
    with pytest.raises(TypeError, match="must return a stream of what is new, got str") as raised:
        await collect(h, Policy(Resume(lambda items: "rest")).stream(source.whole), seen)
    assert (seen, raised.value.__cause__) == ([0, 1], broken)


def test_an_async_one_in_blocking_code_is_refused_before_anything_is_asked_for() -> None:
    """By its name."""
    source = Breaking(Harness("blocking"), 2)

    async def go_on(items: list[int]) -> Any: ...

    with pytest.raises(TypeError, match=r"continue_with=.*go_on is async, which nothing awaits"):
        list(Policy(Resume(go_on)).stream(source.whole))
    assert source.most_open == 0


async def test_it_gets_the_arguments_of_the_call(h: Harness) -> None:
    """After the items so far, each time."""
    calls: list[Any] = []
    source = Breaking(h, 2, 4)

    def rest(items: list[int], *args: Any, **kwargs: Any) -> Any:
        calls.append((list(items), args, kwargs))
        return source.rest(items)

    await collect(h, Policy(Resume(rest)).stream(lambda *a, **k: source.whole(), "a", b=1), [])
    assert calls == [([0, 1], ("a",), {"b": 1}), ([0, 1, 2, 3], ("a",), {"b": 1})]


async def test_it_may_be_async(h: Harness) -> None:
    """Where the call is."""
    if not h.blocking:
        source = Breaking(h, 2)

        async def rest(items: list[int]) -> Any:
            await h.sleep(1)
            return source.rest(items)

        assert await collect(h, Policy(Resume(rest)).stream(source.whole), []) == WHOLE


async def test_stalls_and_truncations_are_gone_on_with(h: Harness) -> None:
    """What a StreamTimeout inside finds."""
    policy = Policy(Resume(lambda items: Script(h, [chat("be"), chat(None, "stop")]).function()), StreamTimeout(idle=5))
    items = await collect(h, policy.stream(Script(h, [chat("to ")]).function), [])
    assert text_so_far(items) == "to be"
    if not h.blocking:
        items = await collect(h, policy.stream(Script(h, [chat("to "), 60.0]).function), [])
        assert text_so_far(items) == "to be"


async def test_later_parts_come_without_their_openers(h: Harness) -> None:
    """The consumer has had them."""
    start = [message("message_start"), message("content_block_start")]
    rest = [*start, text_delta("be"), message("message_stop")]
    policy = Policy(Resume(lambda items: Script(h, rest).function()), StreamTimeout(idle=5))
    items = await collect(h, policy.stream(Script(h, [*start, text_delta("to ")]).function), [])
    assert [item.type for item in items] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_delta", "message_stop",
    ]  # fmt: skip


async def test_the_callers_deadline_holds_over_all_parts(h: Harness) -> None:
    """It is no error to go on after."""
    if not h.blocking:
        source = Breaking(h, 2, 4)
        with deadline(5), pytest.raises(DeadlineExceeded):
            await collect(h, Policy(Resume(source.rest)).stream(source.whole), [])
        assert source.open == 0


async def test_each_part_is_an_attempt_of_the_runs_budget(h: Harness) -> None:
    """The one that it does not allow is not asked for; what the stream broke off with is the cause."""
    source, seen = Breaking(h, 2, 4, 6), list[int]()
    with run_budget(attempts=2) as budget, pytest.raises(BudgetExceededError) as raised:
        await collect(h, Policy(Resume(source.rest, times=5)).stream(source.whole), seen)
    assert (seen, budget.spent.attempts) == ([0, 1, 2, 3], 2)
    assert isinstance(raised.value.__cause__, ConnectionError)


async def test_closing_it_closes_the_present_part(h: Harness) -> None:
    """And is neutral to all."""
    source, outer, inner = Breaking(h, 2), Holding(), Holding()
    stream = Policy(outer, Resume(source.rest), inner).stream(source.whole)
    if h.blocking:
        with stream:
            assert [next(stream) for _ in range(4)] == WHOLE[:4]
    else:
        async with stream:
            assert [await anext(stream) for _ in range(4)] == WHOLE[:4]
    assert (source.open, outer.held, inner.held, outer.outcomes, inner.outcomes[-1]) == (0, 0, 0, [NEUTRAL], NEUTRAL)


async def test_each_part_is_an_attempt_and_the_whole_one_call(h: Harness) -> None:
    """To those who watch."""
    source, events = Breaking(h, 2, 5), Events()
    policy = Policy(Resume(source.rest))
    policy.observe(events)
    await collect(h, policy.stream(source.whole), [])
    told = [(type(e).__name__, getattr(e, "outcome", None)) for e in events]
    assert told == [
        ("CallStarted", None),
        *[("AttemptStarted", None), ("AttemptEnded", "failure")] * 2,
        ("AttemptStarted", None),
        ("AttemptEnded", "success"),
        ("CallEnded", "success"),
    ]


async def test_what_speaks_of_the_whole_is_refused_after_it(h: Harness) -> None:
    """The SDK's object knows only the last part."""

    class Sdk:
        def __init__(self, items: list[Any]) -> None:
            self.left = items

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if not self.left:
                raise StopIteration
            item = self.left.pop(0)
            if isinstance(item, Exception):
                raise item
            return item

        def get_final_message(self) -> str:
            return "final"

    if h.blocking:
        stream = Policy(Resume(lambda items: Sdk([2]))).stream(lambda: Sdk([1, ConnectionError()]))
        next(stream)
        with pytest.raises(RuntimeError, match="knows only its last part"):
            stream.get_final_message()
        whole = Policy(Resume(lambda items: Sdk([2]))).stream(lambda: Sdk([1, 2]))
        next(whole)
        assert whole.get_final_message() == "final"
        assert list(whole) == []


async def test_around_a_call_that_is_no_stream_it_is_refused(h: Harness) -> None:
    """With the remedy."""

    async def work() -> int:
        return 1

    with pytest.raises(TypeError, match="is no stream"):
        await h.call(Policy(Resume(print)), work)
    with pytest.raises(TypeError, match="work' is no stream"):
        Policy(Resume(print))(h.fn(work))


@pytest.mark.parametrize(("options", "error"), [({"times": 0}, "times"), ({"on": "x"}, "on"), ({}, "continue_with")])
def test_wrong_options_are_refused_when_it_is_built(options: dict[str, Any], error: str) -> None:
    """By name."""
    with pytest.raises((TypeError, ValueError), match=error):
        Resume(print if options else None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ["blocking", "asyncio", "trio"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_model_of_it(runtime: str, data: st.DataObject) -> None:
    """Any cuts, any number of resumes, any consumer: the items are a beginning of the whole, and the whole unless it
    broke off more often than it may, or the consumer left."""
    cuts = sorted(data.draw(st.lists(st.integers(1, 7), max_size=4, unique=True)))
    times = data.draw(st.integers(1, 4))
    takes = data.draw(st.integers(1, 9))
    h = Harness(runtime)
    source, outer = Breaking(h, *cuts), Holding()

    async def main() -> None:
        stream = Policy(outer, Resume(source.rest, times=times), StreamTimeout(idle=5)).stream(source.whole)
        seen: list[int] = []
        failed = False
        try:
            while len(seen) < takes:
                seen.append(next(stream) if h.blocking else await anext(stream))
        except (StopIteration, StopAsyncIteration):
            pass
        except ConnectionError:
            failed = True
        await stream.aclose()
        end = cuts[times] if len(cuts) > times else 8
        assert seen == WHOLE[: min(end, takes)]
        assert failed == (end < 8 and takes > end)
        assert (outer.held, source.open, source.billed) == (0, 0, seen)

    run_on(runtime, main)


def test_overlaps_are_left_out() -> None:
    """Of any length from `least` on, however the rest is cut into pieces."""
    before, rest = "It was the best of times, it was", " times, it was the worst"
    for size in range(1, len(rest) + 1):
        pieces = [rest[n : n + size] for n in range(0, len(rest), size)]
        assert "".join(without_overlap(before, pieces)) == " the worst"
    assert "".join(without_overlap(before, ["was not"])) == "was not"
    assert "".join(without_overlap(before, ["was not"], least=3)) == " not"
    assert "".join(without_overlap("", ["all"])) == "all"
    assert "".join(without_overlap(before, [before[-12:]])) == ""


def test_overlaps_of_async_streams_too() -> None:
    """The result is of the same kind."""

    async def rest() -> AsyncIterator[str]:
        yield "best of "
        yield "times, it"
        yield " was the worst"

    async def main() -> None:
        assert [piece async for piece in without_overlap("the best of times, it was", rest())] == [" the worst"]

    run_on("asyncio", main)


def test_what_the_helpers_ask_for() -> None:
    """Each server in its own way, with the arguments of the call."""
    asked: list[Any] = []

    def create(*args: Any, **kwargs: Any) -> str:
        asked.append((args, kwargs))
        return "stream"

    messages = [{"role": "user", "content": "hi"}]
    items = [chat("to "), chat("be")]
    answer = {"role": "assistant", "content": "to be"}
    assert continue_chat(create, by="prefix")(items, model="m", messages=messages) == "stream"
    assert asked.pop() == ((), {"model": "m", "messages": [*messages, {**answer, "prefix": True}]})
    continue_chat(create, by="continue_final_message")(items, messages=messages, extra_body={"top_k": 1})
    body = {"top_k": 1, "continue_final_message": True, "add_generation_prompt": False}
    assert asked.pop() == ((), {"messages": [*messages, answer], "extra_body": body})
    with pytest.raises(ValueError, match="by must be"):
        continue_chat(create, by="x")  # type: ignore[arg-type]

    events = [responded("response.created", id="r1"), response("response.output_text.delta", sequence_number=7)]
    continue_response(create)(events, model="m")
    assert asked.pop() == (("r1",), {"stream": True, "starting_after": 7})
    with pytest.raises(LookupError, match="names its response"):
        continue_response(create)([], model="m")

    said = [text_delta("to "), text_delta("be ")]
    continue_messages(create, prefill=True)(said, messages=messages)
    assert asked.pop()[1]["messages"] == [*messages, answer]
    continue_messages(create, prefill=False)(said, messages=messages)
    assert [m["role"] for m in asked[-1][1]["messages"]] == ["user", "assistant", "user"]
    assert "<end>to be </end>" in asked.pop()[1]["messages"][-1]["content"]
    for option in ("tools", "thinking"):
        with pytest.raises(ValueError, match=option):
            continue_messages(create, prefill=True)(said, messages=messages, **{option: [1]})


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("claude-2.1", True),
        ("claude-3-opus-20240229", True),
        ("claude-3-5-haiku-latest", True),
        ("anthropic.claude-sonnet-4-20250514-v1:0", True),
        ("claude-opus-4-1@20250805", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-6", False),
        ("us.anthropic.claude-sonnet-4-6-v1", False),
        ("claude-opus-5-20270101", False),
        ("some-alias", False),
        (None, False),
    ],
)
def test_a_model_is_given_its_own_answer_where_it_takes_that(model: str | None, taken: bool) -> None:
    """Claude up to 4.5, by its name; whatever else there is is asked by a message."""
    asked: list[Any] = []
    continue_messages(lambda **kwargs: asked.append(kwargs["messages"]))([text_delta("to")], model=model, messages=[])
    assert [message["role"] for message in asked[0]] == (["assistant"] if taken else ["assistant", "user"])
