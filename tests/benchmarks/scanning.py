"""Rows about `resilient-agents scan`: against `ast.parse` of the same text, and what a cache and `--since` save."""

from __future__ import annotations

import ast
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import resilient_agents
from resilient_agents.presets import PRESETS
from resilient_agents.scan import Options, scan
from resilient_agents.scan.advice import advise
from resilient_agents.scan.advice.examples import examples
from tests.benchmarks.measure import Effort
from tests.benchmarks.table import Line, at_most
from tests.scan.expected import CORPUS

__all__ = ["advising", "scanning", "since_a_revision"]

SOURCES = sorted(Path(resilient_agents.__file__).parent.rglob("*.py"))
MANY = 10_000  # but for each task that an effort has at most FILES_A_TASK
FILES_A_TASK = 80
COPIES = 8  # but no more than an effort has rounds
AS_LONG = 3
"""How often all is parsed at a stretch, so that it takes as long as a scan: where others use the machine, too, the best
of short stretches is better than the best of long ones, by a fifth."""
EXAMPLES = 1_000  # but no more than an effort has tasks


def scanning(effort: Effort) -> Iterator[Line]:
    """Processor time, the corpus many times over: as it is, with a colon less in each file, and again with a cache; and
    this package, as code that does more than to call others."""
    with tempfile.TemporaryDirectory() as name:
        texts = [path.read_text(encoding="utf-8") for path in sorted(CORPUS.rglob("*.py.txt"))]
        texts = [text for text in texts if _parses(text)]
        copies = min(COPIES, effort.rounds)
        whole, broken = Path(name, "whole"), Path(name, "broken")
        for copy in range(copies):
            for number, text in enumerate(texts):
                _write(whole / f"package{copy}" / f"m{number}.py", text)
                _write(broken / f"package{copy}" / f"m{number}.py", _without_a_colon(text))
        ours = [path.read_text(encoding="utf-8") for path in SOURCES]
        works = (
            lambda: _parse(texts * (copies * AS_LONG)),
            lambda: scan([whole]),
            lambda: scan([broken]),
            lambda: _parse(ours * AS_LONG),
            lambda: scan([Path(resilient_agents.__file__).parent]),
        )
        turns = [[_spent(work) for work in works] for _ in range(_rounds(effort))]
        parsing, read, repaired, parsing_ours, read_ours = map(min, zip(*turns, strict=True))
        parsing, parsing_ours = parsing / AS_LONG, parsing_ours / AS_LONG
        kept = Options(cache=Path(name, "cache"))
        first = _spent(lambda: scan([whole], kept))
        again = _best(effort, lambda: scan([whole], kept))
    files = f"{len(texts) * copies} files"
    yield Line("scan, × ast.parse", files, "×", {"ours": read / parsing}, [at_most(3.0)])
    package = f"this package, {len(ours)} files"
    yield Line("scan, × ast.parse", package, "×", {"ours": read_ours / parsing_ours}, [at_most(3.0)])
    yield Line(
        "scan of files that do not parse, × ast.parse", files, "×", {"ours": repaired / parsing}, [at_most(12.0)]
    )
    yield Line("scan again, nothing changed, × the first", files, "×", {"ours": again / first}, [at_most(0.3)])


def advising(effort: Effort) -> Iterator[Line]:
    """Processor time of advice beside that of the scan in it, and of examples of which no two are alike."""
    with tempfile.TemporaryDirectory() as name:
        corpus, many = Path(name, "corpus"), Path(name, "many")
        sources = sorted(CORPUS.rglob("*.py.txt"))
        for number, path in enumerate(sources):
            _write(corpus / f"m{number}.py", path.read_text(encoding="utf-8"))
        read = _best(effort, lambda: scan([corpus]))
        advised = _best(effort, lambda: advise([corpus]))
        wanted = min(EXAMPLES, effort.tasks)
        for number in range(wanted):
            words = ("get" if digit == "0" else "post" for digit in f"{number:010b}")
            calls = "".join(f"    requests.{word}(address)\n" for word in words)
            _write(many / f"m{number}.py", f"import requests\n\n\ndef work(address):\n{calls}")
        began = time.process_time()
        made = examples(advise([many]), PRESETS)
        seconds = time.process_time() - began
    assert len(made.modules) == wanted, made.left
    yield Line("scan --advise, × the scan", f"{len(sources)} files", "×", {"ours": advised / read}, [at_most(1.3)])
    yield Line("scan --examples", f"{wanted:,} examples", "s", {"ours": seconds}, [at_most(60.0)])


def since_a_revision(effort: Effort) -> Iterator[Line]:
    """`scan --since HEAD` as a hook runs it: a process, one changed file of very many, a cache from the run before.

    Processor time of all its processes: more than a clock shows where there are two processors.
    """
    many = min(MANY, FILES_A_TASK * effort.tasks)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "tree")
        for number in range(many):
            target = folder / f"package{number // 100}" / f"m{number}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(SOURCES[number % len(SOURCES)], target)
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
            who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
            subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)
        changed = folder / "package7" / "m700.py"
        changed.write_text(changed.read_text(encoding="utf-8") + "\nimport requests\nrequests.get(address)\n")
        command = [sys.executable, "-m", "resilient_agents", "scan", "--since", "HEAD", "."]
        environment = {"XDG_CACHE_HOME": name, "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin:/usr/local/bin"}
        seconds = []
        for _ in range(1 + effort.processes):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            ended = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
            assert "m700.py" in ended.stdout, ended.stderr
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    yield Line(
        "scan --since, one changed file, warm", f"{many:,} files", "s", {"ours": min(seconds[1:])}, [at_most(2.0)]
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _parse(texts: list[str]) -> None:
    """Each tree is dropped: where all were kept, most of the time would go to the collector that looks at them."""
    for text in texts:
        ast.parse(text)


def _without_a_colon(text: str) -> str:
    """The text with the first colon gone that ends a `def`, so that it does not parse."""
    for line in text.split("\n"):
        if line.lstrip().startswith(("def ", "class ", "if ")) and line.endswith(":"):
            return text.replace(line, line[:-1], 1)
    return text + "\nclass Left:\n"


def _best(effort: Effort, work: Callable[[], object]) -> float:
    return min(_spent(work) for _ in range(_rounds(effort)))


def _rounds(effort: Effort) -> int:
    return max(2, effort.processes // 2)


def _spent(work: Callable[[], object]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.process_time()
        work()
        return time.process_time() - began
