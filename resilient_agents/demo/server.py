"""The misbehaving HTTP server: loopback only, in a thread and event loop of its own.

    GET /chat, /search    one JSON answer
    GET /stream           a stream of tokens (server-sent events, ended by `[DONE]`); `?from=3` leaves out the first 3
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
STALL = 3.0  # seconds without a token, and then none any more
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
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
        self.tokens = 0  # sent
        self.left_out = 0  # not sent again to readers who had them
        self._arrivals: Counter[tuple[str, str]] = Counter()
        self._began = time.monotonic()
        # Not the platform's own choice: it reads plain sockets everywhere, and leaves a user's uvloop alone.
        self._loop = asyncio.SelectorEventLoop()
        self._stop = asyncio.Event()
        self._handlers: set[asyncio.Task[None]] = set()
        self._listener = socket.socket()
        self._thread = threading.Thread(target=self._run, name="demo-server", daemon=True)

    def __enter__(self) -> Self:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(256)
        self._listener.setblocking(False)
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
        self.tokens = self.left_out = 0
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
        with self._listener as listener:
            self._loop.add_reader(listener, self._accept, listener)
            await self._stop.wait()
            self._loop.remove_reader(listener)
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # it went away before we came
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler = self._loop.create_task(self._handle(connection))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        # Not in a `finally` of the handler: one that is cancelled before it starts would never get there.
        handler.add_done_callback(lambda _: connection.close())

    async def _handle(self, connection: socket.socket) -> None:
        try:
            while head := await self._head(connection):
                if not await self._answer(head, connection):
                    return
        except OSError:
            pass  # the client went away, as clients with time limits do

    async def _head(self, connection: socket.socket) -> str:
        """The next request's head; "" when the client is done or talks nonsense. GET has no body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            received = await self._loop.sock_recv(connection, 4096)
            head += received
            if not received or len(head) > LONGEST_HEAD:
                return ""
        return head.decode("latin-1")

    async def _answer(self, head: str, connection: socket.socket) -> bool:
        """Answer one request. False when the connection must not be used again."""
        request, *lines = head.split("\r\n")
        method, _, rest = request.partition(" ")
        path, _, query = rest.partition(" ")[0].partition("?")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if method != "GET" or path not in ("/chat", "/search", "/stream", "/backup"):
            await self._send(connection, 404 if method == "GET" else 400, "{}")
            return True
        fault = self._fate(path, headers.get("x-call", ""))
        if fault.kind == "reset":
            _reset(connection)
            return False
        if fault.kind in ("rate_limit", "error", "unavailable"):
            status = {"rate_limit": 429, "error": 500}.get(fault.kind, 503)
            extra = f"Retry-After: {fault.seconds:g}\r\n" if fault.kind == "rate_limit" else ""
            await self._send(connection, status, "{}", extra)
            return True
        if path == "/stream":
            begin = query.removeprefix("from=")
            return await self._stream(fault, connection, int(begin) if begin.isdecimal() else 0)
        think = random.Random(f"{self.seed} {path} {headers.get('x-call')}").uniform(0.02, 0.06)
        await asyncio.sleep(fault.seconds if fault.kind == "slow" else think)
        await self._send(connection, 200, '{"answer": "42"}')
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

    async def _stream(self, fault: Fault, connection: socket.socket, begin: int) -> bool:
        await self._loop.sock_sendall(connection, STREAM_HEAD)
        for number in range(begin, TOKENS):
            await asyncio.sleep(TOKEN_GAP)
            ends = number == max(fault.at, begin)
            if fault.kind == "no_token" or (fault.kind == "break" and ends) or self.down:
                _reset(connection)
                return False
            if fault.kind == "stall" and ends:
                await asyncio.sleep(STALL)
                _reset(connection)
                return False
            if fault.kind == "truncate" and ends:
                await self._loop.sock_sendall(connection, b"0\r\n\r\n")
                return True
            await self._loop.sock_sendall(connection, _chunk(f"data: token{number}\n\n"))
            self.tokens += 1
            self.left_out += begin if number == begin else 0
        await self._loop.sock_sendall(connection, _chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
        return True

    async def _send(self, connection: socket.socket, status: int, body: str, extra: str = "") -> None:
        head = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{extra}"
        answer = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        await self._loop.sock_sendall(connection, answer)


def _chunk(text: str) -> bytes:
    return f"{len(text.encode()):x}\r\n{text}\r\n".encode()


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
