"""Presets: each is a policy that fits together, and the page gives the reason for every number of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from resilient_agents import CircuitBreaker, Policy, Retry, Timeout
from resilient_agents.backoff import Backoff
from resilient_agents.config import load
from resilient_agents.presets import PRESETS, preset
from tests.conftest import Harness
from tests.test_docs import rows, section


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_and_has_no_warnings(name: str) -> None:
    """Its numbers fit together."""
    config = load({"policies": {"p": {"extends": name}}}, env={})
    assert config.warnings == ()
    assert isinstance(preset(name), Policy)
    assert preset(name).name == name


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_has_its_reason(name: str) -> None:
    """The page's table has each option of the preset with its value, and a reason."""
    table = rows(section(f"preset-{name}.md", f"preset: {name}"))
    assert [(option, value) for option, value, _ in table] == [
        (f"`{option}`", f"`{_spelled(value)}`") for option, value in flat(PRESETS[name])
    ]
    assert all(len(reason) > 30 for _, _, reason in table)


@pytest.mark.parametrize("name", PRESETS)
def test_the_total_leaves_room_for_a_second_attempt(name: str) -> None:
    """Two attempts at their limit, and the wait between them, fit into the total."""
    timeout, retry, *_, attempt = preset(name).strategies
    assert isinstance(timeout, Timeout)
    assert isinstance(retry, Retry)
    assert isinstance(attempt, Timeout)
    assert isinstance(retry.wait, Backoff)
    assert 2 * attempt.seconds + retry.wait.base <= timeout.seconds
    assert retry.max_retry_after is not None
    assert retry.max_retry_after <= max(timeout.seconds, 60)


def test_presets_share_nothing() -> None:
    """Two policies of one preset have two circuits."""
    first, second = (next(s for s in preset("http").strategies if isinstance(s, CircuitBreaker)) for _ in range(2))
    assert first is not second


def test_an_unknown_preset() -> None:
    """It is refused, with the nearest and the list."""
    with pytest.raises(
        ValueError, match="there is no preset 'htp'; did you mean 'http'\\? Presets: llm, http, database"
    ):
        preset("htp")


async def test_a_tool_is_repeated_only_where_nothing_was_done(h: Harness) -> None:
    """A time limit leaves open what a tool has done; a refusal does not."""
    for error, expected in ((TimeoutError(), 1), (Refused(), 2)):
        calls = 0

        def work(error: Exception = error) -> None:
            nonlocal calls
            calls += 1
            raise error

        with pytest.raises(type(error)):
            await h.call(preset("tool"), work)
        assert calls == expected


class Refused(Exception):
    status_code = 503


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _spelled(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
