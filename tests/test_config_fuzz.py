"""Whatever a configuration holds, loading it gives a Config or a ConfigError, and lines are those of the file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_agents.config import Config, ConfigError, build, load, loads, show
from resilient_agents.config.factory import KINDS, SECTIONS, SLOTS, WAITS
from resilient_agents.config.layers import PREFIX
from resilient_agents.config.lines import KeyPath, key_lines
from resilient_agents.presets import PRESETS

OPTIONS = sorted(
    {name for factory in KINDS.values() for name in factory.parameters}
    | {"kind", "use", "base", "max", "jitter", "ratio"}
)
LIVE = {"metrics", "available", "in_use", "queued", "name"}
NAMES = ["a", "b", "http", "a-b", ""]
WORDS = [
    "transient", "none", "exponential", "full", "60/min", "1.5s", "200ms", "${A}", "${A:-3}", "${", "$${A}s", "thread",
    "TimeoutError", "a", "b", "llm", "os:system", *KINDS, *WAITS,
]  # fmt: skip

scalars = (
    st.sampled_from(WORDS)
    | st.integers()
    | st.integers(-2, 40)
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=5)
    | st.dates()
    | st.binary(max_size=2)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(OPTIONS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
policies = st.fixed_dictionaries(
    {},
    optional={
        "extends": st.sampled_from([*NAMES, *PRESETS]) | values,
        "strategies": st.lists(values | st.fixed_dictionaries({"kind": st.sampled_from(sorted(KINDS))}), max_size=3)
        | values,
        **dict.fromkeys(SLOTS, values),
        "unknown": values,
    },
)
sections: dict[str, Any] = {
    "policies": st.dictionaries(st.sampled_from(NAMES), policies | values, max_size=4) | values,
    **{section: st.dictionaries(st.sampled_from(NAMES), values, max_size=3) for section in SECTIONS},
}
tables = st.fixed_dictionaries(
    {},
    optional={
        **sections,
        "profiles": st.dictionaries(st.sampled_from(["x", "y"]), st.fixed_dictionaries({}, optional=sections) | values)
        | values,
        "other": values,
    },
)
variables = st.dictionaries(
    st.lists(st.sampled_from(["policies", "a", "b", "retry", "wait", "bulkheads", "timeout", ""]), max_size=5).map(
        lambda path: PREFIX + "__".join(path).upper()
    ),
    st.sampled_from(WORDS)
    | st.text(max_size=8)
    | st.sampled_from(["3", "{ max = 1 }", "[1]", "1\nx = 2", "9" * 5000, "[" * 5000]),
    max_size=3,
)


def survives(source: Any, env: dict[str, str], profile: str | None, how: Any = load) -> None:
    try:
        config: Config = how(source, profile=profile, env=env)
    except ConfigError as error:
        if not error.problems or "problem" not in str(error):
            raise AssertionError("an error without a problem") from error
        return
    assert repr(config)
    for name in config.policies:
        assert str(described(loads(show(config, name), env={}), name)) == str(described(config, name))  # nan is not nan


def described(config: Config, name: str) -> list[Any]:
    """A policy, built, as it describes itself, without what is live."""
    policy = config.policies[name].build(lambda kind, use: build(config.component(kind, use).but(**unnamed(kind))))
    strategies = policy.describe()["strategies"]
    return [{key: value for key, value in strategy.items() if key not in LIVE} for strategy in strategies]


def unnamed(kind: str) -> dict[str, None]:
    return (
        {"name": None} if kind == "circuit_breaker" else {}
    )  # or it would be the twin of the one that it is compared with


profiles = st.sampled_from([None, "x", "z"])


@settings(deadline=None, max_examples=300)
@given(
    tables | st.dictionaries(st.integers() | st.text(max_size=3), values, max_size=3),
    variables,
    profiles,
    st.text(max_size=5),
)
def test_any_dict_loads_or_is_a_configuration_error(
    data: Any, env: dict[str, str], profile: str | None, a: str
) -> None:
    """Nothing else is ever raised, and what loads can be shown and built."""
    survives(data, {**env, "A": a}, profile)


numbers = st.integers(1, 50) | st.floats(0.5, 50)
waits = st.sampled_from([*WAITS, "250ms"]) | st.fixed_dictionaries(
    {"kind": st.sampled_from(["exponential", "linear", "fibonacci"])},
    optional={"base": numbers.map(lambda n: n / 1000), "jitter": st.sampled_from(["full", "equal", "none"])},
)
good = st.fixed_dictionaries(
    {},
    optional={
        "extends": st.sampled_from(sorted(PRESETS)),
        "timeout": numbers | st.integers(1, 90).map(lambda n: f"{n}m") | st.booleans().filter(lambda on: not on),
        "retry": st.integers(1, 9)
        | st.booleans()
        | st.fixed_dictionaries(
            {},
            optional={
                "wait": waits,
                "on": st.sampled_from(["transient", ["timeout", "OSError"]]),
                "budget": st.booleans(),
            },
        ),
        "circuit_breaker": st.just("shared")
        | st.booleans()
        | st.fixed_dictionaries(
            {"failure_rate": st.floats(0.1, 1)},
            optional={"failures": st.just("none"), "slow_call": numbers, "shadow": st.booleans()},
        ),
        "gate": st.sampled_from(["shared", True, False, "30s", {"max_wait": "none"}]) | numbers,
        "rate_limit": st.just({"use": "shared"}) | st.integers(1, 90).map(lambda n: f"{n}/min") | numbers,
        "bulkhead": st.just("shared")
        | st.integers(1, 9)
        | st.fixed_dictionaries({"limit": st.integers(1, 9), "queue": st.just("none")}),
        "attempt_timeout": numbers,
        "stream_timeout": st.fixed_dictionaries(
            {}, optional={"first_item": numbers, "idle": numbers, "complete": st.sampled_from(["auto", "none"])}
        )
        | numbers,
    },
)


@settings(deadline=None, max_examples=200)
@given(good, good)
def test_what_is_shown_is_what_was_loaded(base: Any, over: Any) -> None:
    """Right configurations load, in any combination, and `show` prints the same policy."""
    shared = {
        "circuit_breakers": {"shared": {}},
        "rate_limits": {"shared": "9/s"},
        "bulkheads": {"shared": 5},
        "gates": {"shared": 20},
    }
    data = {**shared, "policies": {"a": base}, "profiles": {"x": {"policies": {"a": over}}}}
    config = load(data, profile="x", env={})
    assert described(loads(show(config, "a"), env={}), "a") == described(config, "a")


@settings(deadline=None, max_examples=200)
@given(st.text() | st.text("[]{}=.,\"'#\n ab1", max_size=40))
@example('a = """\\\n  x"""\n[b]')
@example("\ufeff[a]")
def test_any_text_loads_or_is_a_configuration_error(text: str) -> None:
    """Most of it is no TOML at all."""
    survives(text, {}, None, loads)


GOOD = """
[policies.openai]   # comment
extends = "llm"
timeout = "30s"
retry = { attempts = 4, wait = { kind = "exponential", max = "${MAX:-10s}" }, on = ["transient", "OSError"] }
rate_limit = "60/min"
[[policies.list.strategies]]
kind = "bulkhead"
limit = 3
[circuit_breakers.openai]
failure_rate = 0.5
[profiles.x.policies.openai.retry]
attempts = 2
"""


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_loads_or_is_a_configuration_error(data: st.DataObject) -> None:
    """A good file with pieces cut out, doubled or replaced."""
    text = GOOD
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        word = data.draw(
            st.sampled_from(["", text[start:end] * 2, "\n", '"', "-1", "1e400", "nan", "[", "]", "=", "'", "9" * 30])
        )
        text = text[:start] + word + text[end:]
    survives(text, {}, data.draw(profiles), loads)


# ---------------------------------------------------------------------------------------------------------------- lines

leaf = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "2020-01-01T00:00:00Z",
        "'li#t]'",
        '"a\\"#,}]"',
        '"""\none # [x]\n\\" two"""',
        "'''\n[a]\nb = 1\n'''",
        '""""x"""""',
    ]
)


class Writer:
    """Writes a document of unique keys, each with its line, in all the ways in which TOML can say it."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.text = ""
        self.keys = 0
        self.lines: dict[str, int] = {}

    def key(self) -> str:
        self.keys += 1
        return f"k{self.keys}"

    def spell(self, key: str) -> str:
        self.lines.setdefault(key, self.text.count("\n") + 1)
        return self.draw(st.sampled_from([key, f'"{key}"', f"'{key}'", f'"\\u006b{key[1:]}"']))

    def gap(self, several: bool = False) -> None:
        self.text += self.draw(
            st.sampled_from(["", " ", "\t"] + (["\n", " # [no] = 'x\n", "\r\n\n"] if several else []))
        )

    def value(self, depth: int) -> None:
        form = self.draw(st.integers(0, 3 if depth else 1))
        if form == 2:
            self.text += "["
            for _ in range(self.draw(st.integers(0, 3))):
                self.gap(True)
                self.value(depth - 1)
                self.gap(True)
                self.text += ","
            self.gap(True)
            self.text += "]"
        elif form == 3:
            self.text += "{"
            for number in range(self.draw(st.integers(0, 3))):
                self.text += "," if number else ""
                self.gap()
                self.pair(depth - 1)
                self.gap()
            self.text += "}"
        else:
            self.text += self.draw(leaf)

    def pair(self, depth: int) -> None:
        for number in range(self.draw(st.integers(1, 2))):
            self.text += "." if number else ""
            self.gap()
            self.text += self.spell(self.key())
            self.gap()
        self.text += "="
        self.gap()
        self.value(depth)

    def pairs(self) -> None:
        for _ in range(self.draw(st.integers(0, 3))):
            self.gap()
            self.pair(2)
            self.text += self.draw(st.sampled_from(["\n", "  # comment = 1\n", "\r\n"]))

    def document(self) -> str:
        self.pairs()
        for _ in range(self.draw(st.integers(0, 3))):
            path = [self.key() for _ in range(self.draw(st.integers(1, 2)))]
            many = self.draw(st.booleans())
            for _ in range(self.draw(st.integers(1, 2)) if many else 1):
                self.gap(True)
                self.text += "[[" if many else "["
                self.text += " . ".join(self.spell(key) for key in path)
                self.text += "]]" if many else "]"
                self.text += "\n"
                self.pairs()
                if many and self.draw(st.booleans()):
                    self.text += "[" + ".".join(path) + "." + self.spell(self.key()) + "]\n"
                    self.pairs()
        return self.text


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_lines_are_those_on_which_keys_stand(data: st.DataObject) -> None:
    """Every key of every document has a line, and it is the one where it was first written."""
    writer = Writer(data.draw)
    text = writer.document().replace("\r\n", "\n")
    found = key_lines(text)
    assert found.keys() == set(paths(tomllib.loads(text)))
    keys = {path[-1]: line for path, line in reversed(found.items()) if isinstance(path[-1], str)}
    assert keys == writer.lines


def test_elements_have_the_lines_of_their_own() -> None:
    """Elements of arrays, too, inline or as tables."""
    lines = key_lines("a = [\n  1,\n  # no\n  { b = 2 },\n]\n[[t]]\nx = 1\n[[t]]\nx = 2\n[t.u]\ny = 1\n")
    expected = {
        ("a", 0): 2,
        ("a", 1, "b"): 4,
        ("t", 0): 6,
        ("t", 0, "x"): 7,
        ("t", 1): 8,
        ("t", 1, "x"): 9,
        ("t", 1, "u", "y"): 11,
    }
    assert {path: line for path, line in lines.items() if path in expected} == expected
    assert re.match(r"\d+", str(lines["t",]))
