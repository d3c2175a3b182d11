"""`RateLimit.learn` and `.follow`: what servers say of their limits, and how it comes to a limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import anyio
import httpx
import openai
import pytest

from resilient_agents import Policy, RateLimit, RateLimitedError
from resilient_agents.classify.limits import stated
from resilient_agents.integrations.limits import learn_limits, learn_limits_async
from tests.conftest import Harness, ManualClock
from tests.strategies import value

OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6ms",
}


def anthropic(seconds: float, **counts: int) -> dict[str, str]:
    """As anthropic says it: a moment, rounded up to whole seconds."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds + 0.999)
    said = {f"anthropic-ratelimit-requests-{what}": str(count) for what, count in counts.items()}
    return {**said, "anthropic-ratelimit-requests-reset": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}


def requests(limit: object, remaining: object, reset: str) -> dict[str, str]:
    said = {"limit": str(limit), "remaining": str(remaining), "reset": reset}
    return {f"x-ratelimit-{what}-requests": text for what, text in said.items()}


@pytest.mark.parametrize(
    ("headers", "of", "found"),
    [
        (OPENAI, "requests", (60, 59, 60)),
        (OPENAI, "tokens", (150_000, 149_984, 60)),
        ({name.title(): told for name, told in OPENAI.items()}, "requests", (60, 59, 60)),
        (requests(60, 0, "1m3.5s"), "requests", (60, 0, 60)),
        (requests(14_400, 14_370, "2m59.56s"), "requests", (14_400, 14_370, 86_400)),
        (requests(14_400, 14_399, "6s"), "requests", (14_400, 14_399, 86_400)),
        (requests(10, 8, "200ms"), "requests", (10, 8, 1)),
        ({"x-ratelimit-limit": "100", "x-ratelimit-remaining": "100"}, "requests", (100, 100, None)),
        ({"anthropic-ratelimit-input-tokens-limit": "9"}, "input-tokens", (9, None, None)),
        ({"ratelimit-policy": '"default";q=100;w=50', "ratelimit": '"default";r=7;t=30'}, "requests", (100, 7, 50)),
        ({"RateLimit": "limit=9, remaining=7, reset=5", "RateLimit-Policy": "5;w=1, 9;w=10"}, "requests", (5, None, 1)),
        ({"RateLimit": "limit=9, remaining=7, reset=5", "RateLimit-Policy": "99;w=99, 9;w=10"}, "requests", (9, 7, 10)),
        ({"ratelimit": "limit=9, remaining=7, reset=5"}, "requests", (9, 7, None)),
        ({"ratelimit": '"default";r=7;t=30'}, "requests", None),
        ({"ratelimit-policy": '"a";q=9;w=6;qu="tokens", "b";q=5;w=2'}, "tokens", (9, None, 6)),
        ({"ratelimit-policy": '"a";q=9', "ratelimit": '"a";r=4'}, "requests", (9, 4, None)),
        (
            {"ratelimit-limit": "9", "ratelimit-remaining": "8", "ratelimit-policy": '"d";q=90;w=99, "m";q=9;w=7'},
            "requests",
            (9, 8, 7),
        ),
        (SimpleNamespace(headers={"date": "?"}, body={"metadata": {"headers": OPENAI}}), "requests", (60, 59, 60)),
        (requests(-1, -1, "0"), "requests", None),
        (requests(0, 0, "0"), "requests", None),
        (requests("many", 1, "1s"), "requests", None),
        ({}, "requests", None),
        (None, "requests", None),
        (SimpleNamespace(headers=7), "requests", None),
    ],
)
def test_headers_of_servers_are_read(headers: Any, of: str, found: tuple[float, ...] | None) -> None:
    """How much, how much is left, and over which time, which none of them says."""
    said = stated(headers, of)
    assert (said and (said.limit, said.remaining, said.window and said.window.likely)) == found


@pytest.mark.parametrize(
    "headers",
    [
        requests(60, 59, "1"),  # azure counts in whole seconds
        requests(60, 59, "2"),
        requests(150_000, 149_984, "1"),
        requests(150_000, 149_999, "1ms"),  # openai in whole milliseconds
        requests(60, 59, "400ms"),  # most of one request has come back
        requests(60, 50, "12s"),  # from full minute to full minute
        requests(60, 0, "12s"),
        requests(60, 30, "30"),
    ],
    ids=str,
)
def test_a_minute_is_told_from_what_is_rounded(headers: dict[str, str]) -> None:
    """Neither an hour because a moment was rounded up, nor a second because it was rounded down."""
    said = stated(headers, "requests")
    assert said is not None
    assert said.window is not None
    assert said.window.likely == 60


def said(*told: tuple[str, str, str, str]) -> dict[str, str]:
    """Headers in openai's spelling, from rows of what, limit, remaining and reset."""
    names = ("limit", "remaining", "reset")
    return {f"x-ratelimit-{name}-{of}": text for of, *texts in told for name, text in zip(names, texts, strict=True)}


@pytest.mark.parametrize(
    ("server", "headers", "of", "window"),
    [
        ("openai", said(("requests", "500", "499", "120ms"), ("tokens", "30000", "29963", "74ms")), "requests", 60),
        ("openai", said(("requests", "500", "499", "120ms"), ("tokens", "30000", "29963", "74ms")), "tokens", 60),
        ("openai, a new account", said(("requests", "10000", "9999", "8.64s")), "requests", 86_400),
        ("openai, a free account", said(("requests", "200", "147", "6h21m36s")), "requests", 86_400),
        ("openai, the fifth tier", said(("tokens", "30000000", "29999986", "0s")), "tokens", None),
        ("openai, the fifth tier", said(("tokens", "30000000", "29970000", "60ms")), "tokens", 60),
        ("openai, its documentation", said(("tokens", "150000", "149984", "6m0s")), "tokens", 60),
        ("openai, all but used up", said(("tokens", "150000", "149984", "1m3.5s")), "tokens", 60),
        ("groq, its documentation", said(("requests", "14400", "14370", "2m59.56s")), "requests", 86_400),
        ("groq, its documentation", said(("tokens", "18000", "17997", "7.66s")), "tokens", 60),
        ("groq", said(("tokens", "6000", "5873", "1.27s")), "tokens", 60),
        ("azure", said(("requests", "60", "59", "1"), ("tokens", "60000", "59984", "1")), "requests", 60),
        ("azure", said(("requests", "60", "59", "1"), ("tokens", "60000", "59984", "1")), "tokens", 60),
        ("azure, in the midst of a minute", said(("tokens", "60000", "31007", "29")), "tokens", 60),
        ("azure, no limit", said(("requests", "60", "-1", "0"), ("tokens", "-1", "-1", "0")), "requests", None),
        ("a server of full hours", said(("requests", "5000", "4984", "1800")), "requests", 3_600),
        ("a server of full days", said(("requests", "5000", "4984", "43200")), "requests", 86_400),
        ("nothing known", said(("requests", "5000", "4984", "604800")), "requests", None),
    ],
)
def test_headers_as_servers_send_them(server: str, headers: dict[str, str], of: str, window: float | None) -> None:
    """Of tokens and requests, of all tiers; what does not add up is taken for a minute, as nearly all servers count."""
    found = stated(headers, of)
    assert found is not None
    assert (found.window and found.window.likely) == window


@pytest.mark.parametrize(("seconds", "used"), [(0.6, 10), (0.06, 1), (30, 500), (60, 1000)])
def test_a_minute_is_told_from_moments(seconds: float, used: int) -> None:
    """Which are exact to a second."""
    said = stated(anthropic(seconds, limit=1000, remaining=1000 - used), "requests")
    assert said is not None
    assert said.window is not None
    assert said.window.likely == 60


@pytest.mark.parametrize(
    "answer",
    [
        OPENAI,
        httpx.Headers(OPENAI),
        SimpleNamespace(headers=OPENAI),
        SimpleNamespace(response=SimpleNamespace(headers=OPENAI)),  # a stream of openai, an error
        SimpleNamespace(response={"ResponseMetadata": {"HTTPHeaders": OPENAI}}),  # an error of botocore
        {"ResponseMetadata": {"HTTPHeaders": OPENAI}},
        SimpleNamespace(litellm_response_headers=OPENAI),
        SimpleNamespace(_hidden_params={"additional_headers": OPENAI}),
        SimpleNamespace(sdk_http_response=SimpleNamespace(headers=OPENAI)),
    ],
)
def test_headers_are_found_where_clients_keep_them(answer: Any) -> None:
    """Of results, errors, raw responses and streams."""
    limit = RateLimit(10)
    limit.learn(answer)
    assert (limit.rate, limit.per) == (60, 60)


def test_a_limit_follows_what_its_server_says() -> None:
    """The rate, its time, and what is left."""
    limit = RateLimit(10, per=60, max_wait=0)
    limit.learn(OPENAI)
    assert (limit.rate, limit.per, limit.burst) == (60, 60, 60)
    assert limit.available == pytest.approx(59, abs=0.1)
    limit.learn(requests(60, 0, "60s"))
    with pytest.raises(RateLimitedError):
        Policy(limit).call(int)
    limit.learn({})
    assert limit.rate == 60


def test_what_is_vague_does_not_change_what_is_known() -> None:
    """A window that fits stays; one that does not fit is left, longer or shorter."""
    limit = RateLimit(14_400, per=86_400)
    limit.learn(requests(14_400, 14_399, "1"))
    assert limit.per == 86_400
    limit.learn(requests(14_400, 7_200, "30s"))
    assert limit.per == 60
    limit.learn(requests(14_400, 14_370, "2m59.56s"))
    assert limit.per == 86_400


@pytest.mark.parametrize(
    ("per", "headers"),
    [
        (3_600, requests(5_000, 4_984, "30")),  # from full hour to full hour
        (3_600, requests(5_000, 4_984, "1800")),
        (86_400, requests(28_800, 28_799, "1")),
        (60, requests(150_000, 149_984, "1m3.5s")),
        (60, requests(5_000, 4_999, "1")),
    ],
    ids=str,
)
def test_a_known_window_stays_where_it_fits_another_limit(per: float, headers: dict[str, str]) -> None:
    """An account that moves to another tier is not suddenly counted by the minute."""
    limit = RateLimit(1_000, per=per)
    limit.learn(headers)
    assert (limit.rate, limit.per) == (float(headers["x-ratelimit-limit-requests"]), per)


@pytest.mark.parametrize(("rate", "per"), [(5_000, 10), (1_000, 60)])
def test_a_window_shorter_than_the_likely_one_stays_only_with_its_limit(rate: float, per: float) -> None:
    """With another limit, of two that fit the slower is taken."""
    limit = RateLimit(rate, per=10)
    limit.learn(requests(5_000, 4_999, "1"))
    assert (limit.rate, limit.per) == (5_000, per)


def test_anthropic_rounds_its_tokens_to_thousands() -> None:
    """So used up and the time until the reset do not add up, for a minute all the same."""
    moment = (datetime.now(UTC) + timedelta(seconds=2.999)).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = {"limit": "40000", "remaining": "39000", "reset": moment}
    limit = RateLimit(10_000, per=60)
    limit.learn({f"anthropic-ratelimit-input-tokens-{what}": text for what, text in told.items()}, of="input-tokens")
    assert (limit.rate, limit.per) == (40_000, 60)


def test_a_burst_of_ones_own_stays() -> None:
    """It was chosen; only a limit below it bounds it."""
    limit = RateLimit(10, per=60, burst=5)
    limit.learn(OPENAI)
    assert (limit.rate, limit.burst) == (60, 5)


def test_a_server_that_allows_one_call_gets_no_burst() -> None:
    """Of the rate that the server named, which was the burst before, too."""
    limit = RateLimit(10, per=60)
    limit.learn(requests(1, 0, "60s"))
    assert (limit.rate, limit.per, limit.burst) == (1, 60, 1)


def test_a_request_that_is_larger_than_what_was_learned_fails_at_once() -> None:
    """And says so."""
    limit = RateLimit(1_000, per=60, cost=lambda size: size)
    limit.learn(requests(60, 59, "1s"))
    with pytest.raises(ValueError, match=r"cost must be at most burst \(60\), or the call could never start, got 100"):
        Policy(limit).call(value, 100)


def test_a_rate_of_one_is_no_burst_of_ones_own() -> None:
    """Where the burst was the rate it is what the server allows."""
    limit = RateLimit(1, per=60)
    limit.learn(OPENAI)
    assert (limit.rate, limit.burst) == (60, 60)


def test_what_was_used_stays_used_where_the_server_has_not_seen_it(manual_clock: ManualClock) -> None:
    """Calls under way are no news to it."""
    limit = RateLimit(60, per=60)
    for _ in range(5):
        Policy(limit).call(int)
    limit.learn(requests(60, 59, "1s"))
    assert limit.available == pytest.approx(55)


async def test_those_who_wait_hear_of_what_was_learned(h: Harness) -> None:
    """They start as early as the new rate lets them."""
    if h.blocking:
        return
    limit = RateLimit(1, per=1_000)
    policy = Policy(limit)
    await h.call(policy, value, 1)
    began = h.now()

    async def learn() -> None:
        await h.sleep(1)
        limit.learn(requests(60, 59, "1s"))

    async with anyio.create_task_group() as group:
        group.start_soon(learn)
        await h.call(policy, value, 2)
    assert h.now() - began < 10


class Throttled(Exception):
    """As most clients raise it."""

    def __init__(self) -> None:
        super().__init__("429")
        self.response = SimpleNamespace(status_code=429, headers=OPENAI)


async def test_a_limit_that_follows_learns_from_errors(h: Harness) -> None:
    """One that does not keeps the rate that it was given."""

    async def throttled() -> None:
        raise Throttled

    for follows, rate in ((False, 10), (True, 60)):
        limit = RateLimit(10)
        if follows:
            limit.follow()
        with pytest.raises(Throttled):
            await h.call(Policy(limit), throttled)
        assert limit.rate == rate


async def test_a_limit_that_follows_learns_from_responses(h: Harness) -> None:
    """Beside what they cost."""
    limit = RateLimit(10, per=60, cost=2, settle=lambda response: response.cost)
    limit.follow("tokens")
    await h.call(Policy(limit), value, SimpleNamespace(headers=OPENAI, cost=16))
    assert (limit.rate, limit.per) == (150_000, 60)
    limit.reconfigure(RateLimit(5))
    await h.call(Policy(limit), value, SimpleNamespace(headers=OPENAI))
    assert limit.rate == 150_000  # it still does


class Stream:
    """As openai's and anthropic's are."""

    def __init__(self) -> None:
        self.response = SimpleNamespace(headers=OPENAI)
        self.items = iter("abc")

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        return next(self.items)


async def test_a_limit_that_follows_learns_from_streams(h: Harness) -> None:
    """At their beginning."""
    limit = RateLimit(10)
    limit.follow()
    assert await h.items(Policy(limit).stream(Stream)) == ["a", "b", "c"]
    assert limit.rate == 60


def test_a_limit_says_what_it_follows() -> None:
    """None where it learns only what it is told."""
    limit = RateLimit(10)
    assert limit.follows is None
    limit.follow("tokens")
    assert limit.follows == "tokens"


@pytest.mark.parametrize("of", ["", None, 5])
def test_of_must_be_a_name(of: Any) -> None:
    """Anything else would never be found."""
    for ask in (RateLimit(5).follow, lambda of: RateLimit(5).learn({}, of)):
        with pytest.raises(ValueError, match='of must be a name such as "requests" or "tokens"'):
            ask(of)


MODELS = {"object": "list", "data": []}


def answers(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers=OPENAI, json=MODELS)


def test_a_hook_learns_from_answers_that_are_parsed() -> None:
    """Each limit from its own headers."""
    calls, tokens = RateLimit(10), RateLimit(10)
    hooks = {"response": [learn_limits(requests=calls, tokens=tokens)]}
    http = httpx.Client(transport=httpx.MockTransport(answers), event_hooks=hooks)
    client = openai.OpenAI(api_key="k", http_client=http)
    Policy(calls, tokens).call(client.models.list)
    assert (calls.rate, tokens.rate) == (60, 150_000)
    client.close()


def test_a_hook_learns_in_async_code() -> None:
    """Names with a hyphen are written with an underscore."""
    limit = RateLimit(10)

    async def scenario() -> None:
        hooks = {"response": [learn_limits_async(input_tokens=limit)]}
        told = {"limit": "50000", "remaining": "25000", "reset": "30s"}
        said = {f"anthropic-ratelimit-input-tokens-{what}": text for what, text in told.items()}
        transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=said))
        async with httpx.AsyncClient(transport=transport, event_hooks=hooks) as client:
            await client.get("https://api.example")

    anyio.run(scenario)
    assert (limit.rate, limit.per) == (50_000, 60)


def test_hooks_need_limits() -> None:
    """Others are refused when the hook is made."""
    with pytest.raises(TypeError, match=r"learn_limits needs a limit, such as requests=RateLimit\(...\)"):
        learn_limits()
    with pytest.raises(TypeError, match="requests must be a RateLimit, got 60"):
        learn_limits(requests=60)  # type: ignore[arg-type]
