"""An OTLP/HTTP receiver in a process of its own: `python receiver.py`.

It prints its port, decodes what is posted to `/v1/traces` and `/v1/metrics` with the protobuf classes of the
specification, and hands back as JSON on `GET /` all that it received.
"""

from __future__ import annotations

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
received: dict[str, list[Any]] = {path: [] for path in REQUESTS}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        request = REQUESTS[self.path]()
        request.ParseFromString(body)
        received[self.path].append(MessageToDict(request))
        self.answer(b"")

    def do_GET(self) -> None:
        self.answer(json.dumps(received).encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    print(server.server_port, flush=True)  # noqa: T201 - the parent reads it
    server.serve_forever()
