"""The pages about scenarios and presets show what the simulator says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from resilient_agents.config import load
from resilient_agents.simulate.report import table
from resilient_agents.simulate.scenarios import names

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    """The script that writes these pages."""
    spec = importlib.util.spec_from_file_location("scenarios", DOCS / "examples" / "scenarios.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_scenario_has_a_page_with_its_picture_and_its_command(writer: ModuleType) -> None:
    """And the page is found from the others."""
    assert sorted(writer.COMPARED) == names()
    overview = (DOCS / "pages" / "simulate.md").read_text()
    for scenario in names():
        page = (DOCS / "pages" / f"scenario-{scenario}.md").read_text()
        assert f"]({scenario}.png)" in page.replace("scenario-", "")
        assert (DOCS / "pages" / f"scenario-{scenario}.png").exists()
        assert writer.command(scenario) in page
        assert f"(scenario-{scenario}.md)" in overview


def test_a_page_shows_what_comes_out(writer: ModuleType) -> None:
    """One that takes little time stands for all: they are written by one script, and seeds make them equal."""
    page = (DOCS / "pages" / "scenario-fanout.md").read_text()
    assert "\n".join(table(writer.of_scenario("fanout"))) in page
    assert writer.row("http", "fanout") in (DOCS / "pages" / "preset-http.md").read_text()


def test_the_gate_of_a_preset_can_be_taken_away() -> None:
    """As the page of the fan-out says."""
    policy = load({"policies": {"p": {"extends": "llm", "gate": False}}}, env={}).policies["p"].build()
    assert "Gate" not in [type(strategy).__name__ for strategy in policy.strategies]
