"""What a source may hold by accident: secrets in odd places, byte order marks, absurd numbers, too much of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient_agents import cli
from resilient_agents.config import ConfigError, load, loads, show
from resilient_agents.config.factory import SLOTS

SECRET = "hunter2-and-more"


def problems(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, source="r.toml", env=env or {})
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    "name",
    ["api_key", "apikey", "API_KEY", "password", "passwd", "pwd", "token", "jwt", "bearer", "cred", "credentials",
     "pat", "auth", "Authorization", "client_secret", "private_key", "dsn", "cookie", "session_id", "pass", "db.pass"],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    [
        '[policies.a.retry]\n"{name}" = "{secret}"',
        '[policies.a.retry]\n"{name}" = ["{secret}"]',
        '[policies.a.retry."{name}"]\nuser = "{secret}"',
        '[policies.a.retry.wait]\n"{name}" = "{secret}"',
        '[policies.a]\nretry = {{ budget = {{ "{name}" = "{secret}" }} }}',
        '[policies.a]\n"{name}" = "{secret}"',
        '[policies]\n"{name}" = "{secret}"',
        '[profiles]\n"{name}" = "{secret}"',
        '[circuit_breakers.b]\n"{name}" = "{secret}"',
        '[bulkheads]\n"{name}" = "{secret}"',
        '[[policies.a.strategies]]\nkind = "retry"\n"{name}" = "{secret}"',
        '[profiles.p.policies.a.retry]\n"{name}" = "{secret}"',
        '"{name}" = "{secret}"',
    ],
)
def test_what_stands_under_a_secret_s_name_is_not_shown(text: str, name: str) -> None:
    """Wherever the key stands, known or unknown."""
    with pytest.raises(ConfigError) as caught:
        loads(text.format(name=name, secret=SECRET), env={}, profile="p" if "profiles" in text else None)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.problems)


@pytest.mark.parametrize("name", ["API_KEY", "JWT", "MY_CRED", "BEARER", "DB__PASSWORD", "GH_PAT"])
def test_what_a_variable_with_a_secret_s_name_holds_is_not_shown(name: str) -> None:
    """Be it one that lies over the file or one that the file refers to, or its default."""
    text = f"""
        [policies.a]
        retry = 2
        [policies.b]
        timeout = "${{X_{name}}}"
        [policies.c]
        timeout = "${{{name}:-{SECRET}}} ${{"
    """
    env = {f"RESILIENT_AGENTS__POLICIES__A__RETRY__{name}": SECRET, f"X_{name}": SECRET}
    found = problems(text, env)
    assert len(found) == 3
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "value",
    [
        f"host=db password={SECRET} user=me",
        f"https://db/x?api_key={SECRET}&y=1",
        f"https://me:{SECRET}@db/x",
        f"Authorization: Bearer {SECRET}",
        f"bearer {SECRET}",
        f"{{'jwt': '{SECRET}'}}",
        f"sk-{SECRET}",
        f"ghp_{SECRET.replace('-', '')}",
    ],
)
def test_a_secret_inside_a_text_is_not_shown(value: str) -> None:
    """In errors and in `config show`."""
    text = f'[policies.a]\ntimeout = "{value}"'
    shown = show(loads(f'[policies.a.circuit_breaker]\nname = "{value}"', env={}), "a")
    assert SECRET.replace("-", "") not in str([*problems(text), shown]).replace("-", "")


def test_a_part_of_a_secret_is_not_shown() -> None:
    """Where a name looks like a path to code, the error would name the code."""
    (found,) = problems("policies.a.retry.on = '${API_KEY}'", {"API_KEY": f"live.{SECRET.replace('-', '_')}"})
    assert "hunter2" not in found
    assert "is not known; Allowed: transient" in found


@pytest.mark.parametrize("url", [f"postgres://user:{SECRET}@host/db", f"https://user:{SECRET}@host/?token={SECRET}"])
def test_a_url_where_code_is_named_is_not_shown(url: str) -> None:
    """What stands after its last colon is no name of code but a password."""
    (found,) = problems(f"policies.a.retry.on = '{url}'")
    assert "hunter2" not in found


def test_names_that_users_chose_hide_nothing() -> None:
    """A policy for an authentication service is no secret, and neither is what is wrong with it."""
    assert problems("[policies.auth.retry]\nattempts = -1\n[bulkheads]\ntokens = 0") == [
        "r.toml:2: policies.auth.retry.attempts = -1: attempts must be at least 1, got -1",
        "r.toml:4: bulkheads.tokens = 0: limit must be at least 1, got 0",
    ]


# ------------------------------------------------------------------------------------------------------------ the bytes


def test_a_byte_order_mark_is_none_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Some editors put one first: `load`, `loads` and the command line take it."""
    file = tmp_path / "r.toml"
    file.write_bytes(b"\xef\xbb\xbf[policies.a]\nretry = 2\n[profiles.x.policies.a]\nretry = 0\n")
    assert loads(file.read_text("utf-8"), env={}) == loads(file.read_text("utf-8-sig"), env={})
    assert load(file, env={}).policies["a"].strategies[0].options == {"attempts": 2}
    assert cli.main(["config", "check", os.fspath(file)]) == 1
    assert "profiles.x.policies.a.retry = 0" in capsys.readouterr().err


def test_utf_16_is_named(tmp_path: Path) -> None:
    """What a shell of Windows writes."""
    (tmp_path / "r.toml").write_text("[policies.a]", encoding="utf-16")
    with pytest.raises(ConfigError, match="is not text in UTF-8 but in UTF-16"):
        load(tmp_path / "r.toml", env={})


# ---------------------------------------------------------------------------------------------------------- the numbers

NUMBERS = ["-1", "nan", "-inf", "1e400", "1" * 5000, "-" + "9" * 5000, "9223372036854775808", "true", "'x'", "[]",
           "2026-01-01", f"'{'9' * 5000}s'", "0x" + "f" * 5000, "''", "'-5s'"]  # fmt: skip


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:20])
@pytest.mark.parametrize("kind", sorted(set(SLOTS.values())))
def test_an_error_about_a_number_names_its_place(kind: str, number: str) -> None:
    """File, line and key, whichever option has it."""
    needed = {"rate_limit": "rate = 5\n", "bulkhead": "limit = 3\n", "hedge": "after = 1\n", "timeout": "seconds = 5\n"}
    for option in (
        "seconds",
        "attempts",
        "after",
        "reset_timeout",
        "rate",
        "limit",
        "max_wait",
        "window",
        "max_retry_after",
    ):
        rest = "" if needed.get(kind, "").startswith(option) else needed.get(kind, "")
        for found in problems(f"[policies.p.{kind}]\n{rest}{option} = {number}\nno_such_option = 1"):
            assert found.startswith(("r.toml:2: policies.p", "r.toml:3: policies.p", "r.toml:4: policies.p")), found
            assert f".{kind}.{option}" in found or ".no_such_option" in found


# ------------------------------------------------------------------------------------------------------------ the sizes


def chain(length: int) -> str:
    links = "".join(f"[policies.p{n}]\nextends = 'p{n + 1}'\n" for n in range(length))
    return f"{links}[policies.p{length}]\nretry = 2\n"


def circle(length: int) -> str:
    return "".join(f"[policies.p{n}]\nextends = 'p{(n + 1) % length}'\n" for n in range(length))


def unknown(length: int) -> str:
    return "".join(f"[policies.p{n}]\nextends = 'q{n}'\n" for n in range(length))


def wrong(length: int) -> str:
    return "[policies.p.retry]\n" + "".join(f"k{n} = 1\n" for n in range(length))


def long(length: int) -> str:
    return f"policies.p.timeout = '{'key' * length * 30}'\npolicies.q.timeout = '{'://' * length * 30}'"


@pytest.mark.parametrize("text", [chain, circle, unknown, wrong, long])
def test_the_time_to_load_grows_with_the_size(text: Callable[[int], str]) -> None:
    """Four times as much takes about four times as long, also where everything is wrong."""

    def seconds(length: int) -> float:
        source = text(length)
        began = time.process_time()
        try:
            loads(source, env={})
        except ConfigError as error:
            str(error)
        return time.process_time() - began

    assert min(seconds(400) for _ in range(3)) < 10 * min(seconds(100) for _ in range(3))


def test_many_variables_take_no_longer_than_they_must() -> None:
    """They are looked up, not searched for."""

    def seconds(count: int) -> float:
        source = {"policies": {f"p{n}": {"retry": 2} for n in range(count)}}
        env = {f"RESILIENT_AGENTS__POLICIES__P{n}__RETRY": "3" for n in range(count)}
        began = time.process_time()
        assert load(source, env=env).policies["p7"].strategies[0].options["attempts"] == 3
        return time.process_time() - began

    assert min(seconds(400) for _ in range(3)) < 10 * min(seconds(100) for _ in range(3))


def test_a_chain_says_once_what_is_wrong_below_it() -> None:
    """Every policy of it lacks the same base."""
    found = problems(chain(50).replace("[policies.p50]\nretry", "[policies.other]\nretry"))
    assert len(found) == 1
    assert found[0].startswith(
        "r.toml:100: policies.p49.extends = 'p50': is not known; did you mean 'p5'? Allowed: p0, p1"
    )
