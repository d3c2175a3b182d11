"""A server on loopback that speaks the event streams of openai and anthropic, and breaks them off as it is told."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

__all__ = [
    "END",
    "RESET",
    "STALL",
    "Server",
    "answering",
    "chat_events",
    "message_events",
    "response_events",
    "serving",
]

END: Final = "end"
"""The connection closes: a clean end."""

RESET: Final = "reset"
STALL: Final = "stall"

Part = bytes | str | float
Handler = Callable[[str, dict[str, Any]], tuple[int, list[Part]]]


class Server:
    """`requests`: the bodies it was sent. `handler(path, body)` says with what status and parts it answers, and
    `retry_after` with what header it refuses (seconds)."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.retry_after = 0
        self.requests: list[dict[str, Any]] = []
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                received += (more := connection.recv(65536))
                if not more:
                    return
            head, _, body = received.partition(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
            )
            while len(body) < length:
                body += connection.recv(65536)
            asked = json.loads(body or b"{}")
            self.requests.append(asked)
            status, parts = self.handler(head.split(b" ", 2)[1].decode(), asked)
            kind = "text/event-stream" if status == 200 else f"application/json\r\nretry-after: {self.retry_after}"
            connection.sendall(f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n".encode())
            for part in parts:
                if isinstance(part, bytes):
                    connection.sendall(part)
                elif part == RESET:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                elif part == STALL:
                    self._over.wait(30)
                elif isinstance(part, float):
                    self._over.wait(part)


def answering(*answers: list[Any] | int) -> Callable[[str, dict[str, Any]], tuple[int, list[Any]]]:
    """One answer after another, the last again and again; a number is a refusal with that status."""
    left = list(answers)

    def handler(path: str, body: dict[str, Any]) -> tuple[int, list[Any]]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return (answer, [b"{}"]) if isinstance(answer, int) else (200, answer)

    return handler


@contextmanager
def serving(handler: Handler) -> Iterator[Server]:
    server = Server(handler)
    try:
        yield server
    finally:
        server.close()


def _event(data: Any, name: str | None = None) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def chat_events(text: str, *, size: int = 3) -> list[bytes]:
    """The events of a whole chat completion that says `text`."""

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return _event({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices})

    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    return [chunk({"role": "assistant", "content": ""}), *[chunk({"content": p}) for p in pieces], chunk({}, "stop"),
            _event("[DONE]")]  # fmt: skip


def message_events(text: str, *, size: int = 3) -> list[bytes]:
    """The same of an anthropic message."""
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None,
             "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": p}} for p in pieces],
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    return [_event(event, event["type"]) for event in events]


def response_events(text: str, *, size: int = 3) -> list[bytes]:
    """The same of an openai Response."""
    body = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [], "parallel_tool_calls": False,
            "tool_choice": "auto", "tools": [], "status": "in_progress"}  # fmt: skip
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": body},
        *[{"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": p,
           "logprobs": []} for p in pieces],
        {"type": "response.completed", "response": {**body, "status": "completed"}},
    ]  # fmt: skip
    return [_event({**event, "sequence_number": n}, event["type"]) for n, event in enumerate(events)]
