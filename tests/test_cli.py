"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import cli

MS = 1_000_000


def write(path: Path, *policies: str, trace: str = "ab" * 16, retries: int = 0) -> None:
    """A file with one operation for each policy, each with a trace id that counts up."""
    with path.open("a") as file:
        for number, policy in enumerate(policies):
            start = number * 1000 * MS
            events = [{"timeUnixNano": str(start + n * MS), "name": "retry.scheduled"} for n in range(retries)]
            span: dict[str, Any] = {
                "traceId": f"{number:02x}{trace[2:]}",
                "spanId": f"{number:016x}",
                "name": f"policy {policy}",
                "startTimeUnixNano": str(start),
                "endTimeUnixNano": str(start + 50 * MS),
                "events": events,
            }
            scope = {"scope": {"name": "resilient_agents"}, "spans": [span]}
            file.write(json.dumps({"resourceSpans": [{"scopeSpans": [scope]}]}) + "\n")


def run(*arguments: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own; `code` runs first."""
    program = f"{code}\nimport sys; from resilient_agents.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


# ---------------------------------------------------------------------------------------------------------------- shell


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Both print and end well."""
    for option, expected in (("--version", "resilient-agents "), ("--help", "demo")):
        with pytest.raises(SystemExit) as ended:
            cli.main([option])
        assert ended.value.code == 0
        assert expected in capsys.readouterr().out


def test_no_command_shows_the_help_and_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types only the name learns what there is."""
    assert cli.main([]) == 2
    printed = capsys.readouterr()
    assert "trace" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["trace"],
        ["trace", "f", "--limit", "0"],
        ["demo", "--seconds", "1"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seed", "x"],
    ],
)
def test_wrong_use_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse says what is wrong and the status is 2."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_python_m_works() -> None:
    """`python -m resilient_agents` is the same program."""
    done = subprocess.run(
        [sys.executable, "-m", "resilient_agents", "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "resilient-agents")


# ---------------------------------------------------------------------------------------------------------------- trace


def test_trace_draws_the_operation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An operation in a file becomes a picture."""
    write(tmp_path / "f", "chat")
    assert cli.main(["trace", str(tmp_path / "f")]) == 0
    printed = capsys.readouterr()
    assert "policy chat: success" in printed.out
    assert "━━━" in printed.out
    assert printed.err == ""


def test_trace_shows_the_most_telling_first_and_says_what_it_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With more operations than asked for, those to which most happened are drawn."""
    write(tmp_path / "f", "dull", "grey")
    write(tmp_path / "f", "lively", trace="cd" * 16, retries=2)
    assert cli.main(["trace", str(tmp_path / "f"), "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "policy lively" in out
    assert "policy dull" not in out
    assert "1 of 3 operations" in out


def test_trace_begins_with_a_line_for_each_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary counts all calls of the file, whatever is drawn of them."""
    write(tmp_path / "f", "chat", "chat", "search")
    assert cli.main(["trace", str(tmp_path / "f"), "--limit", "1"]) == 0
    head, chat, search = capsys.readouterr().out.splitlines()[:3]
    assert head.split()[:3] == ["policy", "calls", "success"]
    assert (chat.split()[:2], search.split()[:2]) == (["chat", "2"], ["search", "1"])


def test_trace_picks_the_slowest_and_those_with_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--slowest N draws the operations that took longest, --errors those whose caller saw an error."""
    write(tmp_path / "f", "quick", "slow", "broken")
    documents = [json.loads(line) for line in (tmp_path / "f").read_text().splitlines()]
    _, slow, broken = (document["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for document in documents)
    slow["endTimeUnixNano"] = str(int(slow["endTimeUnixNano"]) + 10**10)
    broken["status"] = {"code": 2}
    (tmp_path / "f").write_text("\n".join(map(json.dumps, documents)))

    def pictures(*options: str) -> list[str]:
        assert cli.main(["trace", str(tmp_path / "f"), *options]) == 0
        return re.findall(r"^policy (\w+):", capsys.readouterr().out, re.MULTILINE)

    assert pictures("--slowest", "1") == ["slow"]
    assert pictures("--errors") == ["broken"]
    assert pictures("--errors", "--slowest", "2") == ["broken"]
    del broken["status"]
    (tmp_path / "f").write_text("\n".join(map(json.dumps, documents)))
    assert cli.main(["trace", str(tmp_path / "f"), "--errors"]) == 0
    assert "None of 3 operations ended in an error for its caller." in capsys.readouterr().out


def test_trace_by_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--id picks one trace by the beginning of its id, in either case."""
    write(tmp_path / "f", "first", "second")
    assert cli.main(["trace", str(tmp_path / "f"), "--id", "01AB"]) == 0
    out = capsys.readouterr().out
    assert "policy second" in out
    assert "policy first" not in out


def test_trace_reads_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`-` is standard input."""
    write(tmp_path / "f", "chat")
    monkeypatch.setattr(sys, "stdin", io.StringIO((tmp_path / "f").read_text()))
    assert cli.main(["trace", "-"]) == 0
    assert "policy chat" in capsys.readouterr().out


def test_trace_says_which_lines_it_could_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is still being written to, or broken here and there, is drawn as far as it goes."""
    write(tmp_path / "f", "chat")
    with (tmp_path / "f").open("a") as file:
        file.write("oops\n" * 4 + '{"resourceSpans": [')
    assert cli.main(["trace", str(tmp_path / "f")]) == 0
    printed = capsys.readouterr()
    assert "policy chat" in printed.out
    assert printed.err.splitlines() == [
        *(f"resilient-agents: line {n} is not OTLP JSON" for n in (2, 3, 4)),
        "resilient-agents: and 2 more lines like these",
    ]


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (None, 2, "cannot read"),
        (b"", 1, "no spans"),
        (b"hello\n", 1, "resourceSpans"),
        (b"\xff\xfe\x00", 2, "it is not text"),
        (b'{"resourceSpans": []}\n', 1, "no spans"),
    ],
)
def test_trace_with_nothing_to_draw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, status: int, message: str
) -> None:
    """A missing file, a wrong one or an empty one ends in one plain sentence."""
    if content is not None:
        (tmp_path / "f").write_bytes(content)
    assert cli.main(["trace", str(tmp_path / "f")]) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_a_files_name_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a name holds besides characters is a question mark in a complaint about the file."""
    assert cli.main(["trace", str(tmp_path / "\x1b[2Jevil")]) == 2
    assert "?[2Jevil: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_trace_counts_from_one(capsys: pytest.CaptureFixture[str], number: str) -> None:
    """How many operations to draw is a whole number of at least 1."""
    with pytest.raises(SystemExit):
        cli.main(["trace", "f", "--slowest", number])
    assert f"argument --slowest: must be a whole number of at least 1, got {number}" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_trace_reads_files_with_a_byte_order_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str
) -> None:
    """What an editor or a shell's redirection left in front of the first line costs nothing."""
    write(tmp_path / "f", "chat")
    (tmp_path / "g").write_text((tmp_path / "f").read_text(), encoding=encoding)
    assert cli.main(["trace", str(tmp_path / "g")]) == 0
    printed = capsys.readouterr()
    assert "policy chat" in printed.out
    assert printed.err == ""


def test_trace_in_an_encoding_that_lacks_a_character(tmp_path: Path) -> None:
    """A name that standard output cannot encode is drawn with question marks."""
    write(tmp_path / "f", "日本")
    done = run("trace", str(tmp_path / "f"), env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "policy ????" in done.stdout


def test_trace_of_strangers_spans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Spans without an operation of ours are counted, and an unknown id is named."""
    write(tmp_path / "f", "chat")
    assert cli.main(["trace", str(tmp_path / "f"), "--id", "ffff"]) == 1
    assert "ffff" in capsys.readouterr().err
    (tmp_path / "f").write_text((tmp_path / "f").read_text().replace('"resilient_agents"', '"else"'))
    assert cli.main(["trace", str(tmp_path / "f")]) == 1
    assert "among the 1 spans" in capsys.readouterr().err


def test_trace_keeps_to_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture is as wide as COLUMNS says, and plain where there is no terminal."""
    monkeypatch.setenv("COLUMNS", "100")
    write(tmp_path / "f", "chat")
    assert cli.main(["trace", str(tmp_path / "f")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) == 100
    assert "\x1b" not in out


def test_trace_in_ascii(tmp_path: Path) -> None:
    """Where standard output knows ASCII only, so does the picture."""
    write(tmp_path / "f", "chat")
    done = run("trace", str(tmp_path / "f"), env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "=====" in done.stdout


def test_trace_needs_no_extra(tmp_path: Path) -> None:
    """Drawing works where neither rich nor the SDK is installed."""
    write(tmp_path / "f", "chat")
    hidden = "import sys; sys.modules.update({'rich': None, 'httpx': None, 'opentelemetry.sdk': None})"
    assert run("trace", str(tmp_path / "f"), code=hidden).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end differently there")
def test_a_reader_that_goes_away_gets_no_traceback(tmp_path: Path) -> None:
    """`resilient-agents trace FILE | head -1` ends quietly."""
    write(tmp_path / "f", *(f"p{n}" for n in range(500)))
    program = [sys.executable, "-m", "resilient_agents", "trace", str(tmp_path / "f"), "--limit", "500"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 141


# ----------------------------------------------------------------------------------------------------------------- demo


@pytest.mark.parametrize("module", ["rich", "httpx", "opentelemetry.sdk"])
def test_a_demo_without_what_it_needs_says_what_to_install(module: str) -> None:
    """One plain line with the command, status 2, and no traceback."""
    done = run("demo", code=f"import sys; sys.modules[{module!r}] = None")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.endswith('run: pip install "resilient-agents[demo]"')
    assert module.replace(".", "-") in line


def test_exporting_needs_the_exporter_and_not_exporting_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """The OTLP exporter is asked for only where it is used."""
    asked: list[str] = []

    def installed(module: str) -> bool:
        asked.append(module)
        return not module.startswith("opentelemetry.exporter") and module != "rich"

    monkeypatch.setattr(cli, "installed", installed)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    assert cli.main(["demo"]) == 2
    assert not any(module.startswith("opentelemetry.exporter") for module in asked)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert cli.main(["demo"]) == 2
    assert any(module.startswith("opentelemetry.exporter") for module in asked)


def test_a_file_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    """`demo --export` fails before the traffic, not after."""
    done = run("demo", "--export", str(tmp_path / "no" / "such" / "folder"))
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to send there")
def test_ctrl_c_ends_the_demo_cleanly() -> None:
    """Status 130, one line, no traceback, and the calls in flight do not hold it up."""
    program = [sys.executable, "-u", "-m", "resilient_agents", "demo", "--seconds", "60"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if " s  answered: " in line:  # it is in the midst of its traffic
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines() == ["resilient-agents: interrupted"]
