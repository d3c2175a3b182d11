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


@pytest.mark.parametrize(("headers", "rules"), [('{"Idempotency-Key": key}', []), ('{"Accept": "*/*"}', ["RA203"])])
def test_a_request_with_a_key_may_be_made_twice(headers: str, rules: list[str], tmp_path: Path) -> None:
    """The other side knows it again."""
    text = "import requests\nimport stamina\n\n@stamina.retry(on=OSError)\ndef order(url, key):\n"
    text += f"    return requests.post(url, headers={headers}, timeout=5)\n"
    (tmp_path / "orders.py").write_text(text)
    assert [finding.rule for finding in scan([tmp_path], Options(select=OPT_IN)).findings] == rules
