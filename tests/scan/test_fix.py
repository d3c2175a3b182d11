"""A fix parses, changes nothing the second time, touches only the lines that are meant, and the finding is gone."""

from __future__ import annotations

import ast
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from resilient_agents.scan.advice import advise
from resilient_agents.scan.advice.policies import policy_of
from resilient_agents.scan.fix import fix
from tests.scan.expected import cases, unpack

PIECES = {
    "made with a limit": (
        """
        import socket
        s = socket.create_connection(("h", 1))
        s.sendall(b"")
        """,
        """
        import socket
        s = socket.create_connection(("h", 1), timeout=10)
        s.sendall(b"")
        """,
    ),
    "argument": (
        """
        import requests
        requests.get(url)  # why
        """,
        """
        import requests
        requests.get(url, timeout=10)  # why
        """,
    ),
    "none": (
        """
        import requests
        requests.get(url, timeout = None)
        """,
        """
        import requests
        requests.get(url, timeout = 10)
        """,
    ),
    "lines": (
        """
        import requests
        requests.post(
            url,  # where
            json={},
        )
        """,
        """
        import requests
        requests.post(
            url,  # where
            json={},
            timeout=10,
        )
        """,
    ),
    "chain": (
        """
        import requests
        x = requests.get('ü', a()).json()['b'] + 1
        """,
        """
        import requests
        x = requests.get('ü', a(), timeout=10).json()['b'] + 1
        """,
    ),
    "client": (
        """
        import httpx
        client = httpx.Client(timeout=None)
        client.get(url)
        client.post(url)
        """,
        """
        import httpx
        client = httpx.Client(timeout=10)
        client.get(url)
        client.post(url)
        """,
    ),
    "socket option": (
        """
        import zmq
        def ask(ctx: zmq.Context):
            s = ctx.socket(zmq.REQ)
            return s.recv()
        """,
        """
        import zmq
        def ask(ctx: zmq.Context):
            s = ctx.socket(zmq.REQ)
            s.setsockopt(zmq.RCVTIMEO, 10_000)
            return s.recv()
        """,
    ),
    "setter": (
        """
        import socket
        s = socket.socket()
        s.connect(a)
        """,
        """
        import socket
        s = socket.socket()
        s.settimeout(10)
        s.connect(a)
        """,
    ),
    "milliseconds": (
        """
        import zmq
        zmq.Poller().poll()
        """,
        """
        import zmq
        zmq.Poller().poll(timeout=10_000)
        """,
    ),
}

LOADER = '''
"""Doc."""
from __future__ import annotations

import requests


@app.get("/")
def load(url):
    return requests.get(url)


def stream(url):
    yield requests.get(url)
'''
GUARDED = (
    LOADER.replace("import requests\n", "import requests\nfrom resilient_agents import resilient\n")
    .replace("def load", '@resilient("requests")\ndef load')
    .replace("return requests.get(url)", "return requests.get(url, timeout=10)")
)


@pytest.mark.parametrize("piece", PIECES)
def test_a_limit_is_added_as_the_library_takes_it(piece: str, tmp_path: Path) -> None:
    """Argument, client argument, socket option or setter, in its unit; comments and layout stay."""
    before, after = map(textwrap.dedent, PIECES[piece])
    file = tmp_path / "code.py"
    file.write_text(before)
    fixed = fix([tmp_path], Options())
    assert list(fixed.after.values()) == [after]
    fixed.write()
    assert "RA101" not in {finding.rule for finding in scan([tmp_path]).findings}


@pytest.mark.parametrize("how", ["limits", "policy"])
@pytest.mark.parametrize("case", cases())
def test_a_fix_holds_its_promises(case: str, how: str, tmp_path: Path) -> None:
    """On each module of the corpus: broken files are left alone, other lines keep their text, nothing is left over."""
    folder = unpack(case, tmp_path)
    before = {path: path.read_text() for path in folder.rglob("*.py")}
    fixed = fix([folder], Options(), policy_of(advise([folder])) if how == "policy" else None)
    fixed.write()
    left = {(finding.call.path, finding.call.callee) for finding in fixed.left}
    for path, text in before.items():
        after = path.read_text()
        if after == text:
            continue
        ast.parse(text)
        ast.parse(after)
        gone = set(text.split("\n")) - set(after.split("\n"))
        assert all(any(word in line for word in ("(", "None")) for line in gone)
    again = fix([folder], Options(), policy_of(advise([folder])) if how == "policy" else None)
    assert not again.after
    assert {(finding.call.path, finding.call.callee) for finding in again.left} <= left


def test_a_policy_is_named_after_the_dependency(tmp_path: Path) -> None:
    """The decorator stands next to the `def`, the import behind the first imports; what blocks has its limit, too."""
    file = tmp_path / "code.py"
    file.write_text(LOADER)
    fixed = fix([tmp_path], Options(), policy_of(advise([tmp_path])))
    assert list(fixed.after.values()) == [GUARDED]
    assert [finding.call.function for finding in fixed.left] == ["stream"]


def test_a_fix_names_the_policies_that_need_a_thread(tmp_path: Path) -> None:
    """What blocks in a plain function and takes no limit is ended in a thread alone; in async code it is left."""
    code = "import psycopg2\n\n\n{0}def f(query):\n    psycopg2.connect('dbname=x').cursor().execute(query)\n"
    (tmp_path / "plain.py").write_text(code.format(""))
    (tmp_path / "other.py").write_text(code.format("async "))
    fixed = fix([tmp_path], Options(), lambda call: "names")
    assert [call.path.rpartition("/")[2] for call in fixed.threads["names"]] == ["plain.py"]
    assert [finding.call.path.rpartition("/")[2] for finding in fixed.left] == ["other.py"]


@pytest.mark.parametrize(
    "body",
    [
        "for message in redis.Redis(socket_timeout=1).pubsub().listen():\n        print(message)",
        "while self.running:\n        requests.get(URL)",
        "while True:\n        requests.get(URL)",
        "zmq.proxy(front, back)",
    ],
)
def test_what_goes_on_until_it_is_stopped_gets_no_policy(body: str, tmp_path: Path) -> None:
    """A time limit of the whole function would end it."""
    (tmp_path / "code.py").write_text(f"import redis\nimport requests\nimport zmq\n\n\ndef work(self):\n    {body}\n")
    fixed = fix([tmp_path], Options(), policy_of(advise([tmp_path])))
    assert not fixed.after
    assert len(fixed.left) == 1


@pytest.mark.parametrize(
    "body",
    [
        "s = socket.socket()\n    s.bind(A)\n    s.listen()\n    while True:\n        s.accept()",
        "s = zmq.Context().socket(zmq.SUB)\n    while True:\n        s.recv()",
        "s = zmq.Context().socket(zmq.REP)\n    while True:\n        s.recv()",
    ],
)
def test_what_waits_for_what_comes_by_itself_gets_no_limit(body: str, tmp_path: Path) -> None:
    """A server would end with an error as soon as nobody calls for so long."""
    (tmp_path / "code.py").write_text(f"import socket\nimport zmq\n\n\ndef work():\n    {body}\n")
    fixed = fix([tmp_path], Options())
    assert not fixed.after
    assert len(fixed.left) == 1


@pytest.mark.parametrize(
    ("handler", "guarded"),
    [
        ("except requests.RequestException as error:\n        print(error)", False),
        ("except Exception:\n        return None", False),
        ("except Exception as error:\n        return {'items': []}", False),
        ("except ValueError:\n        return None", True),
        ("except requests.RequestException as error:\n        print(error)\n        raise", True),
        ("finally:\n        print()", True),
    ],
)
def test_a_function_that_keeps_the_error_inside_gets_no_policy(handler: str, guarded: bool, tmp_path: Path) -> None:
    """A policy around it would never see that the call has failed."""
    code = f"import requests\n\n\ndef work():\n    try:\n        return requests.get(URL)\n    {handler}\n"
    (tmp_path / "code.py").write_text(code)
    fixed = fix([tmp_path], Options(), policy_of(advise([tmp_path])))
    assert bool(fixed.after) is guarded
    assert len(fixed.left) == (not guarded)


def test_a_function_that_calls_several_dependencies_gets_no_policy(tmp_path: Path) -> None:
    """One policy cannot fit both, also where the other call has a limit."""
    code = "import requests, subprocess\n\n\ndef work(url):\n    subprocess.run(['git', 'pull'])\n"
    (tmp_path / "code.py").write_text(f"{code}    return requests.get('https://a.example.com', timeout=5)\n")
    fixed = fix([tmp_path], Options(), policy_of(advise([tmp_path])))
    assert not fixed.after
    assert len(fixed.left) == 1


def test_a_patch_changes_nothing(tmp_path: Path) -> None:
    """It can be looked at first."""
    file = tmp_path / "code.py"
    file.write_text("import requests\nrequests.get(url)\n")
    patch = fix([tmp_path], Options()).patch()
    assert "+requests.get(url, timeout=10)" in patch
    assert file.read_text() == "import requests\nrequests.get(url)\n"


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("tool", [["git", "apply", "-"], ["patch", "-p1"]], ids=lambda tool: tool[0])
def test_a_patch_is_applied_by_the_usual_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: bool, tool: list[str]
) -> None:
    """Where the command was run, or at the root for files that stand elsewhere, with any kind of line in them."""
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    folder, elsewhere = tmp_path / "code", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "file.py").write_text("import requests\npage = '\x0c\u2028'\nrequests.get(page)")
    monkeypatch.chdir(tmp_path if below else elsewhere)
    fixed = fix([folder], Options())
    patch = fixed.patch()
    assert "//" not in patch
    root = tmp_path if below else tmp_path / "copy"
    there = folder if below else root.joinpath(*folder.parts[1:])
    if not below:
        shutil.copytree(folder, there)
    subprocess.run(tool, input=patch.encode(), cwd=root, check=True, capture_output=True)
    assert (there / "file.py").read_text().endswith("requests.get(page, timeout=10)")


def test_a_fix_keeps_the_encoding_of_a_file(tmp_path: Path) -> None:
    """What is written as latin-1 stays latin-1, and a byte order mark stays where it is."""
    latin, marked = tmp_path / "latin.py", tmp_path / "marked.py"
    latin.write_bytes('# -*- coding: latin-1 -*-\nimport requests\nrequests.get("ü")\n'.encode("latin-1"))
    marked.write_bytes(b"\xef\xbb\xbf" + 'import requests\nrequests.get("ü")\n'.encode())
    fix([tmp_path], Options()).write()
    assert latin.read_bytes().endswith(b'requests.get("\xfc", timeout=10)\n')
    assert marked.read_bytes() == b"\xef\xbb\xbf" + 'import requests\nrequests.get("ü", timeout=10)\n'.encode()
