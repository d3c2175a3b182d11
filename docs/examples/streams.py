"""Four stories of streams, against the server of `resilient-agents demo`, which stalls, ends early and breaks off.

python docs/examples/streams.py
"""

from __future__ import annotations

import asyncio

import httpx

from resilient_agents import (
    Policy,
    Resume,
    Retry,
    StreamTimeout,
    StreamTimeoutError,
    StreamTruncatedError,
    fixed,
    opened,
    sse_done,
)
from resilient_agents.demo.faults import draw
from resilient_agents.demo.server import Server
from resilient_agents.demo.traffic import tokens, tokens_after

SEED = 1


def call_that_meets(*fates: str) -> str:
    """The name of a call whose first request meets the first of these faults, its second one the next, and so on."""
    met = {
        name: tuple(draw(SEED, "/stream", name, n, stream=True, down=False).kind for n in range(1, len(fates) + 1))
        for name in map(str, range(10_000))
    }
    return next(name for name, kinds in met.items() if kinds == fates)


async def stalls(client: httpx.AsyncClient) -> None:
    policy = Policy(StreamTimeout(first_item=1, idle=0.3), name="model")
    try:
        async for _ in policy.stream(tokens, client, call_that_meets("stall")):
            pass
    except StreamTimeoutError as error:
        print("stall:", error)


async def ends_early(client: httpx.AsyncClient) -> None:
    policy = Policy(StreamTimeout(idle=1, complete=sse_done), name="model")
    lines = opened(client.stream, items=lambda response: response.aiter_lines())
    try:
        async for _ in policy.stream(lines, "GET", "/stream", headers={"x-call": call_that_meets("truncate")}):
            pass
    except StreamTruncatedError as error:
        print("truncation:", str(error).partition(";")[0])


async def begins_badly(client: httpx.AsyncClient, server: Server) -> None:
    policy = Policy(Retry(2, wait=fixed(0.05)), StreamTimeout(first_item=1, idle=1))
    server.begin()
    seen = [token async for token in policy.stream(tokens, client, call_that_meets("no_token", "none"))]
    print("no first token:", len(seen), "tokens after", server.requests["/stream"], "requests")


async def goes_on(client: httpx.AsyncClient, server: Server) -> None:
    policy = Policy(Resume(tokens_after), Retry(2, wait=fixed(0.05)), StreamTimeout(first_item=1, idle=0.3))
    server.begin()
    call = call_that_meets("stall", "break", "none")
    seen = [token async for token in policy.stream(tokens, client, call)]
    print("broken off:", len(set(seen)), "tokens after", server.requests["/stream"], "requests, sent:", server.tokens)


async def main() -> None:
    with Server(seed=SEED) as server:
        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
            await stalls(client)
            await ends_early(client)
            await begins_badly(client, server)
            await goes_on(client, server)


if __name__ == "__main__":
    asyncio.run(main())
