"""Which failure is this."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import errno
import gc
import http.client
import json
import multiprocessing
import pickle
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import anyio
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient_agents.classify import (
    KINDS,
    Failure,
    classify,
    classify_result,
    counts_against_dependency,
    http_failure,
    is_transient,
    register,
    transient_by_itself,
    verdict,
)
from resilient_agents.classify import traits as classes
from resilient_agents.errors import (
    BulkheadFullError,
    CircuitOpenError,
    DeadlineExceeded,
    PolicyTimeoutError,
    RateLimitedError,
    StreamTruncatedError,
)
from tests.classify_server import Response, foreign, misbehaving


class MyError(Exception):
    """A user's own error that says nothing."""


class StatusError(Exception):
    """An error with facts of its own."""

    def __init__(self, status: Any = None, /, **facts: Any) -> None:
        super().__init__("with facts")
        self.status_code = status
        self.__dict__.update(facts)


def of(error: BaseException) -> tuple[str, bool, str]:
    failure = classify(error)
    return failure.kind, failure.transient, failure.verdict


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def in_context(error: BaseException, context: BaseException) -> BaseException:
    error.__context__ = context
    return error


def raised(work: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # whatever it is, it is classified
        work()
    return caught.value


TIMEOUT = ("timeout", True, "failure")
CONNECTION = ("connection", True, "failure")
RATE_LIMIT = ("rate_limit", True, "neutral")
OVERLOAD = ("overload", True, "failure")
SERVER = ("server", True, "failure")
UNKNOWN = ("unknown", False, "failure")
LOCAL = ("validation", False, "neutral")
CERTIFICATE = ("connection", False, "failure")
NOTHING = ("unknown", False, "neutral")


CONFLICT = ("conflict", True, "success")


def permanent(kind: str, answered: bool = True) -> tuple[str, bool, str]:
    return kind, False, "success" if answered else "neutral"


# ------------------------------------------------------------------------------------------------ Python's own errors


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), TIMEOUT),
        (concurrent.futures.TimeoutError(), TIMEOUT),
        (subprocess.TimeoutExpired("x", 1), TIMEOUT),
        (multiprocessing.TimeoutError(), TIMEOUT),
        (OSError(errno.ETIMEDOUT, "x"), TIMEOUT),
        (trio.TooSlowError(), TIMEOUT),
        (ConnectionRefusedError(), CONNECTION),
        (ConnectionResetError(errno.ECONNRESET, "x"), CONNECTION),
        (BrokenPipeError(), CONNECTION),
        (socket.gaierror(socket.EAI_NONAME, "x"), CONNECTION),
        (ssl.SSLError(1, "x"), CONNECTION),
        (ssl.SSLEOFError(8, "x"), CONNECTION),
        (EOFError(), CONNECTION),
        (asyncio.IncompleteReadError(b"", 1), CONNECTION),
        (http.client.RemoteDisconnected("x"), CONNECTION),
        (http.client.IncompleteRead(b""), CONNECTION),
        (http.client.BadStatusLine("x"), CONNECTION),
        (urllib.error.URLError("x"), CONNECTION),
        (anyio.BrokenResourceError(), CONNECTION),
        (anyio.EndOfStream(), CONNECTION),
        (trio.BrokenResourceError(), CONNECTION),
        (trio.EndOfChannel(), CONNECTION),
        (OSError(errno.EHOSTUNREACH, "x"), CONNECTION),
        (OSError(errno.EMFILE, "x"), OVERLOAD),
        (OSError("no number"), UNKNOWN),
        (OSError(errno.EIO, "x"), UNKNOWN),
        (RuntimeError("x"), UNKNOWN),
        (MemoryError(), UNKNOWN),
        (MyError("x"), UNKNOWN),
    ],
    ids=repr,
)
def test_trouble_on_the_way_is_a_failure(error: BaseException, expected: tuple[str, bool, str]) -> None:
    """Python's own timeouts and connection errors are transient failures; what says nothing is an unknown failure."""
    assert of(error) == expected


@pytest.mark.parametrize(
    "error",
    [
        TypeError(),
        ValueError(),
        KeyError(),
        AttributeError(),
        ZeroDivisionError(),
        AssertionError(),
        NotImplementedError(),
        FileNotFoundError(errno.ENOENT, "x"),
        PermissionError(),
        StopIteration(),
        OSError(errno.ENOSPC, "x"),
        json.JSONDecodeError("x", "", 0),
        UnicodeDecodeError("utf-8", b"", 0, 0, "x"),
    ],
    ids=repr,
)
def test_a_bug_of_the_caller_says_nothing_about_the_dependency(error: BaseException) -> None:
    """Errors raised locally are permanent and neutral."""
    assert of(error) == LOCAL


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        concurrent.futures.CancelledError(),
        BaseExceptionGroup("g", [KeyboardInterrupt(), ConnectionError()]),
    ],
    ids=repr,
)
def test_cancellation_is_neutral(error: BaseException) -> None:
    """Cancellation is never transient and never counted, nor is anything that is not an Exception."""
    assert of(error) == NOTHING
    assert not counts_against_dependency(error)


def test_trios_cancellation_is_neutral() -> None:
    """trio's Cancelled is not an Exception either."""
    seen: list[BaseException] = []

    async def main() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as cancelled:
                seen.append(cancelled)
                raise

    trio.run(main)
    assert of(seen[0]) == NOTHING


def test_a_bad_certificate_is_a_failure_that_no_retry_cures() -> None:
    """Certificate verification fails the same way a second later, bare or wrapped."""
    bad = ssl.SSLCertVerificationError(1, "x")
    assert of(bad) == CERTIFICATE
    inner = in_context(foreign("httpcore.ConnectError", foreign("httpcore.NetworkError"))(), bad)
    outer = caused(foreign("httpx.ConnectError", foreign("httpx.TransportError"))(), inner)
    assert of(caused(foreign("openai.APIConnectionError")(), outer)) == CERTIFICATE
    assert of(urllib_error(bad)) == CERTIFICATE
    cert = foreign("aiohttp.client_exceptions.ClientConnectorCertificateError")
    assert of(in_context(cert(), ssl.SSLError(1, "x"))) == CERTIFICATE


def urllib_error(reason: BaseException) -> BaseException:
    return in_context(urllib.error.URLError(reason), reason)


def test_a_urlopen_error_is_what_its_reason_is() -> None:
    """URLError is explained by what it was raised for."""
    assert of(urllib_error(TimeoutError())) == TIMEOUT


def test_a_urllib_http_error_has_a_status_and_headers() -> None:
    """urllib keeps the status in `.code` and the headers on the error."""
    headers = Message()
    headers["Retry-After"] = "3"
    error = urllib.error.HTTPError("http://x", 503, "x", headers, None)
    assert (of(error), classify(error).status, classify(error).retry_after) == (OVERLOAD, 503, 3.0)
    error.close()


def test_a_locked_sqlite_database_is_a_conflict() -> None:
    """A busy database is worth another try; a wrong statement is not."""
    with sqlite3.connect(":memory:") as db:
        wrong = raised(lambda: db.execute("select * from nowhere"))
    db.close()
    assert of(wrong) == permanent("validation")
    assert classify(wrong).code == "SQLITE_ERROR"
    assert of(sqlite3.OperationalError("database is locked")) == ("conflict", True, "success")
    assert of(sqlite3.OperationalError("disk I/O error")) == UNKNOWN


# ---------------------------------------------------------------------------------------------------------- our own


def test_our_rejections_are_permanent_and_neutral() -> None:
    """A rejection is not retried, counts against nobody and carries its wait."""
    for error in (CircuitOpenError("x", retry_after=4), BulkheadFullError("x", retry_after=4), RateLimitedError("x")):
        assert of(error) == ("rejected", False, "neutral")
    assert classify(CircuitOpenError("x", retry_after=4)).retry_after == 4.0


def test_a_native_breakers_rejection_is_a_rejection() -> None:
    """pybreaker's own error is treated as ours."""
    import pybreaker

    assert of(pybreaker.CircuitBreakerError("open")) == ("rejected", False, "neutral")


def test_an_expired_policy_timeout_counts_but_the_callers_deadline_does_not() -> None:
    """A policy's limit is a transient failure; the caller's impatience is permanent and neutral."""
    assert of(PolicyTimeoutError("x", limit=1.0)) == TIMEOUT
    assert of(DeadlineExceeded("x")) == ("timeout", False, "neutral")
    assert of(caused(MyError(), DeadlineExceeded("x"))) == ("timeout", False, "neutral")


def test_our_errors_do_not_ask_their_causes() -> None:
    """A rejection raised from the last real error stays a rejection."""
    assert of(caused(CircuitOpenError("x"), ConnectionError())) == ("rejected", False, "neutral")


def test_a_truncated_stream_is_a_connection_failure() -> None:
    """A stream that broke off may be tried again."""
    assert of(StreamTruncatedError("x")) == CONNECTION


# --------------------------------------------------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, permanent("validation")),
        (401, permanent("auth")),
        (402, permanent("quota")),
        (403, permanent("auth")),
        (404, permanent("not_found")),
        (408, TIMEOUT),
        (409, ("conflict", True, "success")),
        (413, permanent("validation")),
        (418, permanent("validation")),
        (422, permanent("validation")),
        (425, ("conflict", True, "success")),
        (429, RATE_LIMIT),
        (500, SERVER),
        (501, ("server", False, "failure")),
        (502, SERVER),
        (503, OVERLOAD),
        (504, TIMEOUT),
        (529, OVERLOAD),
        (599, SERVER),
        (HTTPStatus.TOO_MANY_REQUESTS, RATE_LIMIT),
    ],
)
def test_a_status_says_what_failed(status: int, expected: tuple[str, bool, str]) -> None:
    """An answer below 500 other than 408 and 429 proves the dependency alive."""
    assert of(StatusError(status)) == expected
    assert of(StatusError(None, status=status)) == expected
    assert of(StatusError(None, response=Response(status))) == expected
    assert classify(StatusError(status)).status == status


@pytest.mark.parametrize("status", [True, 200, 302, 399, 600, -429, 429.0, "429", None, b"429", Mock(), 10**30])
def test_only_an_integer_from_400_to_599_is_a_status(status: object) -> None:
    """Anything else in the place of a status is no status, a string least of all (redis has one)."""
    assert of(StatusError(status)) == UNKNOWN
    assert classify(StatusError(status)).status is None


def test_a_falsy_response_is_still_read() -> None:
    """A requests.Response is falsy on 4xx and 5xx."""
    response = Response(503, {"Retry-After": "9"})
    assert not response
    assert classify(StatusError(None, response=response)).retry_after == 9.0
    assert http_failure(response)


@pytest.mark.parametrize(
    ("status", "fails"), [(200, False), (404, False), (408, True), (429, True), (499, False), (500, True), (599, True)]
)
def test_http_failure_knows_a_failed_response(status: int, fails: bool) -> None:
    """408, 429 and everything from 500 up are failures, under either name of the attribute."""
    assert http_failure(Response(status)) is fails
    assert http_failure(SimpleNamespace(status=status)) is fails


@pytest.mark.parametrize("result", [None, 503, "503", {"status": 503}, Mock(), SimpleNamespace(status="503"), object()])
def test_http_failure_leaves_other_results_alone(result: object) -> None:
    """What is not a response is not a failed one."""
    assert not http_failure(result)


def test_a_failed_result_is_read_like_an_error() -> None:
    """Retry reads status and wait of a response that `when=` called a failure."""
    failure = classify_result(Response(429, {"retry-after": "2.5"}))
    assert failure == Failure("rate_limit", True, 429, None, 2.5, "Response", "failure")
    assert classify_result(Response(503, {"x-should-retry": "false"})).transient is False


def test_a_result_that_says_nothing_is_an_unknown_failure() -> None:
    """`when=` may call any value a failure."""
    for result in (None, "", {"ok": False}, Mock(), Response(200)):
        failure = classify_result(result)
        assert (failure.kind, failure.status, failure.retry_after, failure.verdict) == (
            "unknown",
            None,
            None,
            "failure",
        )


# ------------------------------------------------------------------------------------------------------- wait hints

NOW = 1_800_000_000.0


@pytest.fixture
def wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.mark.usefixtures("wall_clock")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"Retry-After": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90.0),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0.0),
        ({"retry-after": b"8"}, 8.0),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "1_0"}, None),
        ({"retry-after": "tomorrow, perhaps"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": Mock()}, None),
        ({1: "x"}, None),
        ({}, None),
        (Mock(), None),
        ([("retry-after", "1")], None),
    ],
    ids=repr,
)
def test_a_servers_wait_is_read_from_the_headers(headers: object, seconds: float | None) -> None:
    """Milliseconds before seconds before a date; a past date is now; what is no finite wait is ignored."""
    for place in ({"headers": headers}, {"response": SimpleNamespace(headers=headers)}):
        assert classify(StatusError(429, **place)).retry_after == seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (3, 3.0),
        (0.5, 0.5),
        (timedelta(minutes=1), 60.0),
        ("2", 2.0),
        (-1, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        (10**400, None),
        (Mock(), None),
        (None, None),
    ],
    ids=repr,
)
def test_an_error_may_carry_its_own_wait(value: object, seconds: float | None) -> None:
    """`error.retry_after` in seconds, as a number or a timedelta."""
    assert classify(StatusError(429, retry_after=value)).retry_after == seconds


@pytest.mark.parametrize(("value", "transient"), [("true", True), ("FALSE", False), ("maybe", None), (Mock(), None)])
def test_x_should_retry_decides(value: object, transient: bool | None) -> None:
    """The server's word beats the status, both ways; nonsense is no word."""
    for status in (400, 503):
        said = classify(StatusError(status, headers={"X-Should-Retry": value})).transient
        assert said is (status == 503 if transient is None else transient)


# ------------------------------------------------------------------------------------------------- client libraries

APIStatusError = foreign("openai.APIStatusError")


def status_error(status: int, code: str | None = None, kind: str | None = None, message: str = "no") -> Any:
    error = foreign("openai.SomeStatusError", APIStatusError)(message)
    error.__dict__.update(status_code=status, code=code, type=kind, body={"code": code, "type": kind})
    error.response = Response(status)
    return error


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "insufficient_quota", ("quota", False, "neutral")),
        (429, "billing_hard_limit_reached", ("quota", False, "neutral")),
        (403, "insufficient_quota", permanent("quota")),
        (400, "context_length_exceeded", permanent("context_length")),
        (400, "content_filter", permanent("content_filter")),
        (429, "rate_limit_exceeded", RATE_LIMIT),
        (500, "server_error", SERVER),
        (404, "model_not_found", permanent("not_found")),
    ],
)
def test_a_code_may_say_more_than_the_status(status: int, code: str, expected: tuple[str, bool, str]) -> None:
    """A spent quota is not a rate limit, and no wait refills it."""
    assert of(status_error(status, code)) == expected
    assert classify(status_error(status, code)).code == code


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
        ("The input token count (1200000) exceeds the maximum", "context_length"),
        ("Your credit balance is too low", "quota"),
        ("temperature: must be at most 1", "validation"),
    ],
)
def test_some_servers_say_it_only_in_the_message(message: str, kind: str) -> None:
    """The message of a refused request is searched, and not kept."""
    failure = classify(status_error(400, kind="invalid_request_error", message=message))
    assert failure.kind == kind
    assert message not in repr(failure)


def test_only_a_refusals_message_is_searched() -> None:
    """The same words say nothing in a server's failure or in a local error."""
    assert of(status_error(503, message="prompt is too long")) == OVERLOAD
    local = foreign("own.MyValueError", ValueError)("prompt is too long")
    local.code = "own_code"
    assert of(local) == LOCAL


def test_anthropics_in_stream_error_is_known_by_its_type() -> None:
    """An error inside a stream that began with 200 has no status, only a type."""
    error = foreign("anthropic.APIStatusError")()
    error.__dict__.update(status_code=200, type="overloaded_error", response=Response(200))
    assert (of(error), classify(error).status, classify(error).code) == (OVERLOAD, None, "overloaded_error")
    error.type = "authentication_error"
    assert of(error) == permanent("auth")


def test_anthropics_spend_limit_is_a_quota() -> None:
    """Some 429 of Anthropic's say by their class that waiting is in vain."""
    error = foreign("anthropic.EnforcedSpendLimitReachedError", foreign("anthropic.RateLimitError"))()
    error.status_code = 429
    assert of(error) == ("quota", False, "neutral")


@pytest.mark.parametrize("package", ["httpx", "httpx2", "httpcore"])
def test_httpx_by_any_name(package: str) -> None:
    """httpx and httpx2 share names, not classes; a subclass is found along its MRO."""
    transport = foreign(f"{package}.TransportError")
    assert of(foreign(f"{package}.ReadTimeout", foreign(f"{package}.TimeoutException", transport))()) == TIMEOUT
    assert of(foreign(f"{package}.ReadError", transport)()) == CONNECTION
    assert of(foreign(f"{package}.UnsupportedProtocol", transport)()) == LOCAL
    assert of(foreign("elsewhere.TimeoutException")()) == UNKNOWN


def test_openais_connection_error_is_what_caused_it() -> None:
    """The SDK wraps whatever its transport raised."""
    wrapper = foreign("openai.APIConnectionError")
    transport = foreign("httpx2.TransportError")
    assert of(wrapper()) == CONNECTION
    assert of(caused(wrapper(), transport())) == CONNECTION
    assert of(caused(wrapper(), foreign("httpx2.TimeoutException", transport)())) == TIMEOUT
    assert of(caused(wrapper(), foreign("httpx2.UnsupportedProtocol", transport)())) == LOCAL
    assert of(in_context(wrapper(), StatusError(429))) == CONNECTION
    assert of(in_context(wrapper(), KeyError())) == CONNECTION


def google(code: int, details: object) -> Any:
    error = foreign("google.genai.errors.ClientError")()
    error.__dict__.update(code=code, status="RESOURCE_EXHAUSTED", details=details, response=SimpleNamespace(headers={}))
    return error


def test_googles_status_is_its_code_and_its_wait_is_in_the_details() -> None:
    """google-genai keeps the status in `.code`, the code in `.status` and the wait in the details."""
    failure = classify(google(429, {"error": {"details": [{"@type": "x"}, {"retryDelay": "1.5s"}]}}))
    assert failure == Failure("rate_limit", True, 429, "RESOURCE_EXHAUSTED", 1.5, "ClientError", "neutral")


def test_googles_daily_quota_is_a_quota() -> None:
    """A quota per day is permanent, whatever delay comes with it."""
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = {"error": {"details": [{"violations": [violation]}, {"retryDelay": "30s"}]}}
    assert of(google(429, details)) == ("quota", False, "neutral")


@pytest.mark.parametrize("details", [None, "x", [[]], {"retryDelay": 5}, {"retryDelay": "soon"}, {"retryDelay": "-1s"}])
def test_googles_details_may_be_anything(details: object) -> None:
    """Details of another shape are no wait."""
    assert classify(google(429, details)).retry_after is None


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    """Details that contain themselves end the search."""
    details: dict[str, Any] = {}
    details["again"] = [details] * 1000
    assert classify(google(429, details)).retry_after is None


def test_an_integer_code_of_a_strangers_is_no_status() -> None:
    """Where a library counts errors in its own way, a number in `.code` is not HTTP's."""
    for package in ("pymongo", "oracledb", "aiormq"):
        assert of(foreign(f"{package}.SomeError", code=503)()) == UNKNOWN


def test_aiohttps_bogus_400_is_a_broken_reply() -> None:
    """aiohttp reports a malformed reply as a 400 that no server sent."""
    error = foreign("aiohttp.client_exceptions.ClientResponseError")()
    error.__dict__.update(status=400, headers=None)
    parser = foreign("aiohttp.http_exceptions.HttpProcessingError")
    broken = in_context(error, foreign("aiohttp.http_exceptions.BadStatusLine", parser)())
    assert (of(broken), classify(broken).status) == (CONNECTION, None)
    real = foreign("aiohttp.client_exceptions.ClientResponseError")()
    real.__dict__.update(status=400, headers={"retry-after": "1"})
    assert of(real) == permanent("validation")


def botocore(code: str, status: int) -> Any:
    error = foreign("botocore.exceptions.ClientError")()
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "5"}}
    error.response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": metadata}
    return error


def test_botocore_throttles_with_a_400() -> None:
    """AWS's code decides, because its status does not tell; the response is a dict."""
    failure = classify(botocore("ThrottlingException", 400))
    assert failure == Failure("rate_limit", True, 400, "ThrottlingException", 5.0, "ClientError", "neutral")
    assert of(botocore("NoSuchKey", 404)) == permanent("not_found")
    assert of(botocore("503", 503)) == OVERLOAD


def test_botocores_own_errors_are_known_by_name() -> None:
    """Timeouts and lost connections are transient, missing credentials are the caller's."""
    base = foreign("botocore.exceptions.HTTPClientError")
    assert of(foreign("botocore.exceptions.ReadTimeoutError", base)()) == TIMEOUT
    assert of(foreign("botocore.exceptions.ConnectionClosedError", base)()) == CONNECTION
    assert of(foreign("botocore.exceptions.NoCredentialsError")()) == permanent("auth", answered=False)


RpcError = foreign("grpc.RpcError")


def grpc(name: str, *metadata: tuple[str, object]) -> Any:
    error = foreign("grpc._channel._InactiveRpcError", RpcError)()
    error.code = lambda: SimpleNamespace(name=name)
    error.trailing_metadata = lambda: metadata
    return error


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DEADLINE_EXCEEDED", TIMEOUT),
        ("UNAVAILABLE", CONNECTION),
        ("RESOURCE_EXHAUSTED", RATE_LIMIT),
        ("INTERNAL", SERVER),
        ("ABORTED", ("conflict", True, "success")),
        ("UNAUTHENTICATED", permanent("auth")),
        ("NOT_FOUND", permanent("not_found")),
        ("INVALID_ARGUMENT", permanent("validation")),
        ("CANCELLED", NOTHING),
        ("UNKNOWN", UNKNOWN),
    ],
)
def test_grpc_is_known_by_the_name_of_its_code(name: str, expected: tuple[str, bool, str]) -> None:
    """gRPC's code is what a method returns."""
    assert of(grpc(name)) == expected
    if expected != NOTHING:
        assert classify(grpc(name)).code == name


def test_grpcs_pushback_is_a_wait_or_a_no() -> None:
    """Pushback in milliseconds is a wait; a negative or unreadable one forbids a retry."""
    assert classify(grpc("UNAVAILABLE", ("x", "1"), ("grpc-retry-pushback-ms", "1500"))).retry_after == 1.5
    assert classify(grpc("UNAVAILABLE", ("grpc-retry-pushback-ms", b"20"))).retry_after == 0.02
    assert not is_transient(grpc("UNAVAILABLE", ("grpc-retry-pushback-ms", "-1")))
    assert not is_transient(grpc("UNAVAILABLE", ("grpc-retry-pushback-ms", "soon")))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (-32001, TIMEOUT),
        (-32000, CONNECTION),
        (-32603, SERVER),
        (-32602, permanent("validation")),
        (-32800, NOTHING),
        (7, UNKNOWN),
    ],
)
def test_mcp_is_known_by_its_json_rpc_code(code: int, expected: tuple[str, bool, str]) -> None:
    """MCP reports everything as one class with a code."""
    error = foreign("mcp.shared.exceptions.MCPError")()
    error.error = SimpleNamespace(code=code)
    assert of(error) == expected
    assert of(ExceptionGroup("unhandled errors in a TaskGroup", [error])) == expected


# Classes and states in which the server answers that it will not do this.
SQL_REFUSALS = (
    *("01", "02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24", "25", "25P02", "26"),
    *("27", "2B", "2BP01", "2D", "2F", "34", "38", "39", "3B", "3F", "42", "44", "54", "55", "55006", "HV"),
    *("P0", "P0001", "P0002", "P0003", "P0004"),
)


def test_redis_errors_are_not_what_they_inherit() -> None:
    """redis has its own TimeoutError and ConnectionError, and its authentication errors are among the latter."""
    connection = foreign("redis.exceptions.ConnectionError", status_code="ERR")
    assert of(connection()) == CONNECTION
    assert of(foreign("redis.exceptions.TimeoutError")()) == TIMEOUT
    assert of(foreign("redis.exceptions.AuthenticationError", connection)()) == permanent("auth")
    assert of(foreign("redis.exceptions.BusyLoadingError", connection)()) == OVERLOAD
    assert of(foreign("redis.exceptions.WatchError")()) == CONFLICT


def test_a_redis_cluster_that_moves_may_be_tried_again() -> None:
    """A slot that nobody covers is a failure of the cluster's that passes, as redis-py itself has it."""
    cluster = foreign("redis.exceptions.RedisClusterException")
    assert of(foreign("redis.exceptions.SlotNotCoveredError", cluster)()) == SERVER
    assert of(cluster()) == UNKNOWN


def test_a_redis_pipeline_used_wrongly_is_the_callers_bug() -> None:
    """Keys of two slots in one transaction, and commands in the wrong order, never reach the server."""
    cluster = foreign("redis.exceptions.RedisClusterException")
    assert of(foreign("redis.exceptions.CrossSlotTransactionError", cluster)()) == LOCAL
    assert of(foreign("redis.exceptions.InvalidPipelineStack", cluster)()) == LOCAL


def test_a_lock_that_was_lost_is_not_released_by_trying_again() -> None:
    """A lock that another holds may become free; one that expired in our hands is gone."""
    lock = foreign("redis.exceptions.LockError", foreign("redis.exceptions.RedisError"), ValueError)
    assert of(lock()) == CONFLICT
    assert of(foreign("redis.exceptions.LockNotOwnedError", lock)()) == permanent("conflict")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("57014", TIMEOUT),
        ("08006", CONNECTION),
        ("57P01", CONNECTION),
        ("57P05", CONNECTION),
        ("25P03", CONNECTION),
        ("25P04", CONNECTION),
        ("40001", CONFLICT),
        ("40P01", CONFLICT),
        ("40002", CONFLICT),
        ("55P03", CONFLICT),
        ("53300", OVERLOAD),
        ("57000", SERVER),
        ("58030", SERVER),
        ("F0001", SERVER),
        ("42501", permanent("auth")),
        ("3D000", permanent("not_found")),
        ("28P01", permanent("auth")),
        ("23505", permanent("validation")),
        ("42601", permanent("validation")),
        ("XX000", SERVER),
        *((f"{state:0<5}", permanent("validation")) for state in SQL_REFUSALS),
    ],
)
def test_a_sqlstate_decides(state: str, expected: tuple[str, bool, str]) -> None:
    """asyncpg and psycopg keep a SQLSTATE, on the class."""
    operational = foreign("psycopg.OperationalError", sqlstate=None)
    assert of(foreign("psycopg.errors.Some", operational, sqlstate=state)("x")) == expected
    assert of(foreign("asyncpg.exceptions.Some", sqlstate=state)("x")) == expected
    assert classify(foreign("asyncpg.exceptions.Some", sqlstate=state)("x")).code == state


def test_business_rules_in_the_database_are_answers() -> None:
    """RAISE EXCEPTION, with a state of the user's own too, proves the server alive and is not tried again."""
    for state in ("P0001", "AB123", "ZZZZZ", "p0001"):
        assert of(foreign("asyncpg.exceptions.RaiseError", sqlstate=state)("out of stock")) == permanent("validation")
    assert of(foreign("psycopg2.errors.RaiseException", pgcode="P0001")("out of stock")) == permanent("validation")


@pytest.mark.parametrize("state", ["HY000", "IM002", "00000"])
def test_a_drivers_catch_all_state_says_nothing(state: str) -> None:
    """MySQL's and ODBC's drivers put HY000 on a lost connection too: the class or the cause decides."""
    assert of(foreign("mysql.connector.Error", sqlstate=state)("x")) == UNKNOWN
    assert of(caused(foreign("mysql.connector.Error", sqlstate=state)("x"), ConnectionError())) == CONNECTION
    assert of(foreign("psycopg.OperationalError", sqlstate=state)("x")) == CONNECTION
    assert classify(foreign("mysql.connector.Error", sqlstate=state)("x")).code == state


def test_psycopgs_connect_errors_have_no_sqlstate() -> None:
    """An OperationalError without a SQLSTATE never reached the server."""
    assert of(foreign("psycopg.OperationalError", sqlstate=None)("x")) == CONNECTION


def test_litellms_500_for_a_reset_is_a_connection_failure() -> None:
    """litellm says InternalServerError 500; the truth is in the context."""
    base = foreign("openai.APIStatusError")
    outer = foreign("litellm.exceptions.InternalServerError", foreign("openai.InternalServerError", base))()
    outer.__dict__.update(status_code=500, response=Response(500))
    real = caused(foreign("openai.APIConnectionError")(), foreign("httpx.TransportError")())
    middle = in_context(foreign("litellm.llms.openai.common_utils.OpenAIError")(), real)
    middle.__dict__.update(status_code=500)
    assert of(outer) == SERVER
    in_context(outer, middle)
    assert (of(outer), classify(outer).status) == (CONNECTION, None)
    bare = foreign("litellm.exceptions.APIConnectionError", foreign("openai.APIConnectionError"))()
    bare.status_code = 500
    assert (of(bare), classify(bare).status) == (CONNECTION, None)


def test_litellm_keeps_headers_and_codes_in_its_own_places() -> None:
    """The wait is in `litellm_response_headers`, the provider's code in the body."""
    error = foreign("litellm.exceptions.RateLimitError")()
    error.__dict__.update(status_code=429, code="429", litellm_response_headers={"retry-after": "6"})
    assert (classify(error).kind, classify(error).code, classify(error).retry_after) == ("rate_limit", None, 6.0)
    error.body = {"code": "insufficient_quota"}
    assert classify(error).kind == "quota"


def test_pydantic_ais_class_beats_its_status() -> None:
    """A ModelQuotaExceededError is a quota also with status 429."""
    model_http = foreign("pydantic_ai.exceptions.ModelHTTPError")
    quota = foreign("pydantic_ai.exceptions.ModelQuotaExceededError")
    error = foreign("pydantic_ai.exceptions._HTTPModelQuotaExceededError", model_http, quota)()
    error.__dict__.update(status_code=429, retry_after=3.0)
    assert of(error) == ("quota", False, "neutral")
    assert of(foreign("pydantic_ai.exceptions.ModelTimeoutError")()) == TIMEOUT


# ------------------------------------------------------------------------------------------------- causes and groups


def test_an_error_that_says_nothing_is_explained_by_its_cause() -> None:
    """The cause, or the context where there is none, speaks for the wrapper, which gives its name."""
    for wrapped in (caused(MyError(), TimeoutError()), in_context(MyError(), TimeoutError())):
        assert classify(wrapped) == Failure("timeout", True, None, None, None, "MyError", "failure")
    deep = caused(MyError(), in_context(MyError(), StatusError(429, retry_after=2)))
    assert (of(deep), classify(deep).status, classify(deep).retry_after) == (RATE_LIMIT, 429, 2.0)


def test_a_suppressed_context_stays_out() -> None:
    """`raise MyError from None` hides what came before."""
    error = in_context(MyError(), TimeoutError())
    error.__suppress_context__ = True
    assert of(error) == UNKNOWN


def test_an_error_with_facts_of_its_own_is_not_explained_away() -> None:
    """A status wins over the cause, and so does a class that says something."""
    assert of(caused(StatusError(404), ConnectionError())) == permanent("not_found")
    assert of(caused(ValueError(), ConnectionError())) == LOCAL
    assert of(caused(TimeoutError(), StatusError(401))) == TIMEOUT


def test_a_callers_bug_does_not_explain_an_error() -> None:
    """`except KeyError: raise ServiceDown()` is about the service."""
    assert of(in_context(MyError(), KeyError())) == UNKNOWN
    assert of(in_context(MyError(), asyncio.CancelledError())) == UNKNOWN


def test_a_wait_is_found_further_in_only_for_the_same_status() -> None:
    """A wrapper without headers gets the wait of the answer it wraps, not that of another."""
    inner = StatusError(429, headers={"retry-after": "5"})
    assert classify(caused(StatusError(429), inner)).retry_after == 5.0
    assert classify(caused(StatusError(503), inner)).retry_after is None
    quota = StatusError(429, code="insufficient_quota")
    assert classify(caused(StatusError(429, retry_after=1), quota)).kind == "quota"


def test_circles_and_long_chains_end() -> None:
    """A cause that leads back, or a thousand causes, is no trouble."""
    one, two = MyError(), MyError()
    caused(one, two)
    caused(two, one)
    assert of(one) == UNKNOWN
    last: BaseException = ConnectionError()
    for _ in range(1000):
        last = caused(MyError(), last)
    assert of(last) == UNKNOWN
    leaf = MyError()
    group = ExceptionGroup("g", [leaf, leaf])
    caused(leaf, group)
    assert of(group) == UNKNOWN


def test_a_group_nested_a_thousand_times_ends() -> None:
    """A group that is nested too deeply is unknown."""
    nested: Exception = ConnectionError()
    for _ in range(1000):
        nested = group(nested)
    assert of(nested) == UNKNOWN


def group(*errors: Exception) -> ExceptionGroup[Exception]:
    return ExceptionGroup("g", list(errors))


def test_a_group_is_transient_only_if_all_its_leaves_are() -> None:
    """One permanent leaf forbids the retry, however deep."""
    assert is_transient(group(TimeoutError(), group(ConnectionError(), StatusError(503))))
    assert not is_transient(group(TimeoutError(), group(ConnectionError(), StatusError(404))))


def test_a_group_has_the_kind_its_leaves_share_else_the_worst() -> None:
    """Leaves that agree give the kind; otherwise the kind agrees with what forbids the retry."""
    shared = classify(group(StatusError(429, retry_after=1), StatusError(429, retry_after=5), StatusError(429)))
    assert shared == Failure("rate_limit", True, 429, None, 5.0, "ExceptionGroup", "neutral")
    assert classify(group(TimeoutError(), ConnectionError())).kind == "connection"
    assert classify(group(TimeoutError(), StatusError(401))).kind == "auth"
    assert classify(group(TimeoutError(), MyError())).kind == "unknown"


def test_one_failed_leaf_makes_the_group_a_failure() -> None:
    """A failure outweighs a proof of life, which outweighs silence."""
    assert verdict(group(StatusError(404), ConnectionError())) == "failure"
    assert verdict(group(StatusError(404), ValueError())) == "success"
    assert verdict(group(StatusError(429), ValueError())) == "neutral"


def test_leaves_that_share_a_cause_are_all_explained_by_it() -> None:
    """A cause that was looked at once still speaks for the second leaf."""
    cause = ConnectionError()
    assert of(group(caused(MyError(), cause), caused(MyError(), cause))) == CONNECTION  # type: ignore[arg-type]


def test_a_group_is_not_explained_by_its_context() -> None:
    """anyio raises groups while handling a cancellation."""
    assert of(in_context(group(MyError()), TimeoutError())) == UNKNOWN


# ----------------------------------------------------------------------------------------------- without the context


def test_by_itself_an_error_does_not_hear_its_context() -> None:
    """A transient context makes the error transient, not the error by itself."""
    told = in_context(MyError(), ConnectionError())
    assert is_transient(told)
    assert not transient_by_itself(told)
    assert not transient_by_itself(MyError())


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError(),
        StatusError(503),
        StatusError(400, transient=True),
        caused(MyError(), TimeoutError()),
        group(ConnectionError()),
        foreign("httpx.ReadError", foreign("httpx.TransportError"))(),
    ],
    ids=repr,
)
def test_by_itself_an_error_says_all_else(error: BaseException) -> None:
    """Class, facts, leaves and an explicit cause count, whatever was being handled when it was raised."""
    assert transient_by_itself(error)
    assert transient_by_itself(in_context(error, KeyError()))


def test_only_the_errors_own_context_is_left_out() -> None:
    """The contexts of its cause and of its leaves still speak for those."""
    deep = in_context(MyError(), TimeoutError())
    assert transient_by_itself(caused(MyError(), deep))
    assert transient_by_itself(group(deep))  # type: ignore[arg-type]
    both = in_context(caused(MyError(), deep), deep)  # `except ... as deep: raise MyError from deep`
    assert transient_by_itself(both)


def test_by_itself_leaves_the_error_as_it_is() -> None:
    """Other threads may hold the same error: not one of its attributes is written."""

    class Watched(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AssertionError(name)

    error = Watched()
    BaseException.__dict__["__context__"].__set__(error, ConnectionError())
    assert not transient_by_itself(error)
    assert is_transient(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
def test_by_itself_a_cancellation_is_not_transient(error: BaseException) -> None:
    """Cancellation is never worth another try."""
    assert not transient_by_itself(in_context(error, ConnectionError()))


# --------------------------------------------------------------------------------------------------------- teaching


@pytest.fixture(autouse=True)
def untaught() -> Iterator[None]:
    """What a test teaches is forgotten after it, and nothing else."""
    before = dict(classes.registered)
    yield
    classes.registered.clear()
    classes.registered.update(before)
    classes.known = {}


def test_register_teaches_a_class_and_its_subclasses() -> None:
    """A registered class is of the kind it was given, also when it was classified before."""

    class Sub(MyError):
        pass

    assert of(Sub()) == UNKNOWN
    register(MyError, kind="server")
    assert of(Sub()) == SERVER
    register(Sub, kind="auth")
    assert of(Sub()) == permanent("auth", answered=False)
    assert of(MyError()) == SERVER
    register(Sub, kind="server", transient=False)
    assert of(Sub()) == ("server", False, "failure")


def test_the_most_specific_class_wins_over_the_tables_and_statuses() -> None:
    """What was taught about a class beats what is known about its base and what the error carries."""

    class Busy(ConnectionError):
        pass

    register(Exception, kind="server")
    assert of(ConnectionError()) == CONNECTION
    assert of(MyError()) == SERVER
    register(Busy, kind="rate_limit")
    assert of(Busy()) == RATE_LIMIT
    register(StatusError, kind="overload")
    assert of(StatusError(404, retry_after=3)) == OVERLOAD
    assert classify(StatusError(404, retry_after=3)).retry_after == 3.0


def test_a_registered_group_is_not_looked_into() -> None:
    """A group class may be taught like any other."""

    class Batch(ExceptionGroup[Exception]):
        pass

    assert of(Batch("g", [ConnectionError()])) == CONNECTION
    register(Batch, kind="auth")
    assert classify(Batch("g", [ConnectionError()])).kind == "auth"


def test_an_error_may_say_itself_whether_it_is_transient() -> None:
    """`error.transient` decides, on the class or on the instance, over every other word; only a bool counts."""

    class Again(Exception):
        transient = True

    register(StatusError, kind="server", transient=True)
    assert is_transient(Again())
    assert not is_transient(StatusError(503, transient=False))
    assert is_transient(StatusError(503, transient="no"))
    error = ConnectionError()
    error.transient = False  # type: ignore[attr-defined]
    assert of(error) == CERTIFICATE
    assert is_transient(caused(MyError(), Again()))
    unread = ValueError("half a reply")
    unread.transient = True  # type: ignore[attr-defined]
    assert of(unread) == ("unknown", True, "failure")
    grouped = group(MyError())
    grouped.transient = True  # type: ignore[attr-defined]
    assert is_transient(grouped)


def test_a_rejection_of_ours_cannot_be_made_transient() -> None:
    """Our own rejections are not retried, whatever is written on them."""
    error = CircuitOpenError("x")
    error.transient = True  # type: ignore[attr-defined]
    assert not is_transient(error)


def test_wrong_teaching_fails_at_once() -> None:
    """The error names the argument, the rule and the value."""
    with pytest.raises(ValueError, match=r"kind must be one of timeout, .*, got 'sever'"):
        register(MyError, kind="sever")  # type: ignore[arg-type]
    for wrong in (int, "MyError", KeyboardInterrupt, MyError()):
        with pytest.raises(TypeError, match="error_type must be a subclass of Exception, got "):
            register(wrong, kind="server")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="transient must be True, False or None, got 1"):
        register(MyError, kind="server", transient=1)  # type: ignore[arg-type]


def test_classes_are_not_kept_alive() -> None:
    """A class made at run time, classified and registered, can go."""
    before = len(classes.registered)
    made = type("Made", (Exception,), {})
    classify(made())
    register(made, kind="server")
    classify(made())
    learned = len(classes.known)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
    assert (len(classes.known), len(classes.registered)) == (learned - 1, before)


def test_a_class_learned_while_it_was_taught_is_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer found before `register` and kept after it does not outlive it."""
    find = classes.rule_of

    def late(mro: tuple[type, ...]) -> Any:
        found = find(mro)
        register(MyError, kind="server")
        return found

    monkeypatch.setattr(classes, "rule_of", late)
    classify(MyError())
    monkeypatch.undo()
    assert of(MyError()) == SERVER


def test_teaching_while_classifying_is_seen_by_all() -> None:
    """After `register` returns, no thread gets the old answer from a memory of the class."""
    classes = [type(f"E{i}", (Exception,), {}) for i in range(200)]
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            for cls in classes:
                classify(cls())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for cls in classes:
            register(cls, kind="server")
            assert of(cls()) == SERVER
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(interval)
    assert {of(cls()) for cls in classes} == {SERVER}


def test_a_metaclass_has_no_say() -> None:
    """Classes are told apart by identity: a metaclass may define equality, hash and names as it likes."""

    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            raise AssertionError

        def __getattribute__(cls, name: str) -> Any:
            if name in ("__mro__", "__name__", "__module__"):
                raise AssertionError
            return super().__getattribute__(name)

    class Odd(ConnectionError, metaclass=Meta):
        pass

    assert of(Odd()) == CONNECTION
    register(Odd, kind="server")
    assert of(Odd()) == SERVER


# ---------------------------------------------------------------------------------------------------- never raises


class Hostile(Exception):
    """Every attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError


class Mocked(Exception):
    """Every attribute is a mock."""

    def __getattr__(self, name: str) -> Any:
        return MagicMock()


def refuse(self: object) -> Any:
    raise RuntimeError


HIDDEN = ("__dict__", "__class__", "__cause__", "__context__")
# No dict to look into, nothing to say of what it is, and no sign of what it came from.
Unreadable = foreign("own.Unreadable", **{name: property(refuse) for name in HIDDEN})
# A proxy that is bound to nothing: whatever asks for its class fails.
Unbound = foreign("own.Unbound", object, __class__=property(refuse))


class Text(str):
    def lower(self) -> str:
        raise RuntimeError


HOSTILE: dict[str, Callable[[], Any]] = {
    "raises": Hostile,
    "mock": Mocked,
    "code": lambda: StatusError(400, code=Text("x")),
    "message": lambda: StatusError(400, message=Text("x")),
    "headers": lambda: StatusError(429, headers=SimpleNamespace(get=lambda name: 1 / 0)),
    "grpc": foreign("grpc.Call", RpcError, code=MagicMock(), trailing_metadata=lambda self: 1 / 0),
    "mcp": foreign("mcp.McpError", error=MagicMock()),
    "botocore": foreign("botocore.exceptions.ClientError", response={"ResponseMetadata": 3, "Error": []}),
    "aiohttp": foreign("aiohttp.ClientResponseError", status=MagicMock()),
    "module": type("Nameless", (Exception,), {"__module__": 3}),
    "no module": eval("type('Nowhere', (base,), {})", {"type": type, "base": Exception, "__builtins__": {}}),
    "no dict": Unreadable,
    "odd dict": type("OddDict", (Exception,), {"__dict__": property(lambda self: 3)}),
    "unbound": lambda: StatusError(Unbound(), response=Unbound(), code=Unbound(), message=Unbound()),
    "unbound headers": lambda: StatusError(None, headers=SimpleNamespace(get=lambda name: Unbound())),
    "unbound body": lambda: StatusError(None, body={"error": Unbound(), "retryDelay": Unbound()}),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_errors_are_classified_all_the_same(make: Callable[[], Any]) -> None:
    """An attribute that raises or is a mock is an absent fact."""
    error = make()
    assert classify(error).type == type(error).__name__
    assert classify(group(error, MyError())).kind == "unknown"


@pytest.mark.parametrize("base", [ConnectionError, foreign("httpx.ConnectError", foreign("httpx.TransportError"))])
@pytest.mark.parametrize("hostile", [Hostile, Unreadable])
def test_an_unreadable_error_is_still_of_its_class(hostile: type[Exception], base: type[Exception]) -> None:
    """The class says what the instance does not, and the interpreter knows the cause that the instance hides."""
    error = type("Odd", (hostile, base), {})()
    assert of(error) == CONNECTION
    assert is_transient(error)
    assert transient_by_itself(error)
    BaseException.__dict__["__cause__"].__set__(error, TimeoutError())
    assert of(error) == (CONNECTION if base is ConnectionError else TIMEOUT)


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_cause_spoils_nobody_elses_facts(hostile: Callable[[], Any]) -> None:
    """What one error hides leaves the answer of those around it as it is."""
    assert of(caused(StatusError(429, retry_after=2), hostile())) == RATE_LIMIT
    assert classify(group(StatusError(429, retry_after=2), hostile())).retry_after == 2.0


@pytest.mark.parametrize("name", ["__cause__", "__context__"])
def test_a_hidden_cause_is_heard_all_the_same(name: str) -> None:
    """A class that says it has no cause, or will not say, does not keep the cause from speaking."""
    for hide in (refuse, lambda self: None):
        error = foreign("own.Hiding", **{name: property(hide)})()
        BaseException.__dict__[name].__set__(error, TimeoutError())
        assert of(error) == TIMEOUT


def test_a_cancellation_is_one_whatever_its_instance_says() -> None:
    """What is not an Exception is neutral, also where its dict cannot be read."""
    stop = foreign("own.Stop", BaseException, __dict__=property(refuse))
    assert of(stop()) == NOTHING


def test_a_dict_that_lies_is_not_believed() -> None:
    """A class that makes up its `__dict__` is asked for each fact."""
    lying = foreign("own.Lying", ConnectionError, __dict__=property(lambda self: {}))
    error = lying()
    error.status_code = 404
    assert of(error) == permanent("not_found")


def test_an_attribute_that_raises_hides_no_other() -> None:
    """A property that fails leaves the rest of the facts readable, and so does one that holds an unbound proxy."""

    class Half(Exception):
        status_code = 503

        @property
        def response(self) -> Any:
            raise RuntimeError

    assert of(Half()) == OVERLOAD
    assert of(StatusError(503, response=Unbound(), message=Unbound(), body=Unbound())) == OVERLOAD
    assert http_failure(SimpleNamespace(status_code=Unbound(), status=503))


def test_an_interruption_while_classifying_is_not_swallowed() -> None:
    """`classify` catches Exception, never BaseException."""

    class Interrupting(Exception):
        @property
        def status_code(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classify(Interrupting())


garbage = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(400, 599)
    | st.floats()
    | st.text(max_size=12)
    | st.binary(max_size=8)
    | st.sampled_from(["insufficient_quota", "Mon, 32 Foo 2026 25:61:61 GMT", "40001", "1.5s", "true"])
    | st.just(MagicMock())
    | st.builds(lambda s: Response(s, {"retry-after": "x"}), st.integers()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["retry-after", "Error", "Code", "error", "details", "retryDelay", "headers", "quotaId"]),
            inner,
            max_size=3,
        )
        | st.builds(lambda value: SimpleNamespace(headers=value, status_code=value, get=lambda _: value), inner)
        | st.builds(lambda value: lambda *_: value, inner)
    ),
    max_leaves=6,
)
# Hypothesis builds its table of characters on the first run under a new Python, which takes longer than it allows.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
names = st.sampled_from(
    [
        "openai.APIError",
        "google.genai.errors.APIError",
        "grpc.RpcError",
        "mcp.MCPError",
        "aiohttp.ClientResponseError",
        "botocore.exceptions.ClientError",
        "sqlite3.OperationalError",
        "psycopg.OperationalError",
        "own.MyError",
        "litellm.exceptions.InternalServerError",
        "requests.HTTPError",
        "urllib.error.HTTPError",
    ]
)


@unhurried
@given(
    name=names,
    base=st.sampled_from([Exception, OSError, ValueError, ConnectionError]),
    facts=st.dictionaries(
        st.sampled_from([*sorted(classes.TELLING), "errno", "message", "trailing_metadata"]), garbage
    ),
    on_class=st.booleans(),
    inner=st.sampled_from([None, ConnectionError(), KeyError(), StatusError(429)]),
)
def test_whatever_an_error_carries_it_is_classified(
    name: str, base: type[Exception], facts: dict[str, Any], on_class: bool, inner: Exception | None
) -> None:
    """`classify` and `classify_result` never raise, and what they return is plain data within its bounds."""
    error = foreign(name, base, **(facts if on_class else {}))()
    if not on_class:
        for key, value in facts.items():
            try:
                setattr(error, key, value)
            except (AttributeError, TypeError):
                continue
    error.__context__ = inner
    for failure in (classify(error), classify(group(error)), classify_result(SimpleNamespace(**facts))):
        assert failure.kind in KINDS
        assert type(failure.transient) is bool
        assert failure.status is None or (type(failure.status) is int and 400 <= failure.status <= 599)
        assert failure.retry_after is None or 0.0 <= failure.retry_after < float("inf")
        assert failure.code is None or (isinstance(failure.code, str) and len(failure.code) <= 64)
        assert failure.verdict in ("failure", "success", "neutral")


@unhurried
@given(st.text(max_size=40) | st.binary(max_size=20) | st.floats() | st.integers())
def test_any_retry_after_is_a_wait_or_ignored(value: object) -> None:
    """No header value raises, and what is read is finite and not negative."""
    wait = classify(StatusError(429, headers={"retry-after": value})).retry_after
    assert wait is None or 0.0 <= wait < float("inf")


# --------------------------------------------------------------------------------------------------------- the result


def test_a_failure_is_plain_frozen_data() -> None:
    """A Failure compares, copies and pickles, cannot be changed and holds no reference to the error."""
    error = StatusError(503, retry_after=1)
    failure = classify(error)
    assert pickle.loads(pickle.dumps(failure)) == copy.copy(failure) == failure
    with pytest.raises(AttributeError):
        failure.kind = "auth"  # type: ignore[misc]
    assert not any(ref is error for ref in gc.get_referents(failure))
    assert not hasattr(failure, "__dict__")


def test_notes_and_marks_do_not_change_the_answer() -> None:
    """An error that carries a note is classified as before."""
    error = ConnectionError("x")
    before = classify(error)
    error.add_note("gave up after 3 attempts")
    assert classify(error) == before


def test_a_code_is_a_word_never_a_message() -> None:
    """A sentence in the place of a code is not kept."""
    assert classify(StatusError(400, code="key sk-123 is wrong")).code is None


def test_no_client_library_is_imported() -> None:
    """Importing the classifier imports no library whose errors it knows."""
    script = (
        "import sys; from resilient_agents.classify.classes import PACKAGES;"
        "known = set(PACKAGES);"
        "ours = {*sys.stdlib_module_names, 'resilient_agents', 'pybreaker', 'anyio', 'google', 'redis'};"  # pybreaker's
        "print(sorted((known - ours) & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------- the real ones, where installed


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with misbehaving() as url:
        yield url


REAL = [
    ("reset", CONNECTION, None),
    ("404", permanent("not_found"), None),
    ("429", RATE_LIMIT, 7.0),
    ("503", OVERLOAD, 7.0),
]


def check(call: Callable[[str], object], server: str, expected: list[tuple[str, tuple[str, bool, str], Any]]) -> None:
    for path, meaning, wait in expected:
        error = raised(lambda path=path: call(f"{server}/{path}"))  # type: ignore[misc]
        assert of(error) == meaning, (path, error)
        assert wait is None or classify(error).retry_after == wait


def test_real_httpx(server: str) -> None:
    """httpx's own errors, raised by httpx."""
    httpx = pytest.importorskip("httpx")
    check(lambda url: httpx.get(url).raise_for_status(), server, [*REAL, ("garbage", CONNECTION, None)])
    assert http_failure(httpx.Response(503))
    assert classify_result(httpx.Response(429, headers={"Retry-After": "3"})).retry_after == 3.0
    assert of(httpx.ConnectTimeout("x")) == TIMEOUT
    assert of(raised(lambda: httpx.get("nonsense://x"))) == LOCAL


def test_real_requests(server: str) -> None:
    """requests' own errors, raised by requests."""
    requests = pytest.importorskip("requests")
    check(lambda url: requests.get(url, timeout=9).raise_for_status(), server, [*REAL, ("garbage", CONNECTION, None)])
    assert http_failure(requests.get(f"{server}/503", timeout=9))
    assert of(requests.ConnectTimeout()) == TIMEOUT


def test_real_aiohttp(server: str) -> None:
    """aiohttp's own errors, raised by aiohttp, the bogus 400 among them."""
    aiohttp = pytest.importorskip("aiohttp")

    async def get(url: str) -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url):
            pass

    check(lambda url: asyncio.run(get(url)), server, [*REAL, ("garbage", CONNECTION, None)])
    assert of(getattr(aiohttp, "SocketTimeoutError", aiohttp.ServerTimeoutError)()) == TIMEOUT  # from 3.10 on


def test_real_openai(server: str) -> None:
    """openai's own errors, raised by its client."""
    openai = pytest.importorskip("openai")

    def call(url: str) -> None:
        with openai.OpenAI(api_key="x", base_url=url, max_retries=0) as client:
            client.models.list()

    check(call, server, [*REAL, ("429-insufficient_quota", ("quota", False, "neutral"), 7.0)])


def test_real_anthropic(server: str) -> None:
    """anthropic's own errors, raised by its client."""
    anthropic = pytest.importorskip("anthropic")

    def call(url: str) -> None:
        with anthropic.Anthropic(api_key="x", base_url=url, max_retries=0) as client:
            client.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "?"}])

    check(call, server, [*REAL, ("529", OVERLOAD, 7.0), ("402", permanent("quota"), None)])


def test_real_redis() -> None:
    """redis' own errors, of which some inherit what they are not."""
    redis = pytest.importorskip("redis")
    assert of(redis.TimeoutError()) == TIMEOUT
    assert of(redis.ConnectionError()) == CONNECTION
    assert of(redis.AuthenticationError()) == permanent("auth")
    busy = redis.BusyLoadingError()
    busy.status_code = "LOADING"  # as newer ones say by themselves
    assert of(busy) == OVERLOAD
    assert of(redis.exceptions.SlotNotCoveredError()) == SERVER
    assert of(redis.exceptions.LockNotOwnedError()) == permanent("conflict")


def test_what_redis_retries_is_transient() -> None:
    """Whatever redis-py's cluster client tries again is worth a try to us."""
    cluster = pytest.importorskip("redis.cluster")
    for error in {*cluster.RedisCluster.ERRORS_ALLOW_RETRY}:
        assert is_transient(error("x")), error


def test_real_botocore() -> None:
    """botocore's own errors."""
    exceptions = pytest.importorskip("botocore.exceptions")
    response = {"Error": {"Code": "Throttling"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    assert of(exceptions.ClientError(response, "Get")) == RATE_LIMIT
    assert of(exceptions.ReadTimeoutError(endpoint_url="x")) == TIMEOUT
    assert of(exceptions.EndpointConnectionError(endpoint_url="x", error=OSError())) == CONNECTION
    assert of(exceptions.NoCredentialsError()) == permanent("auth", answered=False)
