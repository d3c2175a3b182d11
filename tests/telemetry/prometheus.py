"""A real Prometheus, as Debian packages it, over series that were scraped in virtual time.

The series are written into its storage, so nothing waits for a scrape; it is asked over its HTTP API at any of their
moments.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tests.telemetry.traffic import EVERY, Series

__all__ = ["MISSING", "Prometheus", "firing"]

BEGINNING = 1_700_000_000  # when the first scrape was, in seconds since 1970
TARGET = {"job": "agents", "instance": "agents:9464"}  # the labels that Prometheus adds to what it scrapes

MISSING = (
    "neither Prometheus nor promtool is on the PATH (Debian: apt-get install prometheus), so its own verdict on the "
    "queries and rules is missing"
    if shutil.which("prometheus") is None or shutil.which("promtool") is None
    else ""
)


class Prometheus:
    """The HTTP API of a running one."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str, at: float) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of an instant query, `at` seconds after the first scrape."""
        arguments = urllib.parse.urlencode({"query": expression, "time": BEGINNING + at})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{arguments}") as answer:
            result = json.load(answer)["data"]["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def label_values(self, label: str, match: str) -> list[str]:
        """What a variable of Grafana's offers."""
        arguments = urllib.parse.urlencode({"match[]": match, "start": BEGINNING, "end": BEGINNING + 3600})
        with urllib.request.urlopen(f"{self._url}/api/v1/label/{label}/values?{arguments}") as answer:
            values: list[str] = json.load(answer)["data"]
        return values

    @classmethod
    @contextlib.contextmanager
    def over(cls, series: list[Series], directory: Path) -> Generator[Prometheus, None, None]:
        """Run one whose storage, in `directory`, holds `series`."""
        text, storage, config = directory / "series.txt", directory / "data", directory / "prometheus.yml"
        text.write_text(_openmetrics(series), encoding="utf-8")
        config.write_text("global: {}\n", encoding="utf-8")
        promtool("tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(storage))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={storage}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address={address}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            log: list[str] = []
            while not log or "Server is ready" not in log[-1]:
                log.append(process.stderr.readline())
                assert log[-1], "".join(log)
            yield cls(f"http://{address}")
        finally:
            process.kill()
            process.communicate()


def promtool(*arguments: str) -> str:
    """Run it and return what it says. AssertionError if it complains."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def firing(rules: Path, series: list[Series], expected: dict[float, set[str]], directory: Path) -> None:
    """Let promtool evaluate `rules` over `series`. AssertionError unless just the `expected` alerts fire at each of the
    moments."""
    last = max(at for each in series for at, _ in each.samples)
    tests = {
        "rule_files": [str(rules)],
        "evaluation_interval": f"{EVERY:g}s",
        "tests": [
            {
                "interval": f"{EVERY:g}s",
                "input_series": [{"series": _name(each), "values": _values(each, last)} for each in series],
                "promql_expr_test": [
                    {
                        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{at:g}s",
                        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
                    }
                    for at, names in expected.items()
                ],
            }
        ],
    }
    file = directory / "rules_test.json"  # JSON is YAML
    file.write_text(json.dumps(tests), encoding="utf-8")
    promtool("test", "rules", str(file))


def _name(series: Series) -> str:
    labels = ",".join(f'{name}="{value}"' for name, value in {**series.labels, **TARGET}.items())
    return f"{series.name}{{{labels}}}"


def _openmetrics(series: list[Series]) -> str:
    lines = [f"{_name(each)} {value!r} {BEGINNING + at:.0f}\n" for each in series for at, value in each.samples]
    return "".join(lines) + "# EOF\n"


def _values(series: Series, last: float) -> str:
    samples: dict[float, Any] = dict(series.samples)
    return " ".join(str(samples.get(number * EVERY, "_")) for number in range(int(last / EVERY) + 1))
