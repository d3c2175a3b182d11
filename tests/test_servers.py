"""Real servers on loopback: state, health and metrics are those of each worker, and a fork hands down no lock."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers import SLOTS

ROOT = Path(__file__).resolve().parents[1]
WAIT = 60.0  # seconds for anything; nothing takes nearly as long

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these servers fork")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@contextlib.contextmanager
def process(
    *command: str, log: Path, pass_fds: tuple[int, ...] = (), stop: signal.Signals = signal.SIGTERM, **env: str
) -> Generator[None, None, None]:
    """A server with all its workers, from start to stop. What it says is shown when the test fails."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "HOME": str(log.parent), **env},  # gunicorn writes there
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    try:
        yield
        assert server.poll() is None, "the server ended by itself"
    except BaseException:
        print(log.read_text(errors="replace"))  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        server.send_signal(stop)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(WAIT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(WAIT)


@contextlib.contextmanager
def web(*command: str, tmp_path: Path, **env: str) -> Generator[Callable[[str], httpx.Response], None, None]:
    """A web server on a free port, and a way to ask it: each time over a new connection, so any worker may answer."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        number = listener.fileno()
        full = [part.replace("FD", str(number)) for part in command]
        stack.enter_context(process(*full, log=tmp_path / "log", pass_fds=(number,), **env))
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            timeout=WAIT,  # the port listens before the server is there: the first answer waits for it
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        yield stack.enter_context(client).get


def from_each(ask: Callable[[], dict[str, Any]], workers: int) -> dict[int, dict[str, Any]]:
    """The latest answer of each worker, once all of them have answered."""
    found: dict[int, dict[str, Any]] = {}
    give_up = time.monotonic() + WAIT
    while len(found) < workers:
        assert time.monotonic() < give_up, f"only {sorted(found)} answered"
        said = ask()
        found[said["pid"]] = said
    return found


def until(ask: Callable[[], dict[str, Any]], condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The first answer that is so."""
    give_up = time.monotonic() + WAIT
    while True:
        said = ask()
        if condition(said):
            return said
        assert time.monotonic() < give_up, said


def holds_for_each_worker(
    state: Callable[[], dict[str, Any]], work: Callable[[], object], trip: Callable[[], object]
) -> None:
    """What must be so under any server with two workers."""
    for pid in from_each(state, 2):
        said = until(state, lambda said, pid=pid: said["pid"] == pid and said["message"] == f"pid {pid}")  # type: ignore[misc]
        assert said["running"]
        assert said["in_use"] == 0, "the parent's slot is not ours"
        assert said["circuit"] == "closed"
        assert pid in said["checked_by"]
    for _ in range(6):
        work()
    counts = {pid: said["attempts"] for pid, said in from_each(state, 2).items()}
    assert sum(counts.values()) == 6, "each counts its own, and none is counted twice"
    trip()
    states = from_each(state, 2)
    assert sorted(said["circuit"] for said in states.values()) == ["closed", "open"]


SERVERS: dict[str, list[str]] = {
    "uvicorn": ["uvicorn", "tests.servers.asgi_app:application", "--fd", "FD", "--workers", "2"],
    "gunicorn-asgi": ["gunicorn", "tests.servers.asgi_app:application", "-b", "fd://FD", "-w", "2", "-k", "asgi"],
    "gunicorn-sync": ["gunicorn", "tests.servers.wsgi_app:application", "-b", "fd://FD", "-w", "2"],
    "gunicorn-gthread": [
        *["gunicorn", "tests.servers.wsgi_app:application", "-b", "fd://FD", "-w", "2"],
        *["-k", "gthread", "--threads", "4"],
    ],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(SERVERS[name][0])) for name in SERVERS])
def test_several_workers(name: str, tmp_path: Path) -> None:
    """Under uvicorn (spawned), and gunicorn with preload (forked from a parent that holds every lock)."""
    forked = SERVERS[name][0] == "gunicorn"
    options = ["--preload", "--graceful-timeout", "2"] if forked else []
    env = {"BUSY_PARENT": "1"} if forked else {}
    with web(*SERVERS[name], *options, tmp_path=tmp_path, **env) as ask:

        def state() -> dict[str, Any]:
            assert ask("/readyz").status_code in (200, 503)  # what starts the monitor of a WSGI worker
            said: dict[str, Any] = ask("/state").json()
            return said

        until(lambda: {"status": ask("/readyz").status_code}, lambda said: said["status"] == 200)
        holds_for_each_worker(state, lambda: ask("/work"), lambda: ask("/trip"))
        assert {ask("/livez").status_code for _ in range(8)} == {200}


@needs("gunicorn")
def test_a_threaded_sync_application(tmp_path: Path) -> None:
    """One worker with threads, as Django is often run: they share one limit, and refusals are 503."""
    command = ["gunicorn", "tests.servers.wsgi_app:application", "-b", "fd://FD", "-w", "1", "-k", "gthread"]
    with web(*command, "--threads", "8", "--graceful-timeout", "2", tmp_path=tmp_path) as ask:
        assert ask("/readyz").status_code == 200
        peaks: list[int] = []
        threads = [threading.Thread(target=lambda: peaks.append(ask("/together").json())) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert len(peaks) == 6
        assert max(peaks) == SLOTS
        ask("/trip")
        refused = ask("/work")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert 3000 < int(refused.headers["retry-after"]) <= 3600
        until(lambda: ask("/health").json(), lambda said: said["overall_status"] == "unhealthy")
        assert (ask("/readyz").status_code, ask("/livez").status_code) == (503, 200)


@needs("celery")
def test_celery_prefork(tmp_path: Path) -> None:
    """Two pool processes, forked from a parent that holds every lock; each starts its own monitor."""
    from tests.servers.broker import Client

    command = [
        *["celery", "-A", "tests.servers.celery_app", "worker", "-P", "prefork", "-c", "2", "--loglevel", "WARNING"],
        *["--without-gossip", "--without-mingle", "--without-heartbeat"],
    ]
    # Killed in the end: its own orderly shutdown takes it five seconds, whatever runs in it.
    with (
        contextlib.closing(Client(tmp_path)) as client,
        process(*command, log=tmp_path / "log", stop=signal.SIGKILL, BUSY_PARENT="1", CELERY_FOLDER=str(tmp_path)),
    ):
        run = functools.partial(client.run, seconds=WAIT)
        holds_for_each_worker(lambda: run("state"), lambda: run("work"), lambda: run("trip"))
