"""`python -m tests.benchmarks.herd [seeds]`: 200 tasks and 20 threads through one policy, against a server on loopback
that takes ten requests a second and answers the others 429 with a Retry-After.

Prints for each seed how many calls came through, how many requests were begun between hearing a 429 and the time that
it named, the most that came in any second after the first such time, and how long it took beside what it must. In real
time, half a minute each. The suite does the same in virtual time (tests/test_gate.py).
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import anyio.from_thread

from resilient_agents import Gate, Policy, Retry, fixed

TASKS, THREADS = 200, 20
REQUEST, END = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n\r\n"
RATE = 10
JUST = 0.02
"""Seconds from hearing a 429 to everybody's knowing it, in threads that share a busy machine."""


class TooManyRequests(Exception):
    status_code = 429

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class Server:
    """A bucket of ten tokens, ten a second."""

    def __init__(self) -> None:
        self.tokens, self.at = float(RATE), time.monotonic()
        self.asked: list[float] = []
        self.named: list[tuple[float, float]] = []

    def answer(self) -> bytes:
        now = time.monotonic()
        self.tokens, self.at = min(RATE, self.tokens + RATE * (now - self.at)), now
        self.asked.append(now)
        if self.tokens >= 1:
            self.tokens -= 1
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        wait = int((1 - self.tokens) / RATE) + 1
        self.named.append((now, now + wait))
        return b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n" % wait

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while (await reader.readline()).strip():
                pass
            writer.write(self.answer())
        writer.close()

    @property
    def most(self) -> int:
        """Requests in any second after the first time that was named."""
        later = [at for at in self.asked if self.named and at >= self.named[0][1]]
        return max((sum(at <= other < at + 1 for other in later) for at in later), default=0)


@contextmanager
def _running(server: Server) -> Iterator[int]:
    """In a thread of its own. The port where it listens."""
    with anyio.from_thread.start_blocking_portal() as portal:
        listening = portal.call(partial(asyncio.start_server, server.serve, "127.0.0.1", 0, backlog=512))
        yield listening.sockets[0].getsockname()[1]
        portal.call(listening.close)


class Client:
    """Knows when it began what, and when it heard until when to wait."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.begun: list[float] = []
        self.heard: list[tuple[float, float]] = []

    async def ask(self) -> None:
        self.begun.append(time.monotonic())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(REQUEST)
            self.read(await reader.readuntil(END))
        finally:
            writer.close()

    def ask_blocking(self) -> None:
        self.begun.append(time.monotonic())
        with socket.create_connection(("127.0.0.1", self.port)) as connection, connection.makefile("rb") as answer:
            connection.sendall(REQUEST)
            self.read(b"".join(iter(answer.readline, END[2:])))

    def read(self, head: bytes) -> None:
        found = re.search(rb"Retry-After: (\d+)", head)
        if found is not None:
            now, wait = time.monotonic(), int(found[1])
            self.heard.append((now, now + wait))
            raise TooManyRequests(wait)

    @property
    def early(self) -> int:
        """Requests that were begun although it was known that they are to wait."""
        return sum(heard + JUST < at < until for heard, until in self.heard for at in self.begun)


async def _herd(client: Client, seed: int) -> int:
    policy = Policy(Retry(10, wait=fixed(0.1)), Gate())
    draw = random.Random(f"herd {seed}")
    came_through: list[float] = []

    async def task(after: float) -> None:
        await anyio.sleep(after)
        await policy.acall(client.ask)
        came_through.append(after)

    def thread(after: float) -> None:
        time.sleep(after)
        policy.call(client.ask_blocking)
        came_through.append(after)

    workers = anyio.CapacityLimiter(THREADS)
    async with anyio.create_task_group() as group:
        for _ in range(TASKS):
            group.start_soon(task, draw.uniform(0.01, 0.05))
        for _ in range(THREADS):
            group.start_soon(partial(anyio.to_thread.run_sync, limiter=workers), thread, draw.uniform(0.01, 0.05))
    return len(came_through)


def main(seeds: int = 5) -> None:
    for seed in range(seeds):
        server = Server()
        with _running(server) as port:
            client = Client(port)
            began = time.monotonic()
            came_through = asyncio.run(_herd(client, seed))
            took = time.monotonic() - began
        ideal = (TASKS + THREADS - RATE) / RATE
        print(
            f"seed {seed}: {came_through} of {TASKS + THREADS} came through, {len(server.named)} told to wait, "
            f"{client.early} early, at most {server.most} in a second, {took:.1f} s: {took / ideal:.2f} of the ideal",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
