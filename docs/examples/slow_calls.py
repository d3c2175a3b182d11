"""Five calls that are slow, each for a reason of its own.

`python docs/examples/slow_calls.py` makes them and sends their spans wherever `OTEL_EXPORTER_OTLP_ENDPOINT` says, or
appends them to the file that is named as its argument. The last one needs `pip install openai`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from resilient_agents import Bulkhead, Policy, Retry, Timeout, fixed, telemetry


class Refused(Exception):
    """What a client library raises: a status, and what the server said about coming back."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status
        self.retry_after = retry_after


async def work(*answers: Exception | float) -> str:
    """Take a while: so many seconds, or 50 ms before an error."""
    answer = answers[0]
    await asyncio.sleep(0.05 if isinstance(answer, Exception) else answer)
    if isinstance(answer, Exception):
        raise answer
    return "ok"


def answering(*answers: Exception | float) -> Callable[[], Awaitable[str]]:
    """A function that answers so, one after the other."""
    left = iter(answers)
    return lambda: work(next(left))


async def retry_after() -> None:
    """The server says that it wants to be left alone for two seconds."""
    policy = Policy(Retry(3), name="1 told to wait")
    await policy.acall(answering(Refused(429, retry_after=2.0), 0.15))


async def backoff() -> None:
    """The server is overloaded, and the policy waits longer each time."""
    policy = Policy(Retry(4, wait=lambda state: 0.3 * 2**state.attempt_number), name="2 backing off")
    await policy.acall(answering(Refused(503), Refused(503), 0.15))


async def queue() -> None:
    """Another call has the only slot."""
    slot = Bulkhead(1)
    async with asyncio.TaskGroup() as group:
        group.create_task(Policy(slot, name="another call").acall(asyncio.sleep, 1.6))
        await asyncio.sleep(0.05)
        await Policy(Retry(3), slot, name="3 in line").acall(answering(0.15))


async def cut_off() -> None:
    """The first attempt hangs until its time limit ends it."""
    policy = Policy(Retry(3, wait=fixed(0.1)), Timeout(1.5), name="4 hanging")
    await policy.acall(answering(60.0, 0.15))


async def inner_retries() -> None:
    """The SDK inside tries again by itself, twice, before the policy hears of anything."""
    import openai

    with serving(fail=3) as url:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=2) as client:
            policy = Policy(Retry(3, wait=fixed(0.1)), name="5 retried inside")
            await policy.acall(client.models.list)


SHAPES = {
    "wait retry_after": retry_after,
    "wait backoff": backoff,
    "wait bulkhead": queue,
    "attempt 1": cut_off,
    "attempt 1, which says inner_retries": inner_retries,
}
"""By the longest span of ours that has no other of ours below it."""


@contextlib.contextmanager
def serving(fail: int) -> Generator[str]:
    """A model server on this machine that fails so often and asks for 0.6 s each time."""
    left = [fail]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left[0] -= 1
            body = json.dumps({"object": "list", "data": []}).encode()
            self.send_response(200 if left[0] < 0 else 503)
            self.send_header("retry-after-ms", "600")
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def main() -> None:
    """One after the other."""
    for shape in SHAPES.values():
        await shape()


if __name__ == "__main__":
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

    exporter: SpanExporter
    if len(sys.argv) > 1:
        from resilient_agents.trace.exporter import JsonLinesExporter

        exporter = JsonLinesExporter(sys.argv[1])
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    telemetry.configure(openinference=True)  # for Phoenix, where OpenInference is not in the process
    asyncio.run(main())
    provider.shutdown()
