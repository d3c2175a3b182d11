"""Where a fix puts what it adds: beside comments, in place of what says no limit, in one line with others, by a name
that is free."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from resilient_agents.scan.fix import fix

LIMITS = {
    "a comment stays beside its argument": (
        """
        import requests
        requests.get(url,
                     params={}  # why
                     )
        requests.get(
            url,
            params={},  # why
        )
        """,
        """
        import requests
        requests.get(url,
                     params={},  # why
                     timeout=10
                     )
        requests.get(
            url,
            params={},  # why
            timeout=10,
        )
        """,
    ),
    "None by position": (
        """
        import socket, subprocess, telnetlib
        socket.create_connection(("h", 1), None).recv(1)
        subprocess.Popen("x").wait(None)
        telnetlib.Telnet("h", 23, None).read_all()
        """,
        """
        import socket, subprocess, telnetlib
        socket.create_connection(("h", 1), 10).recv(1)
        subprocess.Popen("x").wait(10)
        telnetlib.Telnet("h", 23, 10).read_all()
        """,
    ),
    "no limit in milliseconds": (
        """
        import zmq
        zmq.Poller().poll(-1)
        """,
        """
        import zmq
        zmq.Poller().poll(10_000)
        """,
    ),
    "one line": (
        """
        import socket
        def ask(six):
            if six: s = socket.socket(socket.AF_INET6)
            else: s = socket.socket(); s.bind(("", 1))
            s.connect(a)
        """,
        """
        import socket
        def ask(six):
            if six: s = socket.socket(socket.AF_INET6); s.settimeout(10)
            else: s = socket.socket(); s.settimeout(10); s.bind(("", 1))
            s.connect(a)
        """,
    ),
    "with": (
        """
        import socket
        with socket.socket() as s:
            # to whom
            s.connect(a)
        with socket.socket() as s: s.connect(a)
        """,
        """
        import socket
        with socket.socket() as s:
            s.settimeout(10)
            # to whom
            s.connect(a)
        with socket.socket() as s: s.settimeout(10); s.connect(a)
        """,
    ),
    "with a type": (
        """
        import socket
        s: socket.socket = socket.socket()
        s.connect(a)
        """,
        """
        import socket
        s: socket.socket = socket.socket()
        s.settimeout(10)
        s.connect(a)
        """,
    ),
    "the pool of a client": (
        """
        import redis
        pool = redis.BlockingConnectionPool(host="cache")
        redis.Redis(connection_pool=pool).get("x")
        """,
        """
        import redis
        pool = redis.BlockingConnectionPool(host="cache", socket_timeout=10)
        redis.Redis(connection_pool=pool).get("x")
        """,
    ),
    "an object that says how long": (
        """
        import aiohttp
        from aiohttp import ClientTimeout as _, ClientSession
        async def load():
            async with ClientSession(timeout=None) as session:
                await session.get(url)
        """,
        """
        import aiohttp
        from aiohttp import ClientTimeout as _, ClientSession
        async def load():
            async with ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
                await session.get(url)
        """,
    ),
    "a dict that says how long": (
        """
        from google import genai
        genai.Client().models.generate_content(model="m", contents=[])
        """,
        """
        from google import genai
        genai.Client(http_options={"timeout": 10_000}).models.generate_content(model="m", contents=[])
        """,
    ),
    "a browser": (
        """
        from playwright.sync_api import sync_playwright
        with sync_playwright() as p:
            p.chromium.launch(timeout=0)
        """,
        """
        from playwright.sync_api import sync_playwright
        with sync_playwright() as p:
            p.chromium.launch(timeout=10_000)
        """,
    ),
}

LEFT = {
    "a name by position": "import socket\nlimit = None\nsocket.create_connection(('h', 1), limit)",
    "told to wait for ever": "import socket\ns = socket.socket()\ns.settimeout(None)\ns.connect(a)",
    "no name for the object": (
        "from aiohttp import ClientSession\nasync def f():\n    await ClientSession(timeout=None).get(u)"
    ),
    "another type by version": "import mcp\nasync def f():\n    await mcp.ClientSession(r, w).initialize()",
}

FREE = "import requests\n{0}\n\n\ndef load():\n    return requests.get(url)\n"
NAMES = {
    "import requests\nimport requests as resilient": ("resilient_agents.resilient", "import resilient_agents"),
    "def g(resilient):\n    pass": ("resilient_agents.resilient", "import resilient_agents"),
    "class A:\n    resilient = 1": ("resilient_agents.resilient", "import resilient_agents"),
    "from resilient_agents import Retry, resilient as guarded": ("guarded", ""),
    "from resilient_agents import (\n    resilient,\n)": ("resilient", ""),
    "# from resilient_agents import resilient": ("resilient", "from resilient_agents import resilient"),
    "from resilient_agents import resilient_x": ("resilient", "from resilient_agents import resilient"),
    "def g():\n    from resilient_agents import resilient": ("resilient", "from resilient_agents import resilient"),
    "import resilient_agents": ("resilient", "from resilient_agents import resilient"),
}


@pytest.mark.parametrize("case", LIMITS)
def test_a_limit_stands_where_it_belongs(case: str, tmp_path: Path) -> None:
    """And is what the library takes there: seconds, milliseconds, an object, a dict."""
    before, after = map(textwrap.dedent, LIMITS[case])
    (tmp_path / "requirements.txt").write_text("redis<8\n")
    file = tmp_path / "code.py"
    file.write_text(before)
    fixed = fix([tmp_path], Options())
    assert list(fixed.after.values()) == [after]
    assert not fixed.left
    fixed.write()
    assert "RA101" not in {finding.rule for finding in scan([tmp_path]).findings}


@pytest.mark.parametrize("case", LEFT)
def test_what_the_library_would_refuse_or_the_code_undo_is_not_written(case: str, tmp_path: Path) -> None:
    """The finding is left, and said to be."""
    (tmp_path / "code.py").write_text(LEFT[case] + "\n")
    fixed = fix([tmp_path], Options())
    assert not fixed.after
    assert fixed.left


@pytest.mark.parametrize("line", NAMES)
def test_a_policy_has_a_name_that_is_free(line: str, tmp_path: Path) -> None:
    """The name that the file imports is taken; what a text or a function has counts for nothing at the top."""
    name, missing = NAMES[line]
    file = tmp_path / "code.py"
    file.write_text(FREE.format(line))
    fix([tmp_path], Options(), lambda call: "web").write()
    after = file.read_text().split("\n")
    added = [each for each in after if each not in FREE.format(line).split("\n") and "timeout" not in each]
    assert added == [*[missing] * bool(missing), f'@{name}("web")']


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            "#!/usr/bin/python\n# coding: utf-8\n# What f does.\n",
            "#!/usr/bin/python\n# coding: utf-8\n{0}\n\n\n# What f does.\n",
        ),
        ("# Copyright\n\n# What f does.\n", "# Copyright\n\n{0}\n\n\n# What f does.\n"),
        (
            '"""Doc."""\nfrom __future__ import annotations\n\n\n',
            '"""Doc."""\nfrom __future__ import annotations\n{0}\n\n\n',
        ),
        ('"""Doc."""; from __future__ import annotations\n', '"""Doc."""; from __future__ import annotations\n{0}\n'),
    ],
)
def test_the_import_leaves_comments_where_they_are(head: str, expected: str, tmp_path: Path) -> None:
    """The first lines of a file stay first, and what speaks of a function stays above it."""
    file = tmp_path / "code.py"
    file.write_text(f"{head}def f():\n    import requests\n    requests.get(url, timeout=None)\n")
    fix([tmp_path], Options(), lambda call: "web").write()
    start = expected.format("from resilient_agents import resilient")
    assert file.read_text().startswith(f'{start}@resilient("web")\ndef f():\n')


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_the_ends_of_lines_stay_as_they_are(end: str, tmp_path: Path) -> None:
    """Those of old editors, too."""
    file = tmp_path / "code.py"
    file.write_bytes(f"import zmq{end}s = zmq.Context().socket(zmq.REQ){end}s.recv(){end}".encode())
    fix([tmp_path], Options()).write()
    lines = ["import zmq", "s = zmq.Context().socket(zmq.REQ)", "s.setsockopt(zmq.RCVTIMEO, 10_000)", "s.recv()", ""]
    assert file.read_bytes() == end.join(lines).encode()


@pytest.mark.parametrize(
    "made",
    [
        "smtplib.SMTP('h', 25, None, 5).noop()",
        "smtplib.SMTP_SSL('h', 25, None, None, None, 5).noop()",
        "imaplib.IMAP4('h', 143, 5).noop()",
        "poplib.POP3('h', 110, 5).stat()",
        "ftplib.FTP('h', 'u', 'p', '', 5).nlst()",
        "telnetlib.Telnet('h', 23, 5).read_all()",
    ],
)
def test_a_limit_by_position_is_one(made: str, tmp_path: Path) -> None:
    """Of the clients in the standard library."""
    (tmp_path / "code.py").write_text(f"import ftplib, imaplib, poplib, smtplib, telnetlib\n{made}\n")
    assert {call.limit for call in scan([tmp_path]).calls} == {"explicit"}
