"""Stand-ins for client libraries' errors, and a loopback server that gives the real ones something to fail on."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import struct
import threading
from collections.abc import Generator
from typing import Any


def foreign(name: str, *bases: type, **attributes: Any) -> type[Any]:
    """A class as a client library has it: `foreign("openai.RateLimitError", status_code=429)`."""
    module, _, name = name.rpartition(".")
    return type(name, bases or (Exception,), {"__module__": module, **attributes})


class Response:
    """A response with what httpx, requests and aiohttp have in common; falsy as requests' is on 4xx and 5xx."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.headers = headers or {}

    def __bool__(self) -> bool:
        return self.status_code < 400


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        what = self.path.split("/")[1]
        if what == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif what == "garbage":
            self.wfile.write(b"garbage\r\n\r\n")
            self.close_connection = True
        else:
            status, _, code = what.partition("-")
            body = json.dumps({"error": {"code": code or None, "type": "some_type", "message": "a message"}}).encode()
            self.send_response(int(status))
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "7")
            self.end_headers()
            self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the reset breaks the handler too, as it must


@contextlib.contextmanager
def misbehaving() -> Generator[str, None, None]:
    """The base URL of a server: `/reset`, `/garbage`, or `/<status>[-<error code>]` with `retry-after: 7`."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
