"""Blocking streams that are really cut off: left behind in a thread, or by their socket."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx
import pytest

from resilient_agents import (
    Bulkhead,
    DeadlineExceeded,
    Policy,
    Retry,
    StreamTimeout,
    StreamTimeoutError,
    deadline,
    fixed,
    opened,
)

CERTIFICATE = Path(__file__).with_name("loopback.pem")  # made for this, with its key: nobody trusts it


@contextmanager
def serving(*parts: bytes | float | None, tls: bool = False) -> Iterator[str]:
    """A server that answers each request with these parts of a body, numbers being seconds to wait; None: for ever. It
    answers one after another, and gives the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def serve() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            secured = context.wrap_socket(accepted, server_side=True) if tls else nullcontext(accepted)
            with accepted, secured as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                for part in parts:
                    if isinstance(part, bytes):
                        connection.sendall(part)
                    elif over.wait(part):
                        return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def test_a_thread_is_left_behind_with_a_step_that_stalls() -> None:
    """The caller goes on; the generator is closed when its step ends, and slots come back then."""
    go_on, closed = threading.Event(), threading.Event()
    bulkhead = Bulkhead(1)

    def stalls() -> Iterator[int]:
        try:
            yield 1
            go_on.wait(10)
            yield 2
        finally:
            closed.set()

    policy = Policy(bulkhead, StreamTimeout(idle=0.05, thread=True))
    with pytest.raises(StreamTimeoutError, match="idle") as raised:
        list(policy.stream(stalls))
    assert raised.value.items == 1
    assert (closed.is_set(), policy.describe()["strategies"][1]["abandoned"]) == (False, 1)
    go_on.set()
    assert closed.wait(10)
    until = time.monotonic() + 10
    while (bulkhead.in_use, policy.describe()["strategies"][1]["abandoned"]) != (0, 0):
        assert time.monotonic() < until
        time.sleep(0.001)


def test_steps_in_threads_see_the_callers_context_and_give_all_items() -> None:
    """In order, with the value that the generator returns."""

    def numbers() -> Iterator[int]:
        yield from range(5)

    assert list(Policy(StreamTimeout(idle=5, thread=True)).stream(numbers)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("thread", [None, True])
def test_a_stalled_response_is_cut_by_its_socket(thread: bool | None, tls: bool) -> None:
    """Without a thread, too, and over TLS: the read that waits for ever ends when the time is up."""
    with serving(b"data: a\n\n", None, tls=tls) as url, httpx.Client(timeout=None, verify=False) as client:
        policy = Policy(StreamTimeout(idle=0.1, thread=thread))
        seen: list[str] = []
        began = time.monotonic()
        with pytest.raises(StreamTimeoutError, match="idle"):
            seen.extend(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url))
        assert seen == ["data: a", ""]
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("thread", [None, True])
@pytest.mark.parametrize("limits", [{}, {"idle": 9}], ids=["no limit", "a longer limit"])
def test_a_stalled_response_is_cut_at_the_callers_deadline(thread: bool | None, limits: dict[str, float]) -> None:
    """Which ends before the step's own limit does, and is the one that is told."""
    with serving(b"data: a\n\n", None) as url, httpx.Client(timeout=None) as client:
        policy = Policy(StreamTimeout(**limits, thread=thread))
        seen: list[str] = []
        began = time.monotonic()
        with deadline(0.1), pytest.raises(DeadlineExceeded):
            seen.extend(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url))
        assert seen == ["data: a", ""]
        assert time.monotonic() - began < 5


def test_a_response_that_stalls_after_its_openers_is_cut() -> None:
    """The limit of the first item is that of the first one that says something."""
    with serving(b"data: a\n\n", None) as url, httpx.Client(timeout=None) as client:
        policy = Policy(StreamTimeout(first_item=0.1, preamble=lambda line: True))
        began = time.monotonic()
        with pytest.raises(StreamTimeoutError, match=r"\(first_item\) after 2 items"):
            list(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("thread", [None, True])
@pytest.mark.parametrize("callers", [None, 0.1])
def test_a_response_that_stalls_before_its_first_item_is_cut(thread: bool | None, callers: float | None) -> None:
    """By either limit: the first step is one, too."""
    with serving(None) as url, httpx.Client(timeout=None) as client:
        policy = Policy(StreamTimeout(first_item=9 if callers else 0.1, thread=thread))
        began = time.monotonic()
        with deadline(callers or 60), pytest.raises(DeadlineExceeded if callers else StreamTimeoutError):
            list(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url))
        assert time.monotonic() - began < 5


def test_pings_without_end_are_cut_by_the_total() -> None:
    """No time limit of an SDK ever fires on them."""
    with serving(*[part for _ in range(400) for part in (b": ping\n\n", 0.005)]) as url, httpx.Client() as client:
        policy = Policy(StreamTimeout(total=0.1))
        with pytest.raises(StreamTimeoutError, match="total"):
            list(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url))


def test_a_slow_consumer_is_not_cut() -> None:
    """The watch looks whether the step is over."""
    with serving(b"a\n", b"b\n", 0.02, b"c\n") as url, httpx.Client() as client:
        policy = Policy(StreamTimeout(idle=0.1))
        seen: list[str] = []
        for line in policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", url):
            time.sleep(0.15)
            seen.append(line)
        assert seen == ["a", "b", "c"]


def test_an_error_status_of_an_opened_response_is_an_error() -> None:
    """So it is retried; what comes out is the client's own error."""
    statuses = iter([503, 429, 404])
    tries: list[httpx.Response] = []

    def answer(_: httpx.Request) -> httpx.Response:
        tries.append(httpx.Response(next(statuses), text="no"))
        return tries[-1]

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        policy = Policy(Retry(5, wait=fixed(0)))
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            list(policy.stream(opened(client.stream, items=lambda r: r.iter_lines()), "GET", "http://service/"))
    assert len(tries) == 3
