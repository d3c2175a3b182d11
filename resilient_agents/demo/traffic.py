"""The traffic: what an agent, its tools and its token streams ask of the server, and when."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import httpx

__all__ = ["KINDS", "PATHS", "TITLES", "Arrival", "Kind", "chat", "chat_backup", "schedule", "search", "tokens",
           "tokens_after"]  # fmt: skip

Kind = Literal["agent", "tool", "tokens"]

KINDS: tuple[Kind, ...] = ("agent", "tool", "tokens")
TITLES: dict[Kind, str] = {"agent": "async agent", "tool": "tool threads", "tokens": "token stream"}
PATHS: dict[Kind, str] = {"agent": "/chat", "tool": "/search", "tokens": "/stream"}

FAN_OUT = 6  # an agent asks for several things at once


@dataclass(slots=True, frozen=True)
class Arrival:
    """One call. `at`: seconds since the run began; `name` tells the server which call it is."""

    at: float
    kind: Kind
    name: str


def schedule(seed: int, seconds: float) -> list[Arrival]:
    """All calls of a run in the order they begin, whether or not those before have come back."""
    chance = random.Random(seed)
    begins: list[tuple[float, Kind]] = []
    rhythm: tuple[tuple[Kind, float, int], ...] = (("agent", 0.3, FAN_OUT), ("tool", 0.07, 1), ("tokens", 0.2, 1))
    for kind, gap, at_once in rhythm:
        at = chance.uniform(0, gap)
        while at < seconds:
            begins.extend((at, kind) for _ in range(at_once))
            at += gap * chance.uniform(0.7, 1.3)
    return [Arrival(at, kind, f"{kind}-{number}") for number, (at, kind) in enumerate(sorted(begins), 1)]


async def chat(client: httpx.AsyncClient, call: str) -> str:
    """What an agent does: ask a model."""
    response = await client.get("/chat", headers={"x-call": call})
    response.raise_for_status()
    return response.text


async def chat_backup(error: Exception | None, client: httpx.AsyncClient, call: str) -> str:
    """What an agent does when the model cannot be had: ask another one."""
    response = await client.get("/backup", headers={"x-call": call})
    response.raise_for_status()
    return response.text


def search(client: httpx.Client, call: str) -> str:
    """What a tool does, in a thread: ask a service and block."""
    response = client.get("/search", headers={"x-call": call})
    response.raise_for_status()
    return response.text


async def tokens(client: httpx.AsyncClient, call: str, begin: int = 0) -> AsyncIterator[str]:
    """What a chat window does: show tokens as they come."""
    async with client.stream("GET", "/stream", params={"from": begin}, headers={"x-call": call}) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                return
            if line:
                yield line.removeprefix("data: ")
    raise ConnectionError("the stream ended without [DONE]")


def tokens_after(seen: list[str], client: httpx.AsyncClient, call: str) -> AsyncIterator[str]:
    """What it does when they stop in the midst: ask for those that are missing."""
    return tokens(client, call, len(seen))
