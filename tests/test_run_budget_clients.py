"""The budget of a run against the server's own bill: agents three policies deep, through real clients, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from resilient_agents import BudgetExceededError, Policy, Retry, fixed, run_budget
from resilient_agents.events import AttemptStarted
from tests.conftest import Events

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

MOST = 60
"""Tokens of the largest answer."""


class Server(ThreadingHTTPServer):
    """Counts requests and the tokens that it bills; three of ten requests fail."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.draw = random.Random(f"server {seed}")
        self.counting = threading.Lock()
        self.requests = self.billed = 0

    def bill(self) -> tuple[int, int] | None:
        """Tokens in and out of one more answer; None for a failure."""
        with self.counting:
            self.requests += 1
            if self.draw.random() < 0.3:
                return None
            going_in, coming_out = self.draw.randint(1, 30), self.draw.randint(1, 30)
            self.billed += going_in + coming_out
            return going_in, coming_out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]  # the server that there is

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        usage = self.server.bill()
        if usage is None:
            self.answer(500, json.dumps({"error": {"message": "down"}}))
        elif "messages" in self.path:
            self.answer(200, json.dumps(message(*usage)))
        elif request.get("stream"):
            chunks = [chunk(), chunk(*usage)]
            body = "".join(f"data: {json.dumps(item)}\n\n" for item in chunks) + "data: [DONE]\n\n"
            self.answer(200, body, "text/event-stream")
        else:
            self.answer(200, json.dumps({**chunk(*usage), "object": "chat.completion"}))

    def answer(self, status: int, body: str, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def chunk(going_in: int = 0, coming_out: int = 0) -> dict[str, Any]:
    whole = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5", "choices": []}
    tokens = {"prompt_tokens": going_in, "completion_tokens": coming_out, "total_tokens": going_in + coming_out}
    return {**whole, "usage": tokens if going_in else None}


def message(going_in: int, coming_out: int) -> dict[str, Any]:
    whole = {"id": "x", "type": "message", "role": "assistant", "model": "claude", "content": []}
    usage = {"input_tokens": going_in, "output_tokens": coming_out}
    return {**whole, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Agents:
    """A tree of agents: each asks models and other agents, at the same time, each call under a policy."""

    def __init__(self, url: str, seed: int) -> None:
        self.draw = random.Random(f"agents {seed}")
        self.gpt = openai.AsyncOpenAI(api_key="x", base_url=url, max_retries=0)
        self.claude = anthropic.AsyncAnthropic(api_key="x", base_url=url, max_retries=0)
        self.model = Policy(Retry(3, wait=fixed(0)), name="model")
        self.agent = Policy(Retry(1), name="agent")
        self.told = Events()
        self.model.observe(self.told)

    async def close(self) -> None:
        await self.gpt.close()
        await self.claude.close()

    async def ask(self) -> None:
        content: Any = [{"role": "user", "content": "hi"}]
        kind = self.draw.randrange(3)
        if kind == 0:
            await self.model.acall(self.gpt.chat.completions.create, model="gpt-5", messages=content)
        elif kind == 1:
            await self.model.acall(self.claude.messages.create, model="claude", messages=content, max_tokens=30)
        else:
            options: Any = {"stream": True, "stream_options": {"include_usage": True}}
            create = self.gpt.chat.completions.create
            async for _ in self.model.stream(create, model="gpt-5", messages=content, **options):
                pass

    async def run(self, depth: int) -> str:
        """Goes on when a part of it failed for good, but not when the budget is spent."""
        parts = [
            self.agent.acall(self.run, depth - 1) if depth and self.draw.random() < 0.5 else self.ask()
            for _ in range(self.draw.randint(1, 4))
        ]
        ended = await asyncio.gather(*parts, return_exceptions=True)
        for error in ended:
            if isinstance(error, BudgetExceededError):
                raise error
        return "done"


@pytest.mark.parametrize(("server", "seed"), [(seed, seed) for seed in range(5)], indirect=["server"])
@pytest.mark.parametrize("limit", [100_000, 900])
def test_the_budget_is_the_servers_bill(server: Server, seed: int, limit: int) -> None:
    """Requests are the attempts that were told, tokens those that were billed; under an estimate that is never too low
    nothing is overspent."""

    async def main() -> Any:
        agents = Agents(f"http://127.0.0.1:{server.server_port}", seed)
        try:
            with run_budget(tokens=limit, attempts=10_000, estimate=lambda *_, **__: MOST) as run:
                for _ in range(6):
                    with contextlib.suppress(BudgetExceededError):
                        await agents.agent.acall(agents.run, 4)
            return run, len(agents.told.of(AttemptStarted))
        finally:
            await agents.close()

    run, told = asyncio.run(main())
    assert told == server.requests > 0
    assert run.spent.tokens == server.billed <= limit
    assert run.left.tokens == limit - server.billed
    if limit == 900:
        assert server.billed > 900 - 20 * MOST
