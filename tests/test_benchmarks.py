"""The benchmarks can be run. How fast anything is, they say themselves: no test of ours reads a clock."""

from __future__ import annotations

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.measure import SMOKE, blocking, interleaved
from tests.benchmarks.rows import ROWS
from tests.benchmarks.table import Line, as_markdown, as_text, at_least, at_most
from tests.conftest import makes_limiters_anywhere


@pytest.mark.skipif(
    not makes_limiters_anywhere(), reason="by hand needs an anyio that makes a CapacityLimiter outside of an event loop"
)
@pytest.mark.parametrize("name", ROWS)
def test_each_row_runs_and_measures_this_library(name: str) -> None:
    """Every row gives lines that hold a figure of ours, whichever peers are installed."""
    lines = list(ROWS[name](SMOKE))
    assert lines
    assert all(isinstance(line.figures["ours"], float) or line.figures["ours"] == "no SDK" for line in lines)


def test_contenders_take_turns() -> None:
    """In each round every contender runs one batch, and who begins changes from round to round."""
    turns: list[str] = []

    def contender(name: str) -> float:
        turns.append(name)
        return 1.0

    effort = type(SMOKE)(rounds=2, seconds=0.0, calls=1, processes=1, tasks=1)
    interleaved({name: lambda calls, name=name: contender(name) for name in "abc"}, effort)
    assert turns == ["a", "b", "c", "b", "c", "a"]


def test_a_batch_makes_the_calls_that_it_is_asked_for() -> None:
    """`blocking(fn)(n)` calls fn n times and answers with the seconds that took."""
    made: list[int] = []
    assert blocking(lambda: made.append(1))(3) >= 0.0
    assert len(made) == 3


def test_a_missed_budget_is_named() -> None:
    """A figure outside of its budget says MISSED, one inside says ok, and one that cannot be judged says neither."""
    line = Line("row", "body", "µs", {"ours": 2.0, "nopanic": 2.0})
    assert at_most(0.5, "nopanic").judge(line.figures) == "MISSED: 1.000 ≤ 0.50 × nopanic"
    assert at_least(2.0).judge(line.figures) == "ok: 2.000 ≥ 2.00"
    assert at_most(0.5, "tenacity").judge({"ours": 2.0, "tenacity": "not installed"}) == "? ≤ 0.50 × tenacity"


def test_a_peer_that_is_not_installed_is_named_as_such() -> None:
    """Both tables show the word in place of a figure."""
    lines = [Line("row", "body", "µs", {"ours": 2.0, "nopanic": "not installed"})]
    assert "not installed" in as_text(lines)
    assert "| not installed |" in as_markdown(lines)


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """`--row` lists the rows there are."""
    with pytest.raises(SystemExit):
        main(["--row", "nonsense"])
    assert "four" in capsys.readouterr().err
