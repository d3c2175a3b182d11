"""What findings say, and how far an import is followed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan import scan


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("import requests\nrequests.get(url)", "give it timeout"),
        ("import redis\nredis.Redis(port=1).get('x')", "give its Redis socket_timeout"),
        ("import redis\nredis.Redis(port=1).pipeline().execute()", "give its Redis socket_timeout"),
        ("import smtplib\nsmtplib.SMTP('h', timeout=None).noop()", "give its SMTP timeout"),
        ("import zmq\nzmq.Context().socket(zmq.SUB).recv()", "set RCVTIMEO on its Socket"),
        ("import socket\nsocket.socket().accept()", "call settimeout on its socket"),
        (
            "import psycopg\npsycopg.connect(dsn, connect_timeout=3).execute('x')",
            "put a policy with a time limit around it",
        ),
    ],
)
def test_a_finding_says_what_takes_the_limit(tmp_path: Path, code: str, advice: str) -> None:
    """The call itself, the object that it is made on, or the client behind that."""
    (tmp_path / "requirements.txt").write_text("redis<8\n")
    (tmp_path / "code.py").write_text(code)
    found = [finding.message for finding in scan([tmp_path]).findings]
    assert found[-1].endswith(f"; {advice}"), found


@pytest.mark.parametrize(("packages", "calls"), [(["libs/shop/acme"], 1), (["libs/one/acme", "libs/two/acme"], 0)])
def test_a_package_of_another_part_is_found_where_it_is_the_only_one(
    tmp_path: Path, packages: list[str], calls: int
) -> None:
    """A monorepo installs its parts: `from acme import client` elsewhere means the one package of that name."""
    for name in packages:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("from .clients import client\n")
        (folder / "clients.py").write_text("import redis\n\ndef client():\n    return redis.Redis()\n")
    (tmp_path / "apps").mkdir()
    use = """
        from acme import client

        def f():
            return client().get("x")
    """
    (tmp_path / "apps" / "use.py").write_text(textwrap.dedent(use))
    assert len(scan([tmp_path]).calls) == calls
