"""Files that import each other are one group: nothing is asked in others, and nothing is missed because of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from resilient_agents.scan.run import Scan
from resilient_agents.scan.tree import SourceFile

BOTO = "import boto3\n\n\ndef upload(client):\n    client.put_object()\n"
"""Whose clients may have calls of any name."""
PLAIN = "import requests\n\n\ndef ask(session):\n    session.get('http://a')\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def callable_words(looked: Scan, file: SourceFile) -> frozenset[str] | None:
    resolver = looked.resolver
    return resolver.words.callable_in(file, resolver.tree.by_name.groups)


@pytest.mark.parametrize(
    ("link", "files"),
    [
        ("import a.stores", {}),
        ("from a import stores", {}),
        ("from a.stores import upload", {}),
        ("from ..a import stores", {}),
        ("from . import helpers", {"b/helpers.py": "import a.stores as stores\n"}),
        ("", {"a/__init__.py": "", "main.py": "import a\nfrom b import asks\n"}),
        ("", {"main.py": "from a.stores import *\nimport b.asks\n"}),
    ],
)
def test_what_is_linked_by_imports_is_one_group(link: str, files: dict[str, str], tmp_path: Path) -> None:
    """In either direction, and through other files: what may be a call there is what any of them imports."""
    write(tmp_path, {"a/stores.py": BOTO, "b/asks.py": f"{link}\n{PLAIN}", **files})
    looked = Scan([tmp_path], Options())
    by_name = {Path(file.path).name: callable_words(looked, file) for file in looked.reading.files}
    looked.close()
    assert by_name["asks.py"] == by_name["stores.py"] is None


def test_what_no_import_leads_to_is_not_asked_for(tmp_path: Path) -> None:
    """A library that only another program of the tree imports opens no names here."""
    write(tmp_path, {"a/stores.py": BOTO, "b/asks.py": PLAIN})
    looked = Scan([tmp_path], Options())
    names = {Path(file.path).name: callable_words(looked, file) for file in looked.reading.files}
    looked.close()
    assert names["stores.py"] is None
    assert (asked := names["asks.py"]) is not None
    assert "get" in asked
    assert "put_object" not in asked


def test_what_a_server_holds_needs_no_import(tmp_path: Path) -> None:
    """The server finds the files that use its state, and what its lifespan yields, by itself."""
    server = (
        "import httpx\nimport redis\nfrom fastapi import FastAPI\n\n\n"
        "async def life(app):\n    yield {'web': httpx.Client(timeout=None)}\n\n\n"
        "app = FastAPI(lifespan=life)\napp.state.cache = redis.Redis()\n"
    )
    route = "def ask(request):\n    request.state.web.get('http://a')\n    return request.app.state.cache.get('key')\n"
    write(tmp_path, {"app/server.py": server, "routes/route.py": route})
    assert [call.callee for call in scan([tmp_path]).calls] == ["httpx.Client.get", "redis.Redis.get"]
