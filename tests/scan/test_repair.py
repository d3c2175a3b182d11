"""A broken line costs itself: calls elsewhere in the file keep their line, function and blocks around them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient_agents.scan import scan
from resilient_agents.scan.form import nesting
from resilient_agents.scan.source import form_of
from tests.scan.expected import Expected, expected_in, found_by, unpack


def unclosed(line: str) -> str | None:
    code, mark, rest = line.partition("  #:")
    return code.rstrip()[:-1] + mark + rest if code.rstrip().endswith(")") else None


def without_colon(line: str) -> str | None:
    found = re.match(r"(\s*(?:async )?(?:def|if|for|while|try|with|class|else|except)\b.*):\s*$", line)
    return found[1] if found else None


def twice_closed(line: str) -> str | None:
    return f"{line})" if re.match(r"\s+\w+ = [\w.]+\(.*\)$", line) else None


def half_quoted(line: str) -> str | None:
    return line.replace('"', "", 1) if re.match(r"\s+\w[\w.]*\([^\"]*\"[^\"]*\"\)$", line) else None


def pushed_in(line: str) -> str | None:
    return f"  {line}" if re.match(r"        \S.*[)\]]$", line) else None


def python_2(line: str) -> str | None:
    return re.sub(r"\S.*", 'print "done"', line) if re.match(r"\s+(pass|return)\b", line) else None


def imported_half(line: str) -> str | None:
    return f"from common.config import (\n{line}" if line.startswith("from ") else None


def pasted_between(line: str) -> str | None:
    """What stands between two answers of a chat, in the midst of a class."""
    between = "```\n\nNow let's add the rest (don't forget the imports):\n\n```python\n"
    return between + line if re.match(r"    (async )?def ", line) else None


def as_a_patch(line: str) -> str | None:
    return f"-       old = value\n@@ -10,7 +10,8 @@\n{line}" if re.match(r"        \S.*[)\]]$", line) else None


def without_its_try(line: str) -> str | None:
    return f"    except Exception as error:\n{line}" if re.match(r"        \S.*[)\]]$", line) else None


def at_the_left(line: str) -> str | None:
    return line.removeprefix("    ") if re.match(r"    (async )?def \w+\(self", line) else None


def at_the_right(line: str) -> str | None:
    return f"    {line}" if re.match(r"    (async )?def \w+\(self.*:$", line) else None


def helper_between(line: str) -> str | None:
    return f"def helper(a, b):\n    return a +\n\n{line}" if re.match(r"    (async )?def \w+\(self", line) else None


ADDED = (at_the_left, at_the_right, helper_between, imported_half, pasted_between, as_a_patch, without_its_try)
BREAKS = (unclosed, without_colon, twice_closed, half_quoted, pushed_in, python_2, *ADDED)
MAKES = re.compile(r"socket\(|connect\(|Poller|class |__init__|cursor|import|MemoryAgent")


@pytest.mark.parametrize("damage", BREAKS, ids=lambda damage: damage.__name__)
def test_a_broken_line_costs_itself(damage: Callable[[str], str | None], tmp_path: Path) -> None:
    """Wherever it breaks."""
    folder = unpack("services", tmp_path)
    file = folder / "agents" / "memory_agent.py"
    lines = file.read_text().split("\n")
    broken = 0
    for number, line in enumerate(lines):
        damaged = damage(line)
        # What makes a client is missed where it is broken; that is another matter.
        if damaged is None or (damage not in ADDED and MAKES.search(line)):
            continue
        text = "\n".join([*lines[:number], damaged, *lines[number + 1 :]])
        try:
            ast.parse(text)
            continue
        except SyntaxError:
            broken += 1
        file.write_text(text)
        wanted = elsewhere(expected_in(folder), number + 1)
        assert elsewhere(found_by(scan([folder]), folder), number + 1) == wanted, f"{number + 1}: {damaged}"
    assert broken


def elsewhere(found: list[Expected], line: int) -> list[tuple[object, ...]]:
    return [(each.path, each.line, each.callee, each.function, each.flags) for each in found if each.line != line]


OPEN_STRING = '''
import requests

class Desk:
    def ask(self):
        """Ask, and wait for
        return requests.get(self.url)

    def tell(self, text):
        """Tell it."""
        return requests.post(self.url, text, timeout=3)

    def end(self):
        """End it."""
        requests.delete(self.url)
'''


def test_a_string_that_is_never_closed_holds_no_code(tmp_path: Path) -> None:
    """Its three quotes would be closed by those that open the next docstring, and all after it be inside out."""
    (tmp_path / "desk.py").write_text(OPEN_STRING)
    found = {each.function: each.callee for each in scan([tmp_path]).calls}
    assert found == {"ask": "requests.get", "tell": "requests.post", "end": "requests.delete"}


SHIFTED = """
import requests

class Desk:
    def __init__(self):
        self.session = requests.Session()

def ask(self):
    print "asking"
    return self.session.get(self.url)

    def tell(self, text):
        return self.session.post(self.url, text)

def keep(work):
    def wrapper(self):
        return work(self)
    return wrapper

def look(url):
    return requests.get(url)
"""


def test_a_method_that_is_shifted_to_the_left_is_one(tmp_path: Path) -> None:
    """With what follows it; a function that makes another one is none, nor what is behind it."""
    (tmp_path / "desk.py").write_text(SHIFTED)
    found = {each.function: each.callee for each in scan([tmp_path]).calls}
    assert found == {"ask": "requests.Session.get", "tell": "requests.Session.post", "look": "requests.get"}


@pytest.mark.parametrize(("text", "levels"), [("a.b.c()\n", 3), ("a().b().c()\n", 5), ("", 0)])
def test_it_is_known_how_deep_expressions_are_nested(text: str, levels: int) -> None:
    """Only what is nested deeply may be too deep to be followed."""
    assert nesting(form_of("a.py", text.encode())[0]) == levels
