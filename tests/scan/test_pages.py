"""What the pages about scan say is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resilient_agents import cli
from resilient_agents.scan import Options, scan
from resilient_agents.scan.rules import DEFAULT, RULES

PAGES = Path(__file__).resolve().parents[2] / "docs" / "pages"
SECTIONS = re.split(r"^## ", (PAGES / "scan-rules.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def test_every_rule_has_a_section() -> None:
    """In their order, and in the table with what they are."""
    assert [section.split("\n")[0] for section in SECTIONS] == list(RULES)
    text = (PAGES / "scan-rules.md").read_text(encoding="utf-8")
    for name, rule in RULES.items():
        on = "yes" if name in DEFAULT else "no"
        assert f"| [{name}](#{name.lower()}) | {rule.title} | {on} |" in text


@pytest.mark.parametrize("section", SECTIONS, ids=list(RULES))
def test_the_bad_example_breaks_its_rule_and_the_good_one_does_not(section: str, tmp_path: Path) -> None:
    """Once, and nothing but this rule and what is on by default."""
    name = section.split("\n", maxsplit=1)[0]
    bad, good = re.findall(r"^```py\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    file = tmp_path / "code.py"
    file.write_text(bad)
    assert name in {finding.rule for finding in scan([file], Options(select=(name,))).findings}
    file.write_text(good)
    report = scan([file], Options(select=(name,)))
    assert report.calls
    assert report.findings == []


def test_every_option_is_on_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """And none that is not there."""
    with pytest.raises(SystemExit):
        cli.main(["scan", "--help"])
    known = set(re.findall(r"(?<!\w)(--[a-z][a-z-]*)", capsys.readouterr().out)) - {"--help"}
    table = (PAGES / "scan.md").read_text(encoding="utf-8").split("## Options")[1].split("\n## ")[0]
    assert set(re.findall(r"(?<!\w)(--[a-z][a-z-]*)", table)) <= known
