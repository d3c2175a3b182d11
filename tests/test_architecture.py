"""Imports point one way, and nobody reads another room's private names."""

from __future__ import annotations

import ast
import difflib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import resilient_agents
from tests.public_api import MODULES, NEEDS_MORE, SNAPSHOT, public_api

ROOT = Path(resilient_agents.__file__).parent
TREE = Path(__file__).parents[1]
DOCS = [TREE / "README.md", *TREE.glob("docs/pages/*.md")]

# The rooms from the ground up; a module may import from its own level and from those below.
LEVELS: list[set[str]] = [
    {"base"},
    {
        "errors",
        "events",
        "classify",
    },
    {"deadline", "backoff", "budget", "telemetry"},
    {"core"},
    {"adapters", "idempotency", "run_budgets", "strategies"},
    {"policy"},
    {"", "canonical", "decorator", "registry", "config", "presets", "health", "testing"},
    {"integrations", "demo", "trace", "scan", "simulate"},
    {
        "cli",
        "cli_advise",
        "cli_arguments",
        "cli_config",
        "cli_health",
        "cli_scan",
        "cli_simulate",
        "cli_trace",
        "__main__",
    },
]
LIBRARIES = {
    "tenacity": {
        "backoff",
        "adapters.native.retry",
        "adapters.retry_state",
    },
    "pybreaker": {
        "errors",
        "adapters.circuit",
        "adapters.native.circuit_breaker",
    },
    "aiolimiter": {"adapters.native.rate_limit", "canonical", "decorator"},
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def level(module: str) -> int:
    for name in (module, module.split(".", 1)[0]):
        for number, names in enumerate(LEVELS):
            if name in names:
                return number
    raise AssertionError(f"{module} stands in no room: give it a level")


@cache
def imports(path: Path) -> list[tuple[str, str]]:
    """(module, name) of each import at run time."""
    found = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, "") for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.extend((child.module, alias.name) for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def resolve(target: str, name: str) -> str:
    """`from target import name` as the module of ours that it reaches."""
    inside = target.removeprefix("resilient_agents").removeprefix(".")
    full = f"{inside}.{name}".removeprefix(".")
    return full if full in modules() else inside


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    """A room imports from its own level and from below, never from above."""
    here = level(module)
    for target, name in imports(modules()[module]):
        if not target.startswith("resilient_agents"):
            continue
        full = resolve(target, name)
        assert level(full) <= here, f"{module} imports {full}"


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_each_library_has_its_room(library: str) -> None:
    """tenacity, pybreaker and aiolimiter are imported where they are adapted, and for the bases of errors and waits."""
    users = {module for module, path in modules().items() if any(t.split(".")[0] == library for t, _ in imports(path))}
    assert users <= LIBRARIES[library]


SEEN_BY_TELEMETRY = {"base", "classify", "events", "telemetry"}


def test_no_file_is_longer_than_one_can_read_at_once() -> None:
    """At most 320 lines."""
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in ROOT.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 320} == {}


def test_telemetry_sees_events_and_the_api_only() -> None:
    """No SDK, and of ours what happened, what a failure is, what is alive, and what calls look at."""
    for module, path in modules().items():
        if module.split(".")[0] == "telemetry":
            for target, name in imports(path):
                assert not target.startswith("opentelemetry.sdk"), module
                if target.startswith("resilient_agents") and not target.startswith("resilient_agents.telemetry"):
                    full = resolve(target, name)
                    room = full.split(".")[0]
                    assert full == "core" or room in SEEN_BY_TELEMETRY, f"{module} imports {full}"


TIMELESS = {"base", "testing", "simulate", "demo", "cli", "cli_advise", "cli_config", "cli_health", "cli_trace", "scan"}
"""Rooms that may have clocks of their own: the ground floor, what replaces its clock, and programs."""

OWN_CLOCKS = re.compile(
    r"""
    \b(time\.(time|monotonic|perf_counter|process_time)(_ns)?|time\.sleep|datetime\.(now|utcnow|today)|date\.today)\(
    | \b(random|secrets)\.\w+\(
    | \b(asyncio|anyio|trio)\.(sleep|sleep_until|wait_for|timeout|timeout_at|move_on_\w+|fail_\w+|current_time)\(
    | \.call_(later|at)\(
    | \b(acquire|get)\([^)]*timeout=
    """,
    re.VERBOSE,
)


@pytest.mark.parametrize("module", sorted(module for module in modules() if module.split(".")[0] not in TIMELESS))
def test_time_and_chance_come_from_one_place(module: str) -> None:
    """No module but those of a few rooms reads a clock, sleeps, sets a timer or draws a number by itself."""
    tree = ast.parse(modules()[module].read_text())
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if OWN_CLOCKS.search(call)]
    assert not [name for target, name in imports(modules()[module]) if name and target in ("time", "random", "secrets")]


def test_private_names_stay_in_their_room() -> None:
    """No `from x import _name` across rooms."""
    for module, path in modules().items():
        for target, name in imports(path):
            if target.startswith("resilient_agents") and name.startswith("_") and not name.startswith("__"):
                room = target.removeprefix("resilient_agents.").split(".")[0]
                assert room == module.split(".")[0], f"{module} imports {target}.{name}"


def test_import_pulls_in_no_extra() -> None:
    """`import resilient_agents` needs its five dependencies and nothing else. (pybreaker imports redis where it is.)"""
    extras = ("rich", "httpx", "opentelemetry.sdk", "trio", "redis")
    code = f"""
import sys
sys.modules["redis"] = None
import resilient_agents
print([name for name in {extras} if sys.modules.get(name)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_health_is_imported_when_it_is_asked_for() -> None:
    """Its names are public and in `dir`, but importing the package does not pay for them."""
    code = """
import sys
import resilient_agents
print("get_health_monitor" in dir(resilient_agents), "resilient_agents.health" in sys.modules)
from resilient_agents import get_health_monitor
print("resilient_agents.health" in sys.modules, hasattr(resilient_agents, "get_wealth_monitor"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True", "False"]


def test_a_room_that_few_policies_need_is_imported_when_it_is_asked_for() -> None:
    """Importing the package and building a policy loads neither the registry's rooms, nor the adapters of native
    objects, nor what stands in; `registry` is the registry itself all the same, also once its room is loaded."""
    code = """
import sys
import resilient_agents
from resilient_agents import Bulkhead, CircuitBreaker, Policy, RateLimit, Retry, resilient
resilient(Policy(Retry(3), CircuitBreaker(), RateLimit(10), Bulkhead(2)))(len)
rooms = ("registry.names", "adapters.native.retry", "strategies.fallback", "strategies.stream_kinds", "canonical")
print([room for room in rooms if f"resilient_agents.{room}" in sys.modules])
import resilient_agents.registry
from resilient_agents.registry import Keyed
from resilient_agents import Registry, registry
print(isinstance(registry, Registry), resilient_agents.registry is registry)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["[]", "True True", ""]


def test_the_package_can_be_reloaded_and_imported_anew() -> None:
    """As notebooks and tests do: with its rooms loaded already, `registry` is the registry itself all the same."""
    code = """
import importlib, sys
import resilient_agents
importlib.reload(resilient_agents)
del sys.modules["resilient_agents"]
import resilient_agents
print(isinstance(resilient_agents.registry, resilient_agents.Registry))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_the_public_names_are_sorted() -> None:
    """`__init__` holds the public names and nothing else."""
    assert sorted(resilient_agents.__all__) == resilient_agents.__all__
    assert all(hasattr(resilient_agents, name) for name in resilient_agents.__all__)


def test_the_public_api_is_as_written_down() -> None:
    """A name or a signature that changes shows in the diff of the change."""
    was, now = SNAPSHOT.read_text().splitlines(), public_api().splitlines()
    changed = "\n".join(difflib.unified_diff(was, now, "as written down", "as it is", n=1, lineterm=""))
    assert not changed, f"if this is meant: python -m tests.public_api\n{changed}"


def test_what_the_documentation_imports_from_is_watched() -> None:
    """A module that users are told to import from belongs to the public API; the demo is there to try things on."""
    told = {
        name
        for page in DOCS
        for name in re.findall(r"^\s*from (resilient_agents[\w.]*) import", page.read_text(), re.MULTILINE)
        if not name.startswith("resilient_agents.demo.")
    }
    assert told <= {*MODULES, *NEEDS_MORE}
