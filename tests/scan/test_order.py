"""What is said of a call does not depend on which files were looked at before it, or where."""

from __future__ import annotations

import random
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_agents.scan import Options, reading, run, scan
from resilient_agents.scan.answers import DEEPEST, Answers
from resilient_agents.scan.records import Report
from resilient_agents.scan.run import Scan, undisturbed
from resilient_agents.scan.tree import SourceFile
from resilient_agents.scan.values import Symbol, Values
from tests.scan.expected import OPT_IN

CLIENTS = ("requests.Session()", "redis.Redis()", "redis.Redis(socket_timeout=5)", "None")
GIVEN = ("{}.client", "{}.pick({}.client)", "{}.Held({}.client).kept", "{}.Held({}.client).other")
PICKS = (
    "return client",
    "return {}.pick(client)",
    "return {}.pick({}.client) or client",
    "return {}.Held(client).kept",
)
KEPT = ("client", "client or {}.client", "{}.pick(client)", "{}.Held(client).other")
TYPES = ("", ": redis.Redis", ": {}.Held", " = {}.client")
BASES = ("", "({}.Held)")
USES = ("client", "pick(client)", "{}.pick({}.client)", "Held(client).kept", "Held({}.client).other", "{}.made()")

Choose = Callable[[tuple[str, ...]], str]


def module(names: list[str], choose: Choose) -> str:
    """One of several modules that use each other in any direction."""

    def text(choices: tuple[str, ...]) -> str:
        chosen = choose(choices)
        return chosen.format(*(choose(tuple(names)) for _ in range(chosen.count("{}"))))

    uses = "".join(f"        {text(USES)}.get('key')\n" for _ in range(2))
    return (
        f"import redis\nimport requests\nimport {', '.join(names)}\n\n"
        f"client = {text(CLIENTS + GIVEN)}\n\n\n"
        f"def pick(client{text(TYPES)}):\n    {text(PICKS)}\n\n\n"
        f"def made():\n    return {text(CLIENTS + GIVEN)}\n\n\n"
        f"class Held{text(BASES)}:\n"
        f"    def __init__(self, client{text(TYPES)}):\n        self.kept = {text(KEPT)}\n\n"
        f"    @property\n    def other(self):\n        return {text((*USES, 'self.kept', 'self.other'))}\n\n"
        f"    def use(self):\n        self.kept.get('key')\n        self.other.get('key')\n{uses}"
    )


def write(folder: Path, count: int, choose: Choose, group: int) -> None:
    """Modules that use those of their own group."""
    for number in range(count):
        first = number - number % group
        names = [f"m{each}" for each in range(first, min(first + group, count))]
        (folder / f"m{number}.py").write_text(module(names, choose))


def said(report: Report) -> tuple[list[object], list[object]]:
    return list(report.calls), [(each.rule, each.message, each.call) for each in report.findings]


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=1 << 32))
def test_files_are_looked_at_in_any_order(seed: int) -> None:
    """One by one, each as if it were the only one, forwards and backwards: it is the same."""
    with tempfile.TemporaryDirectory() as folder, undisturbed():
        write(Path(folder), 4, random.Random(seed).choice, 4)
        looked = Scan([Path(folder)], Options(select=OPT_IN))
        files = looked.reading.files

        def each_alone(some: Iterable[SourceFile]) -> dict[str, object]:
            found: dict[str, object] = {}
            for file in some:
                looked.resolver.forget()
                found[file.path] = looked.look(file)
            return found

        alone = each_alone(files)
        for order in (files, files[::-1], files[2:] + files[:2]):
            looked.resolver.forget()
            assert {file.path: looked.look(file) for file in order} == alone
        looked.close()


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree that several processes look at, in circles of eight modules."""
    folder = tmp_path / "tree"
    folder.mkdir()
    write(folder, 248, random.Random(7).choice, 8)
    monkeypatch.chdir(folder)
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words], check=True)
    return folder


def test_processes_caches_and_revisions_make_no_difference(large: Path, tmp_path: Path) -> None:
    """In one process and in two, cold and warm, all files and those that have changed: the calls are the same."""
    cold = scan([large])
    assert said(scan([large], Options(jobs=2, cache=tmp_path / "cache"))) == said(cold)
    changed = ["m3.py", "m200.py", "m247.py"]
    for name in changed:
        with (large / name).open("a") as file:
            file.write("\n# the end\n")
    assert said(scan([large], Options(cache=tmp_path / "cache"))) == said(cold)
    since = scan([large], Options(since="HEAD", cache=tmp_path / "cache"))
    assert since.calls == [each for each in cold.calls if each.path in changed]


def test_what_is_dropped_meanwhile_makes_no_difference(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forms and answers that are too many are made again when they are asked for, and are the same."""
    kept = scan([large])
    monkeypatch.setattr(reading, "UNPACKED", 2_000)
    monkeypatch.setattr(run, "MOST_ANSWERS", 1_000)
    monkeypatch.setattr(run, "PART", 20)
    assert said(scan([large])) == said(kept)


def test_a_chain_of_any_length_is_followed() -> None:
    """A question that lies too deep is answered first, and then those that led to it."""
    answers, end = Answers(), (Symbol("end"),)

    def link(number: int) -> Values:
        return answers.once(number, lambda: link(number + 1) if number < 3 * DEEPEST else end)

    with undisturbed():
        assert link(0) == end


@pytest.mark.parametrize("first", [0, 100, 200])
def test_a_circle_has_one_answer(first: int) -> None:
    """Wherever it is entered, what one of its questions finds is the answer to all."""
    answers, length, found = Answers(), DEEPEST - 10, Symbol("found")

    def link(number: int) -> Values:
        def make() -> Values:
            further = link((number + 1) % length)
            return (found,) if number == 50 else further

        return answers.once(number, make)

    with undisturbed():
        assert {link((first + each) % length) for each in range(length)} == {(found,)}


def test_a_list_may_be_made_of_itself(tmp_path: Path) -> None:
    """What a global list was before, and one client more: nobody can say which was first."""
    (tmp_path / "m.py").write_text(
        "import requests\n\nKNOWN = []\n\n\n"
        "def add(client):\n    global KNOWN\n    KNOWN = KNOWN + [client]\n\n\n"
        "def ask(url):\n    for client in KNOWN:\n        client.get(url)\n\n\n"
        "add(requests.Session())\n"
    )
    assert [(call.line, call.callee) for call in scan([tmp_path]).calls] == [(13, "requests.Session.get")]
