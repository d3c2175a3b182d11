"""What findings say and what becomes of them; how far an import is followed."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from resilient_agents.scan.fix import fix


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("import requests\nrequests.get(url)", "give it timeout"),
        ("import redis\nredis.Redis(port=1).get('x')", "give its Redis socket_timeout"),
        ("import redis\nredis.Redis(port=1).pipeline().execute()", "give its Redis socket_timeout"),
        ("import smtplib\nsmtplib.SMTP('h', timeout=None).noop()", "give its SMTP timeout"),
        ("import zmq\nzmq.Context().socket(zmq.SUB).recv()", "set RCVTIMEO on its Socket"),
        ("import socket\nsocket.socket().accept()", "call settimeout on its socket"),
        (
            "import psycopg\npsycopg.connect(dsn, connect_timeout=3).execute('x')",
            "put a policy with a time limit around it",
        ),
    ],
)
def test_a_finding_says_what_takes_the_limit(tmp_path: Path, code: str, advice: str) -> None:
    """The call itself, the object that it is made on, or the client behind that."""
    (tmp_path / "requirements.txt").write_text("redis<8\n")
    (tmp_path / "code.py").write_text(code)
    found = [finding.message for finding in scan([tmp_path]).findings]
    assert found[-1].endswith(f"; {advice}"), found


@pytest.mark.parametrize(("packages", "calls"), [(["libs/shop/acme"], 1), (["libs/one/acme", "libs/two/acme"], 0)])
def test_a_package_of_another_part_is_found_where_it_is_the_only_one(
    tmp_path: Path, packages: list[str], calls: int
) -> None:
    """A monorepo installs its parts: `from acme import client` elsewhere means the one package of that name."""
    for name in packages:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("from .clients import client\n")
        (folder / "clients.py").write_text("import redis\n\ndef client():\n    return redis.Redis()\n")
    (tmp_path / "apps").mkdir()
    use = """
        from acme import client

        def f():
            return client().get("x")
    """
    (tmp_path / "apps" / "use.py").write_text(textwrap.dedent(use))
    assert len(scan([tmp_path]).calls) == calls


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("partial(s.request, timeout=5)", "explicit"),
        ("partial(s.request, timeout=None)", "none"),
        ("partial(s.request, verify=False)", "unknown"),
        ("lambda *_: None", "unknown"),
    ],
)
def test_a_method_that_is_replaced_says_what_ends_the_others(tmp_path: Path, value: str, limit: str) -> None:
    """All methods of a session go through its `request`."""
    code = f"""
        from functools import partial
        import requests

        def session():
            s = requests.Session()
            s.request = {value}
            return s

        def f(url):
            return session().get(url)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [call] = scan([tmp_path]).calls
    assert call.limit == limit


@pytest.mark.parametrize(
    ("decorator", "limit"),
    [
        ('resilient("named")', "unknown"),
        ("resilient(Timeout(5))", "none"),
        ("resilient(timeout=5)", "none"),
        ("resilient(Policy(Retry(3), Timeout(5, thread=True)))", "explicit"),
        ("timeout(5, thread=True)", "explicit"),
    ],
)
def test_a_policy_interrupts_a_plain_function_only_in_a_thread(tmp_path: Path, decorator: str, limit: str) -> None:
    """What a name stands for is not seen; async code that blocks cannot be interrupted at all."""
    guarded = f"@{decorator}\n{{0}}def f(url):\n    return requests.get(url)\n"
    imports = "import requests\nfrom resilient_agents import Policy, Retry, Timeout, resilient, timeout\n\n\n"
    (tmp_path / "code.py").write_text(f"{imports}{guarded.format('')}\n\n{guarded.format('async ')}")
    assert [call.limit for call in scan([tmp_path]).calls] == [limit, "none"]


def test_a_function_that_goes_on_for_ever_gets_no_policy(tmp_path: Path) -> None:
    """A time limit of the whole function would end what is meant to last."""
    code = """
        import requests

        def work(url):
            while True:
                requests.get(url)

        def once(urls):
            while urls:
                requests.get(urls.pop())
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    fixed = fix([tmp_path], Options(), lambda call: "requests")
    assert [finding.call.function for finding in fixed.left] == ["work"]
    assert fixed.patch().count('+@resilient("requests")') == 1


@pytest.mark.parametrize(
    ("pin", "made", "times"),
    [
        ("redis==5.2", "redis.Redis()", None),
        ("redis>=6,<7", "redis.Redis()", " up to 3 times"),
        ("redis>=6", "redis.Redis()", ""),
        ("redis==8.1", "redis.Redis()", " up to 10 times"),
        ("", "redis.Redis()", None),
        ("redis==7.1", "redis.Redis(retry=None)", None),
        ("redis==7.1", "redis.Redis(retry=made())", None),
        ("redis==7.1", "redis.Redis(connection_pool=pool)", None),
        ("redis==7.1", "redis.from_url('redis://x')", None),
        ("redis==5.2", "redis.RedisCluster('x')", " up to 3 times"),
    ],
)
def test_a_client_repeats_its_calls_as_its_version_does(tmp_path: Path, pin: str, made: str, times: str | None) -> None:
    """Unless the code may say otherwise, or a version that counts does not."""
    code = """
        import redis
        from tenacity import retry, stop_after_attempt

        client = {0}

        @retry(stop=stop_after_attempt(3))
        def f():
            return client.get("x")
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code).format(made))
    (tmp_path / "requirements.txt").write_text(pin)
    said = [each.message for each in scan([tmp_path], Options(select=("RA202",))).findings if each.rule == "RA202"]
    assert [each.partition("which repeats itself")[2] for each in said] == ([] if times is None else [times])


@pytest.mark.parametrize(("given", "times"), [("", [" up to 2 times"]), ("max_retries=5", [" up to 5 times"])])
def test_a_client_repeats_its_calls_as_often_as_it_is_told(tmp_path: Path, given: str, times: list[str]) -> None:
    """What the code gives counts, not what the library would do."""
    code = """
        import openai
        from tenacity import retry, stop_after_attempt

        client = openai.OpenAI({0})

        @retry(stop=stop_after_attempt(3))
        def f():
            return client.embeddings.create(model="m", input="x")
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code).format(given))
    said = [each.message for each in scan([tmp_path], Options(select=("RA202",))).findings if each.rule == "RA202"]
    assert [each.partition("which repeats itself")[2] for each in said] == times
