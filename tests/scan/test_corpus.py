"""Every call of the corpus is found, nothing else is, and all that is said about each is true."""

from __future__ import annotations

from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from tests.scan.expected import OPT_IN, cases, expected_in, found_by, unpack


@pytest.mark.parametrize("case", cases())
def test_the_records_of_a_case_are_those_beside_it(case: str, tmp_path: Path) -> None:
    """Line, callee, limit, function, async, in_try, in_loop and rules of each call."""
    folder = unpack(case, tmp_path)
    assert found_by(scan([folder], Options(select=OPT_IN)), folder) == expected_in(folder)
