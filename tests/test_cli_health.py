"""`resilient-agents health URL`, against a real server on loopback."""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
from collections.abc import Generator
from typing import Any

import pytest

from resilient_agents import cli

REPORT = {
    "status": "warn",
    "overall_status": "degraded",
    "checks": {
        "db": {"status": "healthy", "message": "", "critical": True},
        "cache": {"status": "unhealthy", "message": "no answer\x1b[31m", "critical": False},
    },
}


@pytest.fixture(scope="module")
def server() -> Generator[str, None, None]:
    """Answers `/STATUS` with that status, and anything else with a report; `/302` leads there. `/deep` is no report but
    JSON, and `/slow` comes byte by byte."""

    enough = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            word = self.path.strip("/")
            status = int(word) if word.isdigit() else 200
            body = json.dumps(REPORT | {"path": self.path}).encode() if word != "200" else b"<html>"
            if word == "deep":
                body = b"[" * 100_000
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("location", "/health")
            self.end_headers()
            for byte in body if word == "slow" else ():
                self.wfile.write(bytes([byte]))
                if enough.wait(0.02):
                    return
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{httpd.server_port}"
        enough.set()
        httpd.shutdown()
        thread.join()


def test_a_report_is_printed(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for all and one for each check; what would steer a terminal is left out. Degraded is well enough."""
    assert cli.main(["health", server]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "degraded (HTTP 200)",
        "  healthy    db (critical)",
        "  unhealthy  cache: no answer?[31m",
    ]


def test_unhealthy_is_one(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Any status but 200 is a failure; with -q there is no output."""
    assert cli.main(["health", f"http://{server}/503", "-q"]) == 1
    assert capsys.readouterr() == ("", "")
    assert cli.main(["health", f"http://{server}/404"]) == 1


def test_what_is_no_report_counts_by_its_status(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The endpoint need not be ours."""
    for path in ("200", "deep"):
        assert cli.main(["health", f"{server}/{path}"]) == 0
        assert capsys.readouterr().out == "HTTP 200\n"


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """A connection that is refused is one line and status 1."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert cli.main(["health", f"127.0.0.1:{unused.getsockname()[1]}"]) == 1
    assert "does not answer: " in capsys.readouterr().err


def test_an_answer_that_does_not_come(capsys: pytest.CaptureFixture[str]) -> None:
    """The time limit holds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert cli.main(["health", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.05"]) == 1
    assert "does not answer: timed out" in capsys.readouterr().err


def test_an_answer_that_drips(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The time limit is one for the whole answer, not for each byte of it."""
    assert cli.main(["health", f"{server}/slow", "--timeout", "0.1"]) == 1
    assert "does not answer: timed out" in capsys.readouterr().err


def test_a_redirect_is_no_answer(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The login page that it leads to says nothing about the service."""
    assert cli.main(["health", f"{server}/302"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "degraded (HTTP 302)"


def test_a_terminal_that_cannot_show_a_message(
    server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Does not make a service unhealthy."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", output)
    monkeypatch.setitem(REPORT, "overall_status", "größer")
    assert cli.main(["health", server]) == 0
    output.seek(0)
    assert output.readline() == "gr??er (HTTP 200)\n"


def test_a_user_name_is_refused_and_not_repeated(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The password would be in whatever keeps what the probe says."""
    assert cli.main(["health", f"http://user:secret@{server}/"]) == 2
    assert "takes no user name or password" in (said := capsys.readouterr().err)
    assert "secret" not in said


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "1e20"])
def test_a_timeout_is_a_number_of_seconds(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not more of them than a day has."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(["health", "localhost", f"--timeout={seconds}"])
    assert "must be more than 0 and at most 86400" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        *["file:///etc/passwd", "ftp://host/", "http://", "http://host:port/", ""],
        *[
            "http://a..b/",
            f"http://{'a' * 64}/",
            "http://host/a b",
            "http://ho st/",
            "http://host/\x1b",
            "http://host/ä",
        ],
    ],
)
def test_only_http(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anything but an http or https URL is wrong use."""
    assert cli.main(["health", url]) == 2
    assert "is not an http or https URL" in capsys.readouterr().err


def test_proxies_are_left_aside(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's proxy settings are not for asking itself."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert cli.main(["health", server]) == 0
