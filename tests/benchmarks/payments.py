"""`python -m tests.benchmarks.payments [orders]`: a payment server on loopback that commits and then drops answers.

Prints what it did: how many orders it has paid for, how many of them twice, and how many callers were told of a payment
that there is not, or not told of one that there is.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from resilient_agents import Hedge, Policy, Retry, fixed, idempotency_key

__all__ = ["MODES", "Bank", "Outcome", "pay_all"]

DROPPED = 0.3
LOST = REFUSED = 0.05
SLOW = 0.1

Ask = Callable[[str, int, str], Awaitable[int | None]]
"""Sends (verb, order, key) and has the answer: the order that is paid for, 0 where there is none."""


class Bank:
    """Pays for orders. A key that it knows is answered as before; without one each request is a payment."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(f"bank {seed}")
        self.payments: collections.Counter[int] = collections.Counter()
        self.requests = 0
        self._known: dict[str, int] = {}

    def arrives(self) -> bool:
        return self.draw.random() >= LOST

    def refuses(self) -> bool:
        return self.draw.random() < REFUSED

    def seconds(self) -> float:
        return 1.0 if self.draw.random() < SLOW else 0.0

    def do(self, verb: str, order: int, key: str) -> int | None:
        """The answer, None for one that is dropped. What is answered stands."""
        self.requests += 1
        answer = -1
        if verb == "find":
            answer = order if self.payments[order] else 0
        elif key in self._known:
            answer = self._known[key]
        else:
            self.payments[order] += 1
            answer = order
            if key:
                self._known[key] = order
        return None if self.draw.random() < DROPPED else answer

    async def ask(self, verb: str, order: int, key: str) -> int | None:
        """A request without a network, in virtual time."""
        if self.refuses():
            raise ConnectionRefusedError("refused")
        if not self.arrives():
            raise ConnectionResetError("lost on its way there")
        answer = self.do(verb, order, key)
        if seconds := self.seconds():
            await anyio.sleep(seconds)
        if answer is None:
            raise ConnectionResetError("lost on its way back")
        return answer


class Outcome:
    """What the callers know in the end: `paid`, and `unknown` for those that were told so."""

    def __init__(self) -> None:
        self.paid: set[int] = set()
        self.unknown: set[int] = set()
        self.failed: set[int] = set()


def _policy(mode: str, ask: Ask) -> tuple[Policy, Callable[[int], Awaitable[int | None]]]:
    repeats = (Retry(30, wait=fixed(0)), Hedge(0.1))
    if "key" in mode:

        async def pay(order: int) -> int | None:
            return await ask("pay", order, idempotency_key())

        return Policy(*repeats, idempotent=False), pay

    async def plainly(order: int) -> int | None:
        return await ask("pay", order, "")

    if "reconcile" in mode:

        async def find(order: int) -> int | None:
            return await ask("find", order, "") or None

        return Policy(*repeats, reconcile=find), plainly
    return Policy(*repeats, idempotent=False), plainly


MODES = ["idempotency_key", "reconcile", "idempotent=False alone"]


async def pay_all(mode: str, ask: Ask, orders: int, at_once: int = 100) -> Outcome:
    """Pay for orders 1 to `orders`, so many at a time."""
    policy, pay = _policy(mode, ask)
    guarded, outcome, numbers = policy(pay), Outcome(), iter(range(1, orders + 1))

    async def customer() -> None:
        for order in numbers:
            try:
                assert await guarded(order) == order
                outcome.paid.add(order)
            except ConnectionError as error:
                said = "unknown_outcome=True" in str(getattr(error, "__notes__", ""))
                (outcome.unknown if said else outcome.failed).add(order)

    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(customer)
    return outcome


@contextlib.asynccontextmanager
async def loopback(bank: Bank) -> AsyncIterator[Ask]:
    """The bank behind a socket: a line for a request, a line for the answer, or a connection that is closed."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError), contextlib.closing(writer):
            while line := await reader.readline():
                verb, order, key = line.decode().rstrip("\n").split(" ")
                answer = bank.do(verb, int(order), key) if bank.arrives() else None
                await asyncio.sleep(bank.seconds() / 5)
                if answer is None:
                    break
                writer.write(b"%d\n" % answer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    closed = _closed_port()
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(verb: str, order: int, key: str) -> int | None:
        if bank.refuses():
            await asyncio.open_connection("127.0.0.1", closed)
        reader, writer = idle.pop() if idle else await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(f"{verb} {order} {key}\n".encode())
            line = await reader.readline()
        except BaseException:
            writer.close()
            raise
        if not line:
            writer.close()
            raise ConnectionResetError("closed without an answer")
        idle.append((reader, writer))
        return int(line)

    try:
        yield ask
    finally:
        for _, writer in idle:
            writer.close()
        server.close()


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def _main(orders: int) -> None:
    for mode in MODES:
        bank, began = Bank(0), time.monotonic()
        async with loopback(bank) as ask:
            outcome = await pay_all(mode, ask, orders)
        twice = sum(1 for count in bank.payments.values() if count > 1)
        there = set(bank.payments)
        wrong = len(outcome.paid - there) + len(there - outcome.paid - outcome.unknown)
        print(
            f"{mode}: {len(there)} paid for, {twice} twice, {wrong} callers wrong, {len(outcome.unknown)} told that "
            f"nobody knows; {bank.requests} requests in {time.monotonic() - began:.1f} s"
        )


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
