"""A guarded function keeps its exact signature, whatever kind it is."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any, Protocol, TypeVar, assert_type, overload

from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, Timeout, fixed, resilient

T = TypeVar("T")
policy = Policy(Retry(3), CircuitBreaker("typed"), name="typed")


# ------------------------------------------------------------------------------------------------------ plain and async


@policy
def plain(number: int, *, text: str = "") -> float:
    return number + len(text)


assert_type(plain(1, text="x"), float)
plain("1")  # type: ignore[arg-type]
plain(1, "x")  # type: ignore[call-arg]
plain(1, texts="x")  # type: ignore[call-arg]
plain()  # type: ignore[call-arg]


@policy
async def asynchronous(prompt: str, temperature: float = 0.0) -> list[str]:
    return [prompt] * int(temperature)


async def use_asynchronous() -> None:
    assert_type(await asynchronous("hello"), list[str])
    pending: Coroutine[Any, Any, list[str]] = asynchronous("hello")
    assert_type(await pending, list[str])
    await asynchronous(1)  # type: ignore[arg-type]
    asynchronous("not awaited").upper()  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------- generators


@policy
def generator(upto: int) -> Generator[int, str, bool]:
    got = yield upto
    return bool(got)


@policy
def iterator() -> Iterator[bytes]:
    yield b""


@policy
async def async_generator(prompt: str) -> AsyncGenerator[str, None]:
    yield prompt


@policy
async def async_iterator() -> AsyncIterator[int]:
    yield 1


async def use_generators() -> None:
    assert_type(generator(3), Generator[int, str, bool])
    generator(3).send(1)  # type: ignore[arg-type]
    for item in iterator():
        assert_type(item, bytes)
    assert_type(async_generator("x"), AsyncGenerator[str, None])
    async for token in async_generator("x"):
        assert_type(token, str)
    async for number in async_iterator():
        assert_type(number, int)
    async_generator()  # type: ignore[call-arg]


# -------------------------------------------------------------------------------------------------------------- methods


class Client:
    @policy
    def get(self, path: str) -> bytes:
        return path.encode()

    @policy
    async def create(self, prompt: str) -> str:
        return prompt

    @classmethod
    @policy
    def default(cls, size: int) -> Client:
        return cls()

    @staticmethod
    @policy
    def double(number: int) -> int:
        return number * 2

    @property
    @policy
    def health(self) -> bool:
        return True


async def use_methods(client: Client) -> None:
    assert_type(client.get("/"), bytes)
    assert_type(await client.create("x"), str)
    assert_type(Client.default(1), Client)
    assert_type(Client.double(2), int)
    assert_type(client.health, bool)
    client.get(1)  # type: ignore[arg-type]
    client.get()  # type: ignore[call-arg]
    Client.double("2")  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- overloads and generics


@overload
def parse(text: str) -> int: ...
@overload
def parse(text: bytes) -> float: ...
def parse(text: str | bytes) -> int | float:
    return int(text) if isinstance(text, str) else float(text)


guarded_parse = policy(parse)
assert_type(guarded_parse("1"), int)
assert_type(guarded_parse(b"1"), float)
guarded_parse(1)  # type: ignore[call-overload]


@policy
def first(items: list[T]) -> T:
    return items[0]


assert_type(first([1]), int)
assert_type(first(["a"]), str)
first(1)  # type: ignore[arg-type]


class Search(Protocol):
    def __call__(self, query: str, /, limit: int = ...) -> list[str]: ...


class Index:
    size = 3

    def __call__(self, query: str, /, limit: int = 1) -> list[str]:
        return [query] * limit


assert_type(policy(Index()), Index)
assert_type(policy(Index())("q", limit=2), list[str])
search: Search = policy(Index())
wrong_search: Callable[[int], str] = policy(Index())  # type: ignore[assignment]
policy(3)  # type: ignore[type-var]


# ----------------------------------------------------------------------------------------------------------- @resilient


@resilient(policy)
async def by_policy(number: int) -> str:
    return str(number)


@resilient(Retry(3, wait=fixed(1)), Timeout(10), name="by-strategies")
def by_strategies(number: int) -> str:
    return str(number)


@resilient(
    retry=3,
    timeout=30,
    attempt_timeout=10.5,
    breaker="openai",
    bulkhead=8,
    gate=30,
    rate_limit="60/min",
    fallback=lambda error, number: "",
    name="by-options",
)
async def by_options(number: int) -> str:
    return str(number)


@resilient(retry=Retry(5), breaker=CircuitBreaker("own"), rate_limit=RateLimit(5), bulkhead=Bulkhead(2), timeout=None)
def by_objects(number: int) -> str:
    return str(number)


async def use_resilient() -> None:
    assert_type(await by_policy(1), str)
    assert_type(by_strategies(1), str)
    assert_type(await by_options(1), str)
    assert_type(by_objects(1), str)
    await by_policy("1")  # type: ignore[arg-type]
    by_strategies()  # type: ignore[call-arg]
    await by_options(number="1")  # type: ignore[arg-type]


resilient(retry="3")  # type: ignore[call-overload]
resilient(retries=3)  # type: ignore[call-overload]
resilient(breaker=1.5)  # type: ignore[call-overload]
resilient(bulkhead="8")  # type: ignore[call-overload]
