"""Writes what the pages show of the simulator: a table and a picture for each scenario, a table for each preset.

    pip install "resilient-agents[simulate]"
    python docs/examples/scenarios.py docs/pages

The same seeds give the same figures, so a second run changes nothing. Each table stands between two comments of its
page; the picture lies beside the page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from resilient_agents.presets import PRESETS
from resilient_agents.simulate import Result, simulate
from resilient_agents.simulate.picture import draw
from resilient_agents.simulate.policies import named
from resilient_agents.simulate.report import seconds_of, share, table
from resilient_agents.simulate.scenarios import find

POLICIES = Path(__file__).with_suffix(".toml")

# Which two policies the page of a scenario compares.
COMPARED = {
    "retry-storm": (f"{POLICIES.name}:naive", f"{POLICIES.name}:guarded"),
    "slow": ("http", "critical"),
    "quota": ("http", "llm"),
    "bad-replica": (f"{POLICIES.name}:jumpy", "tool"),
    "herd": (f"{POLICIES.name}:patient", f"{POLICIES.name}:gated"),
    "cold-cache": (f"{POLICIES.name}:naive", "http"),
    "fanout": ("http", "llm"),
    "stream-stall": (f"{POLICIES.name}:patient_reader", f"{POLICIES.name}:watchful_reader"),
}


def of_scenario(scenario: str) -> dict[str, Result]:
    """What becomes of the policies that its page compares, by their short names."""
    return {_name(policy): _run(policy, scenario) for policy in COMPARED[scenario]}


def _name(policy: str) -> str:
    return policy.rpartition(":")[2]


def _run(policy: str, scenario: str) -> Result:
    where, _, name = policy.partition(":")
    make = named(str(POLICIES), name) if name else named(where)
    return simulate(make, find(scenario))


def command(scenario: str) -> str:
    """What a reader types for the same figures, in the folder of this file."""
    first, second = COMPARED[scenario]
    return f"resilient-agents simulate {first} --scenario {scenario} --compare {second}"


def row(preset: str, scenario: str) -> str:
    """A line of the table on a preset's page."""
    found = _run(preset, scenario)
    cells = (
        share(found.success_rate) + _never_ended(found),
        seconds_of(found.p99),
        f"{found.attempts:.2f}",
        share(found.refused / found.calls),
        _moment(found.opened_after),
        _moment(found.recovered_after),
    )
    return f"| [{scenario}](scenario-{scenario}.md) | " + " | ".join(cells) + " |"


def _never_ended(found: Result) -> str:
    return f"; {found.unfinished:,} of {found.calls + found.unfinished:,} had not ended" if found.unfinished else ""


def _moment(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.1f} s"


def preset_lines(preset: str) -> Iterator[str]:
    yield "| Scenario | Success | p99 | Requests per call | Refused | Opened after | Recovered after |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for scenario in COMPARED:
        yield row(preset, scenario)


def between(text: str, lines: Sequence[str]) -> str:
    """The page with these lines between its two comments."""
    found = re.sub(
        r"(<!-- simulated -->\n).*?(<!-- end -->)",
        lambda match: match[1] + "\n" + "\n".join(lines) + "\n\n" + match[2],
        text,
        flags=re.DOTALL,
    )
    if found == text and "\n".join(lines) not in text:
        raise SystemExit("a page has no <!-- simulated --> … <!-- end -->")
    return found


def main(pages: Path) -> None:
    for scenario in COMPARED:
        results = of_scenario(scenario)
        page = pages / f"scenario-{scenario}.md"
        page.write_text(between(page.read_text(), ["```text", *table(results), "```"]))
        draw(results, pages / f"scenario-{scenario}.png", title=scenario)
    for preset in PRESETS:
        page = pages / f"preset-{preset}.md"
        page.write_text(between(page.read_text(), list(preset_lines(preset))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
