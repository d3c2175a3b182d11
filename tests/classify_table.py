"""What common libraries raise, and what it is: the rows of a test, and of the table in the documentation.

`python -m tests.classify_table` writes the table into docs/pages/classification.md.
Errors are made in the shape that the library gives them, so that no library need be installed.
"""

from __future__ import annotations

import http.client
import json
import smtplib
import urllib.error
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from resilient_agents.classify import Failure
from tests.classify_server import Response, foreign

PAGE = Path(__file__).parents[1] / "docs/pages/classification.md"
BEGIN, END = "<!-- faults -->", "<!-- end of faults -->"


class Row(NamedTuple):
    library: str
    fault: str
    make: Callable[[], BaseException]
    kind: str
    transient: bool
    status: int | None = None
    retry_after: float | None = None
    phase: str | None = None

    def holds(self, failure: Failure) -> bool:
        return self[3:] == (failure.kind, failure.transient, failure.status, failure.retry_after, failure.phase)


def made(
    name: str, *args: Any, base: str | tuple[str, ...] = (), cause: BaseException | None = None, **facts: Any
) -> Any:
    """A function that makes an error: `made("openai.APIError", "no", code=429)`."""

    def make() -> BaseException:
        bases: tuple[type, ...] = ()
        for above in reversed((base,) if isinstance(base, str) else base):
            bases = (foreign(above, *bases),)
        error: BaseException = foreign(name, *bases)(*args)
        error.__dict__.update(facts)
        error.__cause__ = cause
        return error

    return make


def answered(name: str, status: int, headers: dict[str, Any] | None = None, message: str = "no", **facts: Any) -> Any:
    """An error with a response, as most SDKs have it."""
    return made(name, message, status_code=status, response=Response(status, headers), **facts)


def grpc(name: str, details: str = "", *metadata: tuple[str, object]) -> Callable[[], BaseException]:
    def make() -> BaseException:
        error = foreign("grpc._channel._InactiveRpcError", foreign("grpc.RpcError"))()
        error.code = lambda: SimpleNamespace(name=name)
        error.details = lambda: details
        error.trailing_metadata = lambda: metadata
        return error  # type: ignore[no-any-return]

    return make


def aws(code: str, http: int) -> Callable[[], BaseException]:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": http, "HTTPHeaders": {}}}
    return made("botocore.exceptions.ClientError", response=response)


def gave_up(on: str, by: str = "requests") -> Callable[[], BaseException]:
    """urllib3 made some requests again, and what it says of the answers is all that is left of them."""
    error = made("urllib3.exceptions.MaxRetryError", on, reason=made("urllib3.exceptions.ResponseError", on)())
    return error if by == "urllib3" else made("requests.exceptions.RetryError", error())  # type: ignore[no-any-return]


def tunnel(answer: str) -> BaseException:
    """What urllib3 raises where a proxy refuses a tunnel; http.client says so in a bare OSError."""
    told = OSError(f"Tunnel connection failed: {answer}")
    refused = made("urllib3.exceptions.ProxyError", "Unable to connect to proxy", told)()
    gave_up: BaseException = made("urllib3.exceptions.MaxRetryError", "x", reason=refused)()
    return gave_up


def urllib_error(reason: object) -> Callable[[], BaseException]:
    return lambda: urllib.error.URLError(reason)  # type: ignore[arg-type]


def closed(rcvd: int | None, sent: int | None = None) -> Callable[[], BaseException]:
    frames = {name: code and SimpleNamespace(code=code) for name, code in (("rcvd", rcvd), ("sent", sent))}
    return made("websockets.exceptions.ConnectionClosedError", base="websockets.exceptions.ConnectionClosed", **frames)


def in_text(code: str) -> str:
    return "litellm.SomeError: AnthropicException - " + json.dumps({"type": "error", "error": {"type": code}})


def rpc_status(duration: bytes = b"\x08\x02\x10\x80\xca\xb5\xee\x01") -> bytes:
    """A serialized google.rpc.Status with a RetryInfo, of 2 s and 500,000,000 ns if nothing else is said."""

    def message(*fields: tuple[int, bytes]) -> bytes:
        return b"".join(bytes([number << 3 | 2, len(value)]) + value for number, value in fields)

    retry_info = message((1, b"type.googleapis.com/google.rpc.RetryInfo"), (2, message((1, duration))))
    return b"\x08\x08" + message((2, b"no"), (3, retry_info))


REFUSED = ConnectionRefusedError(111, "refused")
PG = "psycopg.OperationalError"
AT = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '
MYSQL = "pymysql.err.OperationalError"
MONGO = "pymongo.errors.OperationFailure"
RATED = ("langchain_core.exceptions.ModelError",)

ROWS: tuple[Row, ...] = (
    Row(
        "any",
        "`code` 429 inside a stream that began with 200",
        made("gateway.StreamError", code=429),
        "rate_limit",
        True,
        429,
    ),
    Row(
        "any",
        "403 with Retry-After",
        answered("client.Error", 403, {"Retry-After": "60"}),
        "rate_limit",
        True,
        403,
        60.0,
    ),
    Row(
        "any", "413 with Retry-After", answered("client.Error", 413, {"Retry-After": "7"}), "rate_limit", True, 413, 7.0
    ),
    Row("any", "403", answered("client.Error", 403), "auth", False, 403),
    Row(
        "any",
        "429, Retry-After joined by a proxy",
        answered("client.Error", 429, {"Retry-After": "30, 120"}),
        "rate_limit",
        True,
        429,
        120.0,
    ),
    Row(
        "any",
        "429, Retry-After sent twice",
        answered("client.Error", 429, {"Retry-After": ["30", "5"]}),
        "rate_limit",
        True,
        429,
        30.0,
    ),
    Row(
        "any",
        '429, `RateLimit: "default";r=0;t=30`',
        answered("client.Error", 429, {"RateLimit": '"default";r=0;t=30'}),
        "rate_limit",
        True,
        429,
        30.0,
    ),
    Row("any", "says `retryable = True`", made("client.Error", retryable=True), "unknown", True),
    Row(
        "openai",
        "429 `insufficient_quota`",
        answered("openai.RateLimitError", 429, code="insufficient_quota"),
        "quota",
        False,
        429,
    ),
    Row(
        "openai",
        "429, requests full again in 6m0s",
        answered("openai.RateLimitError", 429, {"x-ratelimit-reset-requests": "6m0s"}),
        "rate_limit",
        True,
        429,
        360.0,
    ),
    Row(
        "openai",
        "OpenRouter's 429, its headers inside the error",
        answered("openai.RateLimitError", 429, body={"metadata": {"headers": {"X-RateLimit-Reset": "20"}}}),
        "rate_limit",
        True,
        429,
        20.0,
    ),
    Row(
        "openai",
        "error in a stream, code 502",
        made("openai.APIError", "Provider returned error", code=502, type=None, body={"code": 502}),
        "server",
        True,
        502,
    ),
    Row(
        "openai",
        "no connection",
        made("openai.APIConnectionError", cause=made("httpx2.ConnectError", REFUSED, base="httpx2.TransportError")()),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "openai",
        "timeout while connecting",
        made(
            "openai.APITimeoutError",
            base="openai.APIConnectionError",
            cause=made("httpx2.ConnectTimeout", base="httpx2.TimeoutException")(),
        ),
        "timeout",
        True,
        phase="connect",
    ),
    Row("anthropic", "529 overloaded", answered("anthropic.OverloadedError", 529), "overload", True, 529),
    Row(
        "anthropic",
        "`overloaded_error` in a stream",
        made("anthropic.APIStatusError", status_code=200, type="overloaded_error"),
        "overload",
        True,
    ),
    Row(
        "anthropic",
        "400, output blocked by content filtering policy",
        answered("anthropic.BadRequestError", 400, message="Output blocked by content filtering policy"),
        "content_filter",
        False,
        400,
    ),
    Row("anthropic", "`RetryableError`", made("anthropic.RetryableError"), "server", True),
    Row(
        "litellm",
        "400 with `billing_error` in its text",
        answered("litellm.exceptions.BadRequestError", 400, message=in_text("billing_error")),
        "quota",
        False,
        400,
    ),
    Row(
        "litellm",
        "500 with `overloaded_error` in its text",
        answered("litellm.exceptions.InternalServerError", 500, message=in_text("overloaded_error")),
        "overload",
        True,
        500,
    ),
    Row(
        "litellm",
        "500 that was a 529",
        answered(
            "litellm.exceptions.InternalServerError",
            500,
            cause=made("litellm.llms.anthropic.AnthropicError", status_code=529)(),
        ),
        "overload",
        True,
        529,
    ),
    Row(
        "google-genai",
        "429 with `retryDelay`",
        made(
            "google.genai.errors.ClientError",
            code=429,
            status="RESOURCE_EXHAUSTED",
            details={"error": {"details": [{"retryDelay": "1.5s"}]}},
        ),
        "rate_limit",
        True,
        429,
        1.5,
    ),
    Row(
        "google-api-core",
        "429 with a RetryInfo",
        made(
            "google.api_core.exceptions.ResourceExhausted",
            code=429,
            details=[SimpleNamespace(retry_delay=SimpleNamespace(seconds=2, nanos=0))],
        ),
        "rate_limit",
        True,
        429,
        2.0,
    ),
    Row(
        "grpc",
        "RESOURCE_EXHAUSTED with a RetryInfo",
        grpc("RESOURCE_EXHAUSTED", "", ("grpc-status-details-bin", rpc_status())),
        "rate_limit",
        True,
        None,
        2.5,
    ),
    Row(
        "grpc",
        "UNAVAILABLE, failed to connect",
        grpc("UNAVAILABLE", "failed to connect to all addresses"),
        "connection",
        True,
        phase="connect",
    ),
    Row("grpc", "UNAVAILABLE", grpc("UNAVAILABLE", "Socket closed"), "connection", True),
    Row(
        "pydantic-ai",
        "no connection in the pool",
        made("pydantic_ai.exceptions.ModelConnectionError", phase="pool"),
        "connection",
        True,
        phase="pool",
    ),
    Row(
        "langchain-core",
        "`ModelRateLimitError`",
        made("langchain_core.exceptions.ModelRateLimitError", base=RATED, is_retryable=True),
        "rate_limit",
        True,
    ),
    Row(
        "langchain-core",
        "`ModelPermissionDeniedError`",
        made("langchain_core.exceptions.ModelPermissionDeniedError", base=RATED, is_retryable=False),
        "auth",
        False,
    ),
    Row(
        "langchain-core",
        "`ModelTimeoutError`",
        made("langchain_core.exceptions.ModelTimeoutError", base=RATED, is_retryable=True),
        "timeout",
        True,
    ),
    Row(
        "langgraph",
        "`GraphInterrupt`",
        made("langgraph.errors.GraphInterrupt", base="langgraph.errors.GraphBubbleUp"),
        "control",
        False,
    ),
    Row("langgraph", "`NodeTimeoutError`", made("langgraph.errors.NodeTimeoutError"), "timeout", True),
    Row(
        "openai-agents",
        "`ToolTimeoutError`",
        made("agents.exceptions.ToolTimeoutError", base="agents.exceptions.AgentsException"),
        "timeout",
        True,
    ),
    Row(
        "openai-agents",
        "`ModelTimeoutError`",
        made("agents.exceptions.ModelTimeoutError", base="agents.exceptions.AgentsException"),
        "timeout",
        True,
    ),
    Row(
        "celery",
        "`TimeoutError`",
        made("celery.exceptions.TimeoutError", base="celery.exceptions.TaskError"),
        "timeout",
        True,
    ),
    Row("celery", "`Retry`", made("celery.exceptions.Retry", base="celery.exceptions.TaskPredicate"), "control", False),
    Row(
        "httpx", "a full pool", made("httpx.PoolTimeout", base="httpx.TimeoutException"), "timeout", True, phase="pool"
    ),
    Row(
        "httpx",
        "a connection refused",
        made("httpx.ConnectError", base="httpx.TransportError"),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "httpx",
        "a reset while sending",
        made("httpx.WriteError", base="httpx.TransportError"),
        "connection",
        True,
        phase="send",
    ),
    Row(
        "httpx",
        "an answer that does not come",
        made("httpx.ReadTimeout", base="httpx.TimeoutException"),
        "timeout",
        True,
        phase="read",
    ),
    Row(
        "httpx",
        "a proxy that wants to know who asks",
        made("httpx.ProxyError", "407 Proxy Authentication Required", base="httpx.TransportError"),
        "auth",
        False,
        407,
        phase="connect",
    ),
    Row(
        "httpx",
        "a SOCKS proxy that cannot connect",
        made("httpx.ProxyError", "Proxy Server could not connect: Host unreachable.", base="httpx.TransportError"),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "aiohttp",
        "a connection refused",
        made(
            "aiohttp.client_exceptions.ClientConnectorError",
            os_error=REFUSED,
            base="aiohttp.client_exceptions.ClientConnectionError",
        ),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "aiohttp",
        "a WebSocket that breaks the protocol",
        made("aiohttp.http_websocket.WebSocketError", 1002, "x", code=1002),
        "validation",
        False,
    ),
    Row(
        "aiohttp",
        "a WebSocket's internal error",
        made("aiohttp.http_websocket.WebSocketError", 1011, "x", code=1011),
        "server",
        True,
    ),
    Row(
        "requests",
        "a proxy that wants to know who asks",
        made("requests.exceptions.ProxyError", tunnel("407 Proxy Authentication Required")),
        "auth",
        False,
        407,
        phase="connect",
    ),
    Row("urllib3", "a proxy without a way", lambda: tunnel("503 Unavailable"), "overload", True, 503, phase="connect"),
    Row(
        "curl_cffi",
        "a proxy that wants to know who asks",
        made(
            "curl_cffi.requests.exceptions.ProxyError",
            "Failed to perform, curl: (56) CONNECT tunnel failed, response 407.",
            base="curl_cffi.curl.CurlError",
            code=56,
        ),
        "auth",
        False,
        407,
        phase="connect",
    ),
    Row(
        "websocket-client",
        "a proxy that refuses",
        made("websocket._exceptions.WebSocketProxyException", "failed CONNECT via proxy status: 403"),
        "auth",
        False,
        403,
        phase="connect",
    ),
    Row("urllib", "an unknown scheme", urllib_error("unknown url type: foo"), "validation", False, phase="connect"),
    Row("urllib", "a URL without a host", urllib_error("no host given"), "validation", False, phase="connect"),
    Row("urllib", "a connection refused", urllib_error(REFUSED), "connection", True, phase="connect"),
    Row(
        "urllib",
        "a proxy that wants to know who asks",
        urllib_error(OSError("Tunnel connection failed: 407 Proxy Authentication Required")),
        "auth",
        False,
        407,
        phase="connect",
    ),
    Row(
        "xmlrpc",
        "`ProtocolError` with 503",
        lambda: xmlrpc.client.ProtocolError("host/RPC2", 503, "no", {"Retry-After": "5"}),
        "overload",
        True,
        503,
        5.0,
    ),
    Row("groq", "no API key", made("groq.GroqError", "The api_key must be set"), "validation", False),
    Row(
        "groq",
        "`APITimeoutError` without its cause, as it comes out of another process",
        made("groq.APITimeoutError", base=("groq.APIConnectionError", "groq.APIError", "groq.GroqError")),
        "timeout",
        True,
    ),
    Row("together", "no API key", made("together.TogetherError", "The api_key must be set"), "validation", False),
    Row("cerebras", "no API key", made("cerebras.CerebrasError", "The api_key must be set"), "validation", False),
    Row("cohere", "no API key", made("cohere.core.api_error.ApiError", status_code=None), "validation", False),
    Row("cohere", "500", made("cohere.core.api_error.ApiError", status_code=500), "server", True, 500),
    Row("mistralai", "`NoResponseError`", made("mistralai.client.errors.NoResponseError"), "connection", True),
    Row(
        "litellm",
        "no API key, which it makes a 500 of",
        made(
            "litellm.exceptions.InternalServerError",
            status_code=500,
            cause=made(
                "litellm.llms.openai.common_utils.OpenAIError",
                status_code=500,
                cause=made("openai.OpenAIError", "Missing credentials")(),
            )(),
        ),
        "validation",
        False,
    ),
    Row("dramatiq", "`Retry`", made("dramatiq.errors.Retry", base="dramatiq.errors.DramatiqError"), "control", False),
    Row(
        "dramatiq",
        "`ConnectionClosed`",
        made("dramatiq.errors.ConnectionClosed", base="dramatiq.errors.BrokerConnectionError"),
        "connection",
        True,
    ),
    Row("huey", "`RetryTask`", made("huey.exceptions.RetryTask"), "control", False),
    Row("arq", "`Retry`", made("arq.worker.Retry"), "control", False),
    Row("taskiq", "`TaskRejectedError`", made("taskiq.exceptions.TaskRejectedError"), "control", False),
    Row("temporalio", "`CancelledError`", made("temporalio.exceptions.CancelledError"), "unknown", False),
    Row(
        "temporalio",
        "`RPCError` with `UNAVAILABLE`",
        made("temporalio.service.RPCError", status=SimpleNamespace(name="UNAVAILABLE")),
        "connection",
        True,
    ),
    Row(
        "temporalio",
        "`RPCError` with `NOT_FOUND`",
        made("temporalio.service.RPCError", status=SimpleNamespace(name="NOT_FOUND")),
        "not_found",
        False,
    ),
    Row("temporalio", "`TimeoutError`", made("temporalio.exceptions.TimeoutError"), "timeout", True),
    Row("nats", "`NoRespondersError`", made("nats.errors.NoRespondersError"), "overload", True),
    Row("nats", "`ConnectionReconnectingError`", made("nats.errors.ConnectionReconnectingError"), "connection", True),
    Row(
        "weaviate", "`WeaviateConnectionError`", made("weaviate.exceptions.WeaviateConnectionError"), "connection", True
    ),
    Row("chromadb", "`RateLimitError`", made("chromadb.errors.RateLimitError"), "rate_limit", True),
    Row("chromadb", "`NotFoundError`", made("chromadb.errors.NotFoundError"), "not_found", False),
    Row(
        "aiokafka",
        "`KafkaUnavailableError`, which says that it is not to be retried",
        made("aiokafka.errors.KafkaUnavailableError", retriable=False),
        "connection",
        False,
    ),
    Row(
        "redis",
        "no database of several is up",
        made("redis.multidb.exception.TemporaryUnavailableException"),
        "overload",
        True,
    ),
    Row("redis", "a token that cannot be renewed", made("redis.auth.err.TokenRenewalErr"), "auth", False),
    Row(
        "botocore",
        "a proxy that is not there",
        made("botocore.exceptions.ProxyConnectionError", base="botocore.exceptions.ConnectionError"),
        "connection",
        True,
        phase="connect",
    ),
    Row("botocore", "an invalid setting", made("botocore.exceptions.InvalidProxiesConfigError"), "validation", False),
    Row("openai", "no API key", made("openai.OpenAIError", "The api_key must be set"), "validation", False),
    Row(
        "openai",
        "an error of the server's inside a stream",
        made("openai.APIError", "no", base="openai.OpenAIError"),
        "unknown",
        False,
    ),
    Row(
        "requests", "`Retry` gave up on answers of 503", gave_up("too many 503 error responses"), "overload", True, 503
    ),
    Row(
        "requests",
        "`Retry` gave up on answers of 429",
        gave_up("too many 429 error responses"),
        "rate_limit",
        True,
        429,
    ),
    Row("urllib3", "too many redirects", gave_up("too many redirects", by="urllib3"), "validation", False),
    Row(
        "google-auth",
        "no way to the server of the tokens",
        made("google.auth.exceptions.TransportError", "x"),
        "connection",
        True,
    ),
    Row("google-auth", "no credentials", made("google.auth.exceptions.DefaultCredentialsError"), "auth", False),
    Row(
        "requests",
        "a connection refused",
        made(
            "requests.exceptions.ConnectionError",
            made("urllib3.exceptions.MaxRetryError", reason=made("urllib3.exceptions.NewConnectionError")())(),
        ),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "curl_cffi",
        "`ConnectionError`",
        made("curl_cffi.requests.exceptions.ConnectionError", base="curl_cffi.curl.CurlError", code=7),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "curl_cffi",
        "`ConnectTimeout`",
        made(
            "curl_cffi.requests.exceptions.ConnectTimeout",
            base=("curl_cffi.requests.exceptions.ConnectionError", "curl_cffi.curl.CurlError"),
            code=28,
        ),
        "timeout",
        True,
        phase="connect",
    ),
    Row(
        "curl_cffi",
        "`CertificateVerifyError`",
        made(
            "curl_cffi.requests.exceptions.CertificateVerifyError",
            base="curl_cffi.requests.exceptions.ConnectionError",
            code=60,
        ),
        "connection",
        False,
        phase="connect",
    ),
    Row("websockets", "closed with 1008, a policy violation", closed(1008), "validation", False),
    Row("websockets", "closed with 1011, an internal error", closed(1011), "server", True),
    Row("websockets", "closed with 1013, try again later", closed(1013), "overload", True),
    Row("websockets", "closed with 4429", closed(4429), "rate_limit", True),
    Row("websockets", "lost", closed(None), "connection", True),
    Row("botocore", "400 `ThrottlingException`", aws("ThrottlingException", 400), "rate_limit", True, 400),
    Row(
        "azure-core",
        "a request that was not sent",
        made(
            "azure.core.exceptions.ServiceRequestError",
            inner_exception=REFUSED,
            base="azure.core.exceptions.AzureError",
        ),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "stripe",
        "429",
        made("stripe._error.RateLimitError", http_status=429, headers={"Retry-After": "3"}),
        "rate_limit",
        True,
        429,
        3.0,
    ),
    Row(
        "stripe",
        "402, a declined card",
        made("stripe._error.CardError", http_status=402, code="card_declined"),
        "validation",
        False,
        402,
    ),
    Row(
        "twilio",
        "429",
        made("twilio.base.exceptions.TwilioRestException", status=429, code=20429),
        "rate_limit",
        True,
        429,
    ),
    Row(
        "docker",
        "no daemon",
        made("docker.errors.DockerException", cause=made("requests.exceptions.ConnectionError", REFUSED)()),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "qdrant",
        "exhausted",
        made("qdrant_client.common.client_exceptions.ResourceExhaustedResponse", retry_after_s=2),
        "rate_limit",
        True,
        None,
        2.0,
    ),
    Row(
        "qdrant",
        "no connection",
        made(
            "qdrant_client.http.exceptions.ResponseHandlingException",
            source=made("httpx.ConnectError", base="httpx.TransportError")(),
        ),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "elasticsearch",
        "429",
        made("elasticsearch.ApiError", meta=SimpleNamespace(status=429, headers={"retry-after": "4"})),
        "rate_limit",
        True,
        429,
        4.0,
    ),
    Row(
        "elasticsearch",
        "`ConnectionTimeout`",
        made("elastic_transport.ConnectionTimeout", base="elastic_transport.TransportError"),
        "timeout",
        True,
    ),
    Row(
        "ollama",
        "404, no such model",
        made("ollama._types.ResponseError", status_code=404, error="no such model"),
        "not_found",
        False,
        404,
    ),
    Row(
        "psycopg",
        "a name that does not resolve",
        made(PG, "failed to resolve host 'db': [Errno -2] Name or service not known"),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "psycopg",
        "FATAL: password authentication failed",
        made(PG, AT + 'FATAL:  password authentication failed for user "me"'),
        "auth",
        False,
        phase="connect",
    ),
    Row(
        "psycopg",
        "FATAL: no such role",
        made(PG, AT + 'FATAL:  role "me" does not exist'),
        "auth",
        False,
        phase="connect",
    ),
    Row(
        "psycopg",
        "FATAL: no such database",
        made(PG, AT + 'FATAL:  database "x" does not exist'),
        "not_found",
        False,
        phase="connect",
    ),
    Row(
        "psycopg",
        "FATAL: too many clients",
        made(PG, AT + "FATAL:  sorry, too many clients already"),
        "overload",
        True,
        phase="connect",
    ),
    Row("psycopg", "connection refused", made(PG, AT + "Connection refused"), "connection", True, phase="connect"),
    Row("psycopg_pool", "`PoolClosed`", made("psycopg_pool.PoolClosed", base=PG), "validation", False),
    Row("psycopg_pool", "`PoolTimeout`", made("psycopg_pool.PoolTimeout", base=PG), "timeout", True, phase="pool"),
    Row(
        "asyncpg",
        "connection is closed",
        made("asyncpg.exceptions._base.InterfaceError", "connection is closed"),
        "connection",
        True,
    ),
    Row(
        "psycopg",
        "FATAL: a pooler that lets no more in",
        made("psycopg.OperationalError", "FATAL:  no more connections allowed (max_client_conn)"),
        "overload",
        True,
    ),
    Row("cassandra", "`NoHostAvailable`", made("cassandra.cluster.NoHostAvailable"), "connection", True),
    Row(
        "asyncpg",
        "another operation is in progress",
        made("asyncpg.exceptions._base.InterfaceError", "cannot perform operation: another operation is in progress"),
        "validation",
        False,
    ),
    Row(
        "redis",
        "max number of clients reached",
        made("redis.exceptions.ConnectionError", "max number of clients reached"),
        "overload",
        True,
    ),
    Row(
        "redis",
        "a blocking pool that is exhausted",
        made("redis.exceptions.ConnectionError", "No connection available."),
        "overload",
        True,
        phase="pool",
    ),
    Row(
        "redis",
        "busy with a script",
        made("redis.exceptions.ResponseError", "BUSY Redis is busy running a script."),
        "overload",
        True,
    ),
    Row(
        "redis",
        "it cannot save",
        made("redis.exceptions.ResponseError", "MISCONF Redis is configured to save RDB snapshots"),
        "server",
        True,
    ),
    Row(
        "redis",
        "connection refused",
        made("redis.exceptions.ConnectionError", "x", cause=REFUSED),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "pymysql",
        "2013, lost connection",
        made(MYSQL, 2013, "Lost connection to MySQL server during query"),
        "connection",
        True,
    ),
    Row("pymysql", "2003, no connection", made(MYSQL, 2003, "Can't connect"), "connection", True, phase="connect"),
    Row("pymysql", "1045, access denied", made(MYSQL, 1045, "Access denied"), "auth", False),
    Row("pymysql", "1040, too many connections", made(MYSQL, 1040, "Too many connections"), "overload", True),
    Row("pymysql", "1213, deadlock", made(MYSQL, 1213, "Deadlock found"), "conflict", True),
    Row(
        "sqlalchemy",
        "a driver's error",
        made(
            "sqlalchemy.exc.OperationalError",
            base="sqlalchemy.exc.DBAPIError",
            code="e3q8",
            orig=made(MYSQL, 1213, "Deadlock")(),
        ),
        "conflict",
        True,
    ),
    Row("sqlalchemy", "a full pool", made("sqlalchemy.exc.TimeoutError"), "timeout", True, phase="pool"),
    Row(
        "pymongo",
        "`AutoReconnect`",
        made("pymongo.errors.AutoReconnect", base="pymongo.errors.ConnectionFailure"),
        "connection",
        True,
    ),
    Row("pymongo", "18, authentication failed", made(MONGO, "x", code=18), "auth", False),
    Row(
        "pymongo",
        "11000, a duplicate key",
        made("pymongo.errors.DuplicateKeyError", "x", base=MONGO, code=11000),
        "validation",
        False,
    ),
    Row("pymongo", "112, a write conflict", made(MONGO, "x", code=112), "conflict", True),
    Row(
        "smtplib",
        "disconnected",
        lambda: smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
        "connection",
        True,
    ),
    Row("smtplib", "421", lambda: smtplib.SMTPConnectError(421, b"busy"), "overload", True),
    Row("smtplib", "451", lambda: smtplib.SMTPDataError(451, b"try later"), "server", True),
    Row("smtplib", "535", lambda: smtplib.SMTPAuthenticationError(535, b"no"), "auth", False),
    Row("smtplib", "550", lambda: smtplib.SMTPDataError(550, b"no"), "validation", False),
    Row(
        "amqp",
        "a channel that can be opened anew",
        made("amqp.exceptions.RecoverableChannelError", base="amqp.exceptions.AMQPError"),
        "connection",
        True,
    ),
    Row(
        "h11",
        "a server that breaks the protocol",
        made("h11._util.RemoteProtocolError", base="h11._util.ProtocolError"),
        "connection",
        True,
    ),
    Row(
        "h11",
        "a client that breaks the protocol",
        made("h11._util.LocalProtocolError", base="h11._util.ProtocolError"),
        "validation",
        False,
    ),
    Row("http.client", "a connection that threads share", http.client.CannotSendRequest, "validation", False),
    Row("jsonschema", "`ValidationError`", made("jsonschema.exceptions.ValidationError"), "validation", False),
    Row(
        "fastapi",
        "`RequestValidationError`",
        made("fastapi.exceptions.RequestValidationError", base="fastapi.exceptions.ValidationException"),
        "validation",
        False,
    ),
    Row(
        "kombu",
        "`OperationalError`",
        made("kombu.exceptions.OperationalError", base="kombu.exceptions.KombuError"),
        "connection",
        True,
    ),
    Row(
        "pika",
        "`AMQPConnectionError`",
        made("pika.exceptions.AMQPConnectionError", base="pika.exceptions.AMQPError"),
        "connection",
        True,
    ),
    Row(
        "pika",
        "a connection refused",
        made(
            "pika.exceptions.AMQPConnectionError",
            made("pika.adapters.utils.connection_workflow.AMQPConnectorSocketConnectError", exception=REFUSED)(),
            base="pika.exceptions.AMQPError",
        ),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "pika",
        "a broker that hangs up at once",
        made("pika.exceptions.IncompatibleProtocolError", "not supported: StreamLostError: ('EOF',)"),
        "connection",
        True,
        phase="connect",
    ),
    Row(
        "pika",
        "a broker that does not answer",
        made(
            "pika.adapters.utils.connection_workflow.AMQPConnectorStackTimeout",
            base="pika.adapters.utils.connection_workflow.AMQPConnectorException",
        ),
        "timeout",
        True,
        phase="connect",
    ),
    Row(
        "pika",
        "403, access refused",
        made("pika.exceptions.ChannelClosedByBroker", 403, "no", base="pika.exceptions.ChannelClosed", reply_code=403),
        "auth",
        False,
    ),
)


def cell(value: object) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def table() -> str:
    """The table as the documentation shows it."""
    lines = ["| Library | Fault | Kind | Transient | Status | Retry-After | Phase |", "| --- " * 7 + "|"]
    for row in ROWS:
        yes = "yes" if row.transient else "no"
        phase = f"`{row.phase}`" if row.phase else None
        cells = (row.library, row.fault, f"`{row.kind}`", yes, row.status, row.retry_after, phase)
        lines.append("| " + " | ".join(map(cell, cells)) + " |")
    return "\n".join(lines)


def written() -> str:
    """The table that the page has."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}")
