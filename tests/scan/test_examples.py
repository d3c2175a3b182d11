"""Examples made of real functions: imported against stubs of their clients, and driven by a fake that fails."""

from __future__ import annotations

import ast
import importlib.util
import io
import subprocess
import sys
import textwrap
import tomllib
import types
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from resilient_agents.cli import main
from resilient_agents.presets import PRESETS
from resilient_agents.scan import scan
from resilient_agents.scan.advice import Advice, advise
from resilient_agents.scan.advice.examples import Examples, examples
from resilient_agents.scan.advice.policies import names
from tests.scan.expected import cases, unpack
from tests.scan.small import AGENT, ORDERS, PRICES

STUB = "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    for case in cases():
        unpack(case, folder)
    for name, source in (("prices", PRICES), ("agent", AGENT), ("orders", ORDERS)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return folder


@pytest.fixture(scope="module")
def advice(folder: Path) -> Advice:
    return advise([folder])


@pytest.fixture(scope="module")
def made(advice: Advice) -> Examples:
    return examples(advice, PRESETS, top=400)


@pytest.fixture(scope="module")
def written(made: Examples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for name, text in made.modules.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def clients(made: Examples) -> list[str]:
    """The modules that the examples import, with the packages that these are in."""
    lines = [line for text in made.modules.values() for node in ast.parse(text).body for line in imports(node)]
    parts = [line.split(".") for line in lines if line.partition(".")[0] not in OURS]
    return sorted({".".join(each[:count]) for each in parts for count in range(1, len(each) + 1)})


OURS = {*sys.stdlib_module_names, "resilient_agents"}


def imports(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [each.name for each in node.names] if isinstance(node, ast.Import) else []


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch, clients: list[str]) -> None:
    """Modules of which every attribute is anything."""
    for name in clients:
        module = types.ModuleType(name)
        module.__getattr__ = lambda _: MagicMock()  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, module)


def tree(tmp_path: Path, **sources: str) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return folder


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown_by(path: Path, module: Any = None) -> list[str]:
    """What it prints when it is run, as the module that it was imported as."""
    module = module or imported(path)
    out = io.StringIO()
    with redirect_stdout(out):
        (module.main if 'def main() -> None:\n    """Show' in path.read_text() else module.show)()
    return out.getvalue().splitlines()


def drills_in(path: Path) -> dict[str, str]:
    """The variable of the policy that is drilled, by what its lines begin with."""
    loops = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.For)]
    found = {}
    for loop in loops:
        match loop:
            case ast.For(
                iter=ast.Call(func=ast.Name(id="drill"), args=[_, _, ast.Name(id=policy)]),
                body=[ast.Expr(value=ast.Call(args=[ast.Constant(value=str(label)), _]))],
            ):
                found[label] = policy
            case _:
                pass
    return found


PROMISED = {
    "retry": [["retry: the first attempt failed, and the call was answered"]],
    "once": [["retry: what may have taken effect was not done again"]],
    "circuit breaker": [["circuit breaker: open after"], ["circuit breaker: closed again"]],
    "bulkhead": [["the next one was not let in", "hold up the event loop"]],
    "health check": [["'degraded'"], ["'healthy'"]],
}
"""What a drill says of each pattern: all of these, in their order, each in one of its ways."""


def missing(pattern: str, said: list[str]) -> bool:
    rest = iter(said)
    return not all(any(any(way in line for way in ways) for line in rest) for ways in PROMISED[pattern])


def test_every_file_of_the_corpus_has_one_or_a_reason(made: Examples) -> None:
    """And what is left out of one is said, with its lines."""
    assert len(made.modules) >= 35
    assert all(": " in reason for reason in made.left)
    assert any("its client is one of several" in reason for reason in made.left)


@pytest.mark.usefixtures("stubs")
def test_a_fake_that_fails_drives_each_of_them(written: Path, advice: Advice) -> None:
    """The retry retries, the breaker opens and closes again, the bulkhead refuses, the health check turns.

    For every pattern that the header names, in every example.
    """
    advised = names(advice)
    drilled = 0
    for path in sorted(written.glob("*.py")):
        module = imported(path)
        lines, policies = shown_by(path, module), vars(module)
        assert lines, path.stem
        for label, variable in drills_in(path).items():
            said = [line for line in lines if line.startswith(f"{label} ")]
            name = policies[variable].name
            promised = [each for each in advised[name.removesuffix("-once")].candidates if each in PROMISED]
            once = name.endswith("-once")
            assert [each for each in promised if missing("once" if once and each == "retry" else each, said)] == [], (
                said
            )
            held = advised[name.removesuffix("-once")].dependency.blocking
            assert held or not any("hold up the event loop" in line for line in said), path.stem
            drilled += 1
        shown = {policies[variable].name.removesuffix("-once") for variable in drills_in(path).values()}
        assert shown == tomllib.loads(policies["POLICIES"])["policies"].keys(), path.stem
    assert drilled > 100


def test_a_scan_of_them_finds_every_call_protected(written: Path) -> None:
    """But for what never waits."""
    calls = [call for call in scan([written]).calls if call.limit != "never_waits"]
    assert len(calls) > 1100
    assert [f"{call.path}:{call.line}" for call in calls if call.protected_by is None] == []


def test_ruff_has_nothing_to_say_about_them(written: Path) -> None:
    """But for what it says of the calls themselves: that they block an event loop."""
    pytest.importorskip("ruff")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--isolated",
            "--no-cache",
            "--select",
            "E,F,I,B,ASYNC,UP",
            "--ignore",
            "E501",
            ".",
        ],
        cwd=written,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_mypy_has_nothing_to_say_about_them(written: Path, clients: list[str], tmp_path: Path) -> None:
    """In its strict mode, with stubs of their clients."""
    pytest.importorskip("mypy")
    for name in clients:
        path = tmp_path.joinpath("stubs", *name.split("."), "__init__.pyi")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STUB)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file=",  # not what this project asks of itself beside that, such as no deprecated calls
            f"--cache-dir={root / '.mypy_cache'}",
            *sorted(written.glob("*.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={"MYPYPATH": str(tmp_path / "stubs"), "PATH": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["agent_zmq_agent_zmq_example", "http_clients_http_clients_example"])
def test_functions_keep_their_names_and_parameters(written: Path, folder: Path, name: str) -> None:
    """In their order, with their defaults where these are written out."""
    source = folder.joinpath(*(("agent_zmq", "agent_zmq.py") if "zmq" in name else ("http_clients", "http_clients.py")))
    there = {
        node.name: node.args
        for node in ast.walk(ast.parse(source.read_text()))
        if hasattr(node, "args") and hasattr(node, "name")
    }
    text = (written / f"{name}.py").read_text()
    mine = [node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    shared = [node for node in mine if node.name in there and node.name != "main"]
    assert len(shared) >= 4
    for node in shared:
        assert [each.arg for each in node.args.args] == [each.arg for each in there[node.name].args]
        assert len(node.args.defaults) == len(there[node.name].defaults)


def test_the_header_says_from_which_lines_it_came(written: Path) -> None:
    """By function."""
    docstring = ast.get_docstring(ast.parse((written / "prices_example.py").read_text())) or ""
    assert "- prices: line 9" in docstring
    assert "- report: line 13" in docstring
    assert "+ retry: " in docstring


def test_what_differs_by_names_alone_is_not_written(tmp_path: Path) -> None:
    """The report says so, and as which one it would have been."""
    one = """
        import requests

        def users(url):
            return requests.get(url + "/users")
    """
    two = one.replace("users", "orders").replace("(url", "(address").replace("url +", "address +")
    three = one.replace(".get", ".post")
    made = examples(advise([tree(tmp_path, one=one, two=two, three=three)]), PRESETS)
    assert sorted(made.modules) == ["one_example", "three_example"]
    assert any("two.py: as " in reason and "but for names" in reason for reason in made.left)


def test_what_may_not_be_made_twice_is_told_to_be(written: Path) -> None:
    """By a policy of the same strategies."""
    text = (written / "prices_example.py").read_text()
    assert "@resilient(once)\ndef report(price: Any) -> None:\n" in text
    assert "once = Policy(*policy.strategies, idempotent=False, " in text


@pytest.mark.usefixtures("stubs")
def test_to_import_one_does_nothing(tmp_path: Path) -> None:
    """Clients are made by `connect`, their own retries switched off; other work of the file is not there."""
    source = """
        import os
        from openai import AsyncOpenAI

        client = AsyncOpenAI(timeout=30)

        async def ask(question):
            os.remove("x")
            answer = await client.chat.completions.create(model="m", messages=[build(question)])
            return answer.choices[0].message
    """
    made = examples(advise([tree(tmp_path, ask=source)]), PRESETS)
    text = made.modules["ask_example"]
    assert "    client = AsyncOpenAI(timeout=30, max_retries=0)" in text
    assert "remove" not in text
    assert 'given("build(question)")' in text
    assert "return answer.choices[0].message" in text


def test_python_that_does_not_parse_gives_what_could_be_read(written: Path) -> None:
    """A function whose header and calls are whole is there, whatever stands around it."""
    text = (written / "broken_agent_broken_agent_example.py").read_text()
    ast.parse(text)
    assert "- Agent.go: line" in text


def test_a_client_that_has_to_be_waited_for_is_made_under_its_policy(tmp_path: Path) -> None:
    """By `connect`, which awaits it; by a function of the file, where one makes it."""
    source = """
        import asyncpg
        import psycopg
        from nats import connect

        db = psycopg.connect("host=db dbname=app")

        async def lifespan(app):
            app.pool = await asyncpg.create_pool("postgres://db/x")

        async def rows(app: App):
            return await (await asyncpg.create_pool("postgres://db/x")).fetch("select 1")

        def read():
            return db.execute("select 1")

        class Bus:
            async def start(self):
                self.nc = await connect("nats://queue:4222")

            async def ask(self, subject):
                return await self.nc.request(subject, timeout=2)
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "@resilient(db_x_policy)\nasync def db_x_connect() -> None:" in text
    assert '    pool = await asyncpg.create_pool("postgres://db/x")' in text
    assert "await pool.fetch" in text
    assert "@resilient(db_app_policy)\ndef db_app_connect() -> None:" in text
    assert '        self.nc = await connect("nats://queue:4222")' in text
    assert text.count('connect("nats://queue:4222")') == 1
    assert "outside of functions" not in text


def test_a_call_outside_of_functions_is_left_out_with_the_reason(tmp_path: Path) -> None:
    """Where a file has nothing else, it has no example."""
    made = examples(advise([tree(tmp_path, top="import requests\nrequests.get('https://x.example.org')\n")]), PRESETS)
    assert made.modules == {}
    assert "outside of functions" in made.left[0]


def test_names_of_the_file_come_before_those_of_the_example(tmp_path: Path) -> None:
    """`main`, `policy` and the like are the file's where it has them."""
    source = """
        import requests

        policy = "strict"

        def main(url):
            return requests.get(url, params={"p": policy})
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "def main(url: Any) -> Any:" in text
    assert "def show() -> None:" in text
    assert 'policy_ = policies.policy("requests")' in text


def test_names_of_the_file_do_not_take_those_of_the_example(tmp_path: Path) -> None:
    """A client, a constant, a parameter: each would stand where the example looks for something of its own."""
    source = """
        import requests

        monitor = requests.Session()
        patch = "https://prices.example.com"

        def prices(policy, names):
            for name in names:
                monitor.get(patch, params={"name": name})

        def stock(given):
            return requests.get("https://prices.example.com/stock", params=given or load())
    """
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    text = made.modules["app_example"]
    assert "monitor_client = requests.Session()" in text
    assert "policy_.call(monitor_client.get, given('patch')" in text.replace('"', "'")
    assert any(each.endswith("given is a name that the example needs for itself") for each in made.left)
    path = tmp_path / "app_example.py"
    path.write_text(text)
    assert shown_by(path)


def test_a_name_that_has_a_client_first_and_then_its_answer_is_one_name(tmp_path: Path) -> None:
    """It is of the function, which makes the client; where it cannot, the function is left out."""
    source = """
        import requests

        def load(url):
            page = requests.Session()
            page.get(url)
            page = page.get(url + "/2")
            return page.json()

        def load_other(url, make):
            page = requests.Session() if make else requests.Session()
            page = page.get(url)
            return page.json()
    """
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    text = made.modules["app_example"]
    assert "    page: Any = requests.Session()\n    page.get(url)\n    page = page.get(" in text
    assert any("page is a client first, and then what it answers" in each for each in made.left)
    path = tmp_path / "app_example.py"
    path.write_text(text)
    assert shown_by(path)


def test_a_client_that_is_handed_in_does_not_hide_its_module(tmp_path: Path) -> None:
    """`openai: openai.OpenAI` needs another name."""
    source = """
        from openai import OpenAI

        ai = OpenAI(timeout=30)

        def ask(wish):
            return ai.with_options(timeout=None).responses.create(model="m", input=wish)
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "\nopenai_client: openai.OpenAI = given(" in text


def test_a_name_that_the_file_gives_to_another_module_names_no_type(tmp_path: Path) -> None:
    """`import redis.asyncio as redis` leaves no name for `redis.asyncio.client.PubSub`."""
    source = """
        import redis.asyncio as redis

        client = redis.from_url("redis://cache")

        async def get(key):
            return await client.get(key)

        async def listen():
            pubsub = client.pubsub()
            pubsub = pubsub or client.pubsub()
            await pubsub.subscribe("x")
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "\nimport redis.asyncio as redis\n" in text
    assert "\npubsub: Any = given(" in text
    assert "import redis.asyncio.client" not in text


def test_what_holds_up_the_event_loop_waits_in_a_thread(tmp_path: Path) -> None:
    """In the example, which says so."""
    source = """
        import requests

        async def ask(url):
            return requests.get(url, timeout=5).json()

        async def build(url):
            try:
                requests.get(url)
            except OSError:
                raise RuntimeError from None
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "# It holds up the event loop in the file, line 5; here a thread waits.\n" in text
    assert "return (await asyncio.to_thread(requests.get, url, timeout=5)).json()" in text
    assert "await policy.acall(asyncio.to_thread, requests.get, url)" in text


@pytest.mark.usefixtures("stubs")
def test_what_only_the_file_has_can_be_unpacked(tmp_path: Path) -> None:
    """As nothing: the example still runs."""
    source = """
        import requests

        def ask(url, more):
            return requests.get(url, headers={**common(more), "a": "b"}, *rest(more), **options(more))
    """
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    (tmp_path / "app_example.py").write_text(made.modules["app_example"])
    assert '{**given_more("common(more)"), "a": "b"}' in made.modules["app_example"]
    assert any("the call was answered" in line for line in shown_by(tmp_path / "app_example.py"))


@pytest.mark.usefixtures("stubs")
def test_a_parameter_that_is_unpacked_is_shown_as_a_dict(tmp_path: Path) -> None:
    """Whatever it is called, and whether or not it has a type that says so."""
    source = """
        import requests

        def ask(url, more):
            return requests.get(url, timeout=3, **more)

        def look(headers):
            return requests.get("https://shop.example", headers={"a": "b", **headers}, timeout=3)
    """
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    (tmp_path / "app_example.py").write_text(made.modules["app_example"])
    assert any("the call was answered" in line for line in shown_by(tmp_path / "app_example.py"))


def test_a_long_expression_in_brackets_is_no_tuple(tmp_path: Path) -> None:
    """Nothing is put behind what they only group."""
    source = """
        import requests

        async def ask(product_identifier):
            try:
                return requests.get(f"https://catalog.example.org/products/{product_identifier}/pages").json()
            finally:
                pass
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "        )\n    ).json()\n" in text


def test_a_function_that_waits_for_nothing_is_left_out(tmp_path: Path) -> None:
    """What it calls has to be awaited by somebody else."""
    source = """
        import httpx

        client = httpx.AsyncClient()

        def ask(url):
            answer = client.get(url)
            return parse(answer)
    """
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    assert made.modules == {}
    assert "it does not wait for what it calls" in made.left[0]


def run_example(tmp_path: Path, source: str) -> tuple[str, list[str], list[str]]:
    """The text of the example of a file, what it prints, and what it leaves out."""
    made = examples(advise([tree(tmp_path, app=source)]), PRESETS)
    path = tmp_path / "app_example.py"
    path.write_text(made.modules["app_example"])
    return path.read_text(), shown_by(path), made.left


@pytest.mark.usefixtures("stubs")
def test_clients_that_are_made_in_the_middle_of_a_line_are_made_there(tmp_path: Path) -> None:
    """Once, each call under the policy of its own dependency: `a().b()` begins where `a()` does and is another call."""
    source = """
        import psycopg
        import redis

        def load(key):
            row = psycopg.connect("host=db dbname=app").execute("select 1", (key,)).fetchone()
            return row, redis.Redis().get(key)
    """
    text, said, left = run_example(tmp_path, source)
    assert text.count("psycopg.connect") == 1
    assert "db_app_policy.call(psycopg.connect, " in text
    assert "redis_policy.call(redis.Redis().get, key)" in text
    assert "connect()" not in text
    for name in ("db-app", "redis"):
        lines = [line for line in said if line.startswith(f"load, {name}:")]
        assert [each for each in ("retry", "health check") if missing(each, lines)] == []
    assert left == []


@pytest.mark.usefixtures("stubs")
def test_a_chain_at_the_head_of_a_loop_is_written_once(tmp_path: Path) -> None:
    """A fake stands behind what the first of its calls answers."""
    source = """
        from plexapi.server import PlexServer

        plex = PlexServer("http://plex:32400", "token")

        def names(word):
            found = []
            for each in plex.library.section("S").searchShows(title=word):
                found.append(each.title)
            return found
    """
    text, said, _ = run_example(tmp_path, source)
    assert text.count('plex.library.section, "S"') == 1
    assert [each for each in ("retry", "circuit breaker", "health check") if missing(each, said)] == []


@pytest.mark.usefixtures("stubs")
@pytest.mark.parametrize(
    "waiting",
    [
        "[client.get(a), client.get(b)]",
        "{'a': client.get(a), 'b': client.get(b)}.values()",
        "[asyncio.create_task(client.get(a)), asyncio.create_task(client.get(b))]",
        "[client.get(each) for each in (a, b)]",
    ],
)
def test_what_is_gathered_later_is_waited_for(tmp_path: Path, waiting: str) -> None:
    """Where the file lays the calls by, whatever it lays them in."""
    source = f"""
        import asyncio
        import httpx

        client = httpx.AsyncClient()

        async def ask(a, b):
            waiting = {waiting}
            return await asyncio.gather(*waiting)
    """
    text, said, _ = run_example(tmp_path, source)
    assert "    await client.get(" in text
    assert not missing("retry", said)


def test_a_call_that_an_example_would_lose_is_said(tmp_path: Path) -> None:
    """Its function is left out, and so are the clients and policies that only this function has."""
    source = """
        import httpx
        import psycopg
        import requests

        client = httpx.AsyncClient()
        db = psycopg.connect("host=db dbname=app")

        def words(url):
            rows = f"{db.execute(url).fetchall()}"
            return parse(rows)

        async def handed(url):
            return [client.get(url)]

        async def each_line(url):
            async for line in client.get(url):
                print(line)

        def both(a, b):
            pages = [requests.get(a), requests.get(b), other(b)]
            return merge(pages)
    """
    text, said, left = run_example(tmp_path, source)
    assert "    requests.get(a)\n    requests.get(b)\n    return" in text
    assert "psycopg" not in text.partition("policies = ")[2]
    assert not missing("retry", said)
    assert any("words, line 10: what becomes of its answer is work of the file" in each for each in left)
    assert any("handed, line 14: it does not wait for what it calls" in each for each in left)
    assert any("each_line, line 17: it goes over what it calls" in each for each in left)
    assert any("module, line 7: outside of functions" in each for each in left)


def test_a_request_socket_is_made_anew_for_each_attempt(tmp_path: Path) -> None:
    """As the file does, by the context that the module holds."""
    source = """
        import zmq

        context = zmq.Context()

        def ask(question):
            socket = context.socket(zmq.REQ)
            socket.setsockopt(zmq.RCVTIMEO, 1000)
            socket.connect("tcp://brain:5556")
            socket.send_json(question)
            return socket.recv_json()
    """
    text = examples(advise([tree(tmp_path, app=source)]), PRESETS).modules["app_example"]
    assert "    context = zmq.Context()\n" in text
    assert "    socket: Any = context.socket(zmq.REQ)\n    socket.send_json(question)\n" in text


def run(*arguments: object) -> int:
    return main(["scan", "--no-cache", *map(str, arguments)])


def test_the_command_writes_counts_and_says_why_not(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--top` chooses how many dependencies, worst first."""
    assert run("--examples", tmp_path / "examples", "--top", 1, folder) == 0
    out = capsys.readouterr().out
    assert "examples written" in out
    assert "not written: " in out
    assert all("[policies." in path.read_text() for path in (tmp_path / "examples").iterdir())


def test_other_files_are_not_overwritten_without_force(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With it they stay beside the new ones."""
    (tmp_path / "mine.py").write_text("mine = 1\n")
    assert run("--examples", tmp_path, folder / "prices.py") == 2
    assert "--force" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]
    assert run("--examples", tmp_path, "--force", folder / "prices.py") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "prices_example.py"]


def test_a_tree_without_calls_and_unreadable_files_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the line of totals."""
    folder = tree(tmp_path, nothing="x = 1\n")
    (folder / "binary.py").write_bytes(b"\x00\xff\x00")
    assert run("--examples", tmp_path / "out", folder) == 0
    out = capsys.readouterr().out
    assert "0 examples written; no external calls were found; 1 file could not be read" in out
