"""Calls that threads make, in the advice: a bulkhead is for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilient_agents.scan.advice import advise


@pytest.mark.parametrize(
    ("threads", "several"),
    [
        ("ThreadPoolExecutor(8).map(ask, urls)", True),
        ("ThreadPoolExecutor(8).map(asked, urls)", True),
        ("ThreadPoolExecutor(8).submit(ask, urls[0])", True),
        ("for url in urls:\n        Thread(target=ask, args=(url,)).start()", True),
        ("Thread(target=ask, args=urls).start()", False),
        ("ProcessPoolExecutor(8).map(ask, urls)", False),
        ("list(map(ask, urls))", False),
        ("ThreadPoolExecutor(8).map(str, urls)", False),
    ],
)
def test_threads_make_the_calls_of_the_functions_they_are_handed(tmp_path: Path, threads: str, several: bool) -> None:
    """Of those that these call, too."""
    code = f"""import requests
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from threading import Thread


def ask(url):
    return requests.get(url)


def asked(url):
    return [ask(url)]


def main(urls):
    {threads}
"""
    (tmp_path / "code.py").write_text(code)
    [it] = advise([tmp_path]).dependencies
    assert it.why("bulkhead").startswith(
        "threads may make several of these at once: 1 call" if several else "its calls"
    )


@pytest.mark.parametrize(
    ("server", "several"),
    [
        ("from fastapi import APIRouter\nto = APIRouter()\n\n\n@to.get('/')\ndef ask", True),
        ("from flask import Flask\nto = Flask('to')\n\n\n@to.route('/')\ndef ask", True),
        ("from fastapi import FastAPI\nto = FastAPI()\n\n\n@to.on_event('startup')\ndef ask", False),
    ],
)
def test_a_plain_handler_of_a_server_runs_in_threads(tmp_path: Path, server: str, several: bool) -> None:
    """One for each request, so that an outage is found out often, too."""
    (tmp_path / "code.py").write_text(f"import requests\n{server}():\n    requests.get('https://x.example')\n")
    [it] = advise([tmp_path]).dependencies
    assert it.why("bulkhead").startswith("threads may make several") is several
    assert ("circuit breaker" in it.candidates) is several
