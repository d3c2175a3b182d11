"""The budget of a run against the server's own bill: agents three policies deep, through real clients, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socketserver
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from resilient_agents import BudgetExceededError, Fallback, Policy, Retry, fixed, run_budget
from resilient_agents.events import AttemptStarted
from resilient_agents.run_budgets.usage import usage_of
from tests.conftest import Events

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
redis = pytest.importorskip("redis.asyncio")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # older ones warn of themselves when they are imported
    try:
        from google import genai  # pyright: ignore[reportMissingImports]  # no part of the test extra
    except ImportError:
        genai = None

QUESTION: Any = [{"role": "user", "content": "hi"}]
MOST = 60
"""Tokens of the largest answer."""


def used(result: Any) -> Any:
    """Of a store nothing."""
    return 0 if isinstance(result, bytes) else usage_of(result)


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
        elif "generateContent" in self.path:
            self.answer(200, json.dumps(content(*usage)))
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


class Store(socketserver.ThreadingTCPServer):
    """A redis server that three of ten times is still loading; it bills nothing."""

    daemon_threads = True

    def __init__(self, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Commands)
        self.draw = random.Random(f"store {seed}")
        self.requests = 0


class Commands(socketserver.StreamRequestHandler):
    server: Store  # pyright: ignore[reportIncompatibleVariableOverride]  # the server that there is

    def handle(self) -> None:
        while first := self.rfile.readline():
            words: list[bytes] = []
            for _ in range(int(first[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2])
            if words[0] != b"GET":  # what a client says of itself
                self.wfile.write(b"+OK\r\n")
                continue
            self.server.requests += 1
            failed = self.server.draw.random() < 0.3
            self.wfile.write(b"-LOADING not yet\r\n" if failed else b"$2\r\nhi\r\n")


def content(going_in: int, coming_out: int) -> dict[str, Any]:
    counted = {"promptTokenCount": going_in, "candidatesTokenCount": coming_out}
    said = [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}]
    return {"candidates": said, "usageMetadata": {**counted, "totalTokenCount": going_in + coming_out}}


def message(going_in: int, coming_out: int) -> dict[str, Any]:
    whole = {"id": "x", "type": "message", "role": "assistant", "model": "claude", "content": []}
    usage = {"input_tokens": going_in, "output_tokens": coming_out}
    return {**whole, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as running, serving(running):
        yield running


@pytest.fixture
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with Store(request.param) as running, serving(running):
        yield running


@contextlib.contextmanager
def serving(running: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield
    running.shutdown()
    thread.join()


class Agents:
    """A tree of agents: each asks models, a store and other agents, at the same time, each call under a policy."""

    def __init__(self, url: str, store: int, seed: int) -> None:
        self.draw = random.Random(f"agents {seed}")
        self.gpt = openai.AsyncOpenAI(api_key="x", base_url=url, max_retries=0)
        self.claude = anthropic.AsyncAnthropic(api_key="x", base_url=url, max_retries=0)
        self.gemini = None if genai is None else genai.Client(api_key="x", http_options={"base_url": url}).aio
        self.store = redis.Redis(port=store, retry=None)
        self.model = Policy(Retry(3, wait=fixed(0)), name="model")
        self.chain = Policy(Fallback(to=[(self.ask_claude, self.model), self.ask_store]), Retry(2, wait=fixed(0)))
        self.agent = Policy(Retry(1), name="agent")
        self.told = Events()
        self.model.observe(self.told)
        self.chain.observe(self.told)

    async def close(self) -> None:
        await self.gpt.close()
        await self.claude.close()
        await getattr(self.store, "aclose", self.store.close)()  # before redis 5.0.1 it was `close`
        if self.gemini is not None:
            await self.gemini.aclose()

    async def ask_gpt(self) -> Any:
        return await self.gpt.chat.completions.create(model="gpt-5", messages=QUESTION)

    async def ask_claude(self) -> Any:
        return await self.claude.messages.create(model="claude", messages=QUESTION, max_tokens=30)

    async def ask_gemini(self) -> Any:
        if self.gemini is None:
            return await self.ask_gpt()
        return await self.gemini.models.generate_content(model="gemini", contents="hi")

    async def ask_store(self) -> Any:
        return await self.store.get("key")

    async def ask(self) -> None:
        kind = self.draw.randrange(6)
        if kind < 4:
            alone = [self.ask_gpt, self.ask_claude, self.ask_gemini, self.ask_store]
            await self.model.acall(alone[kind])
        elif kind == 4:
            await self.chain.acall(self.ask_gpt)
        else:
            options: Any = {"stream": True, "stream_options": {"include_usage": True}}
            create = self.gpt.chat.completions.create
            async for _ in self.model.stream(create, model="gpt-5", messages=QUESTION, **options):
                pass

    async def run(self, depth: int) -> str:
        """Goes on when a part of it failed for good, but not when the budget is spent."""
        parts = [
            self.agent.acall(self.run, depth - 1) if depth and self.draw.random() < 0.5 else self.ask()
            for _ in range(self.draw.randint(1, 5))
        ]
        ended = await asyncio.gather(*parts, return_exceptions=True)
        for error in ended:
            if isinstance(error, BudgetExceededError):
                raise error
        return "done"


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")  # google-genai's own
@pytest.mark.parametrize(("server", "store", "seed"), [(n, n, n) for n in range(5)], indirect=["server", "store"])
@pytest.mark.parametrize("limit", [100_000, 900])
def test_the_budget_is_the_servers_bill(server: Server, store: Store, seed: int, limit: int) -> None:
    """Requests are the attempts that were told, tokens those that were billed; under an estimate that is never too low
    nothing is overspent."""

    async def main() -> Any:
        agents = Agents(f"http://127.0.0.1:{server.server_port}", store.server_address[1], seed)
        try:
            with run_budget(tokens=limit, attempts=10_000, estimate=lambda *_, **__: MOST, usage=used) as run:
                for _ in range(6):
                    with contextlib.suppress(BudgetExceededError):
                        await agents.agent.acall(agents.run, 4)
            return run, len(agents.told.of(AttemptStarted))
        finally:
            await agents.close()

    run, told = asyncio.run(main())
    assert told == server.requests + store.requests
    assert min(server.requests, store.requests) > 0
    assert run.spent.tokens == server.billed <= limit
    assert run.left.tokens == limit - server.billed
    if limit == 900:
        assert server.billed > 900 - 20 * MOST
