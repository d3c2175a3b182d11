"""The misbehaving HTTP server: loopback only, in a thread and event loop of its own.

    GET /chat, /search    one JSON answer
    GET /stream           a stream of tokens (server-sent events, ended by `[DONE]`)
    GET /backup           a second, healthy model

A client names its call in the header `x-call`, so that the server can tell a first try from the next.
All state belongs to the server's thread; other threads read counters and set the outage.
"""

from __future__ import annotations

import asyncio
import http
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from resilient_agents.demo.faults import HEALTHY, Fault, Outage, draw

__all__ = ["TOKENS", "Server"]

TOKENS = 12
TOKEN_GAP = 0.015
LONGEST_HEAD = 16_384
# Close with a reset: linger for no time at all. Windows has two shorts here, everybody else two ints.
RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)


class Server:
    """`with Server(seed=1) as server:` serves on `server.url` until the block ends. OSError if it cannot listen."""

    def __init__(self, *, seed: int, faults: bool = True) -> None:
        self.seed = seed
        self.faults = faults
        self.url = ""
        self.outage: Outage | None = None
        self.requests: Counter[str] = Counter()
        self.during_outage: Counter[str] = Counter()
        self._arrivals: Counter[tuple[str, str]] = Counter()
        self._began = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="demo-server", daemon=True)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def begin(self, outage: Outage | None = None) -> None:
        """Start a run: counters, arrivals and the clock begin anew. Call it while nothing is in flight."""
        self.requests.clear()
        self.during_outage.clear()
        self._arrivals.clear()
        self.outage = outage
        self._began = time.monotonic()

    @property
    def down(self) -> bool:
        """Is the outage going on?"""
        return self.outage is not None and self.outage.covers(time.monotonic() - self._began)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._accept, sock=self._listener, limit=LONGEST_HEAD):
            await self._stop.wait()
            for handler in self._handlers:
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.ensure_future(self._handle(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not await self._answer(head.decode("latin-1"), writer):
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, as clients with time limits do
        finally:
            writer.transport.abort()

    async def _answer(self, head: str, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. False when the connection must not be used again."""
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method != "GET" or path not in ("/chat", "/search", "/stream", "/backup"):
            await _send(writer, 404 if method == "GET" else 400, "{}")
            return True
        fault = self._fate(path, headers.get("x-call", ""))
        if fault.kind == "reset":
            _reset(writer)
            return False
        if fault.kind in ("rate_limit", "error", "unavailable"):
            status = {"rate_limit": 429, "error": 500}.get(fault.kind, 503)
            extra = f"Retry-After: {fault.seconds:g}\r\n" if fault.kind == "rate_limit" else ""
            await _send(writer, status, "{}", extra)
            return True
        if path == "/stream":
            return await self._stream(fault, writer)
        think = random.Random(f"{self.seed} {path} {headers.get('x-call')}").uniform(0.02, 0.06)
        await asyncio.sleep(fault.seconds if fault.kind == "slow" else think)
        await _send(writer, 200, '{"answer": "42"}')
        return True

    def _fate(self, path: str, call: str) -> Fault:
        self.requests[path] += 1
        self._arrivals[path, call] += 1
        down = self.down
        if down:
            self.during_outage[path] += 1
        if path == "/backup" or not self.faults:
            return HEALTHY
        return draw(self.seed, path, call, self._arrivals[path, call], stream=path == "/stream", down=down)

    async def _stream(self, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await writer.drain()
        for number in range(TOKENS):
            await asyncio.sleep(TOKEN_GAP)
            if fault.kind == "no_token" or (fault.kind == "break" and number == fault.at) or self.down:
                _reset(writer)
                return False
            writer.write(_chunk(f"data: token{number}\n\n"))
            await writer.drain()
        writer.write(_chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return True


async def _send(writer: asyncio.StreamWriter, status: int, body: str, extra: str = "") -> None:
    head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{extra}"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    await writer.drain()


def _chunk(text: str) -> bytes:
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
