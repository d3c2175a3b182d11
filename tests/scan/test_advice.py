"""Advice: what a code base depends on, how much that can hurt, and what would help."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import pytest

from resilient_agents.cli import main
from resilient_agents.scan.advice import Advice, advise
from resilient_agents.scan.advice.html import as_html
from resilient_agents.scan.advice.score import HIGH, MEDIUM, TERMS
from resilient_agents.scan.advice.text import as_text
from resilient_agents.scan.table import TableError
from resilient_agents.scan.table import load as load_table
from tests.scan.advised import EXPECTED, advised
from tests.scan.expected import cases
from tests.scan.small import ORDERS


def test_calls_are_grouped_by_what_they_talk_to(advice: Advice) -> None:
    """A host is one dependency whichever file calls it; a database is its file, a program its name."""
    found = {each.dependency.name: len(each.dependency.files) for each in advice.dependencies}
    assert found == {"prices.example.com": 2, "openai": 1, "app.db": 1, "git": 1, "shop.internal": 1}


@pytest.mark.parametrize(
    ("dependency", "pattern", "candidate", "why"),
    [
        ("prices.example.com", "time limit", True, r"2 calls \(.*agent.py:17, .*prices.py:9\) can wait for ever"),
        (
            "prices.example.com",
            "retry",
            True,
            r"2 calls \(.*\) may be made twice; not 1 call \(.*prices.py:13",
        ),
        ("prices.example.com", "circuit breaker", True, "while it is down, 3 calls"),
        ("prices.example.com", "bulkhead", False, r"1 call \(.*17\) holds up the event loop, so that nothing else"),
        (
            "openai",
            "bulkhead",
            True,
            r"nothing in the code says how many of these may be under way at once: 1 call \(.*12\)",
        ),
        (
            "openai",
            "retry",
            True,
            r"the client makes 1 call \(.*agent.py:12\) again by itself, unseen: switch that off \(max_retries=0\)",
        ),
        ("prices.example.com", "rate limit", True, r"a loop calls somebody else's service: 1 call \(.*prices.py:9\)"),
        ("prices.example.com", "fallback", False, "nothing in the code says what would do"),
        ("prices.example.com", "health check", True, r"whoever runs this wants to know before 3 calls \(.*\) fail$"),
        ("openai", "time limit", False, "every call has a limit"),
        ("openai", "rate limit", True, "model APIs have quotas"),
        ("openai", "fallback", True, r"the code already has something in place of the answer at .*agent.py:12"),
        ("app.db", "retry", False, "a file on this machine"),
        ("app.db", "circuit breaker", False, "a file on this machine has no outage"),
        ("app.db", "health check", False, "a file on this machine fails with the machine"),
        ("git", "time limit", True, r"1 call \(.*agent.py:23\) can wait for ever"),
        ("git", "retry", False, "a command that failed may have done a part of its work"),
        ("shop.internal", "retry", False, r"1 call \(.*orders.py:7\) may not be made twice"),
        ("shop.internal", "rate limit", False, "nothing in the code says that it has a quota"),
        ("shop.internal", "circuit breaker", False, "one call, outside of loops and async code"),
    ],
)
def test_each_verdict_says_why_with_its_lines(
    advice: Advice, dependency: str, pattern: str, candidate: bool, why: str
) -> None:
    """In one sentence that a reader can check."""
    [it] = [each for each in advice.dependencies if each.dependency.name == dependency]
    [verdict] = [each for each in it.verdicts if each.pattern == pattern]
    assert verdict.candidate is candidate
    assert re.match(why, verdict.why), verdict.why


@pytest.mark.parametrize("case", cases())
def test_the_advice_on_the_corpus_is_what_was_read_and_found_true(case: str, tmp_path: Path) -> None:
    """Sentence by sentence, with figures, lines and scores."""
    assert advised(case, tmp_path).split("\n") == (EXPECTED / f"{case}.txt").read_text(encoding="utf-8").split("\n")


@pytest.mark.parametrize(
    ("handler", "candidate"),
    [
        ("except Exception:\n        return None", True),
        ("except OSError:\n        found = []", True),
        ("except (KeyError, TimeoutError):\n        return 1", True),
        ("except Exception as error:\n        raise RuntimeError from error", False),
        ("except Exception as error:\n        note(error)", False),
        ("except Exception as error:\n        last = error", False),
        ("except (KeyError, ValueError):\n        return None", False),
        ("except Exception:\n        sys.exit('no')", False),
        ("except Exception:\n        note(lambda: 1)\n        return", False),
        ("except Exception as error:\n        return recover(error)", True),
        ("except Exception:\n        return {'items': []}", True),
        ("except Exception as error:\n        return {'status': 0, 'why': str(error)}", False),
        ("except Exception:\n        return {'error': 'away'}, 502", False),
        ("except Exception:\n        return {'ok': False}", False),
        ("except Exception:\n        return [Text(text=f'{url} failed')]", False),
        ("except Exception:\n        return Answer(error=True)", False),
        ("except Exception:\n        return 'Error: ' + traceback.format_exc()", False),
        ("except Exception:\n        return 'Sorry, try again later.'", False),
        ("except Exception:\n        return f'{url} took too long'", False),
        ("except Exception:\n        return 'New York'", True),
        ('except Exception:\n        return \'{"items": [], "next": null}\'', True),
        ("except Exception:\n        found = False", False),
        ("except OSError as error:\n        text = str(error)\n        return [text]", False),
        ("except OSError as error:\n        return Failed(error)", False),
        ("except OSError:\n        took = clock()", False),
        ("except OSError as error:\n        if error.errno:\n            raise\n        return None, None", False),
        ("except OSError as error:\n        if error.errno:\n            raise\n        return stale", True),
        ("except boto.NotFoundError:\n        return None", False),
        ("except FileNotFoundError:\n        return None", True),
    ],
)
def test_a_handler_is_a_fallback_if_it_gives_something_instead(tmp_path: Path, handler: str, candidate: bool) -> None:
    """One that raises, ends, notes or tells of the error gives nothing; one for errors of other work or for an answer
    is none."""
    code = f"import sys\nimport requests\n\n\ndef f(url):\n    try:\n        found = requests.get(url)\n    {handler}\n"
    (tmp_path / "code.py").write_text(code)
    [it] = advise([tmp_path]).dependencies
    assert ("fallback" in it.candidates) is candidate


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        ("https://api.openai.com/v1", "model"),
        ("https://mine.openai.azure.com", "model"),
        ("https://api.shop.example", "http"),
        ("https://notopenai.azure.com", "http"),
    ],
)
def test_the_host_of_a_model_api_is_one_by_whichever_library(tmp_path: Path, base: str, kind: str) -> None:
    """It has a quota, and the preset of models."""
    code = f"import httpx\n\nclient = httpx.Client(base_url='{base}')\nclient.post('/v1/chat/completions', json={{}})\n"
    (tmp_path / "code.py").write_text(code)
    [it] = advise([tmp_path]).dependencies
    assert it.dependency.target.kind == kind
    assert ("rate limit" in it.candidates) is (kind == "model")
    assert "retry" in it.candidates


def test_a_policy_by_name_may_have_what_a_call_would_gain_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has stands in a configuration: the advice says which calls have one, and is advice all the same."""
    code = """
        import requests
        from resilient_agents import resilient

        @resilient("prices")
        def named():
            requests.get("https://prices.example", timeout=3)

        def bare():
            requests.get("https://prices.example", timeout=3)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    [it] = advise([Path()]).dependencies
    may = "; 1 call (code.py:7) has a policy by name, and its configuration may have one"
    assert it.why("retry") == f"2 calls (code.py:7, code.py:10) may be made twice{may}"
    assert it.why("circuit breaker").endswith(may)
    assert not it.why("fallback").endswith(may)


def test_what_a_loop_goes_over_is_asked_for_once(tmp_path: Path) -> None:
    """Unless what the call gives is gone over itself, which may ask for each item; in the record both are in it."""
    code = """
        import redis
        import requests

        def f(cache: redis.Redis):
            for each in requests.get("https://x.example", timeout=3).json():
                requests.get("https://x.example/each", timeout=3)
            for key in cache.scan_iter():
                print(key)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    found = [one for each in advise([tmp_path]).dependencies for one in each.dependency.found]
    assert {one.call.line: one.repeated for one in found} == {6: False, 7: True, 8: True}
    assert all(one.call.in_loop for one in found)


@pytest.mark.parametrize(
    ("client", "says"),
    [
        ("AsyncOpenAI()", "the client makes 1 call"),
        ("AsyncOpenAI(**{'timeout': 5})", "the client makes 1 call"),
        ("AsyncOpenAI(**{'max_retries': 0})", "1 call (code.py:6) may be made twice"),
        ("AsyncOpenAI(**given)", "1 call (code.py:6) may be made twice"),
        ("AsyncOpenAI(max_retries=0)", "1 call (code.py:6) may be made twice, each time at its price"),
        ("AsyncOpenAI().with_options(max_retries=0)", "1 call (code.py:6) may be made twice"),
        ("AsyncOpenAI(max_retries=0).with_options(max_retries=3)", "the client makes 1 call"),
        ("AsyncOpenAI(**options)", "1 call (code.py:6) may be made twice"),
    ],
)
def test_a_client_tries_again_where_nothing_switches_that_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: str, says: str
) -> None:
    """What the code does not say is not claimed."""
    code = f"from openai import AsyncOpenAI\nai = {client}\n\n\nasync def f():\n    await ai.responses.create()\n"
    (tmp_path / "code.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    [it] = advise([Path()]).dependencies
    assert it.why("retry").startswith(says)


def test_what_may_be_a_write_is_not_advised_to_be_made_twice(tmp_path: Path) -> None:
    """A method that is chosen in a branch may be the one that must not be repeated."""
    code = """
        import requests

        def f(url, body):
            method = requests.post if body else requests.get
            return method(url, json=body)

        def g(url, quick):
            method = requests.head if quick else requests.get
            return method(url)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert re.match(r"1 call \(.*:10\) may be made twice; not 1 call \(.*:6\)", it.why("retry"))


def test_a_call_that_connects_talks_to_what_it_is_given(tmp_path: Path) -> None:
    """It is one dependency with what it connects."""
    code = "import smtplib\n\n\ndef f(text):\n    smtplib.SMTP('mail.example', 25).send_message(text)\n"
    (tmp_path / "code.py").write_text(code)
    [it] = advise([tmp_path]).dependencies
    assert (it.dependency.name, len(it.dependency.found)) == ("mail.example", 2)


def test_pages_and_waiters_of_a_client_talk_to_what_it_talks_to(tmp_path: Path) -> None:
    """What they are asked for is not whom."""
    code = """
        import boto3

        s3 = boto3.client("s3")

        def f(bucket):
            s3.get_waiter("bucket_exists").wait(Bucket=bucket)
            return [page for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)]
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert (it.dependency.name, [each.call.line for each in it.dependency.found]) == ("s3", [7, 8])


def test_a_request_socket_that_stays_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no request before it has the last one's answer: made for the call, renewed or relaxed it may be."""
    code = """
        import zmq

        context = zmq.Context()

        class Brain:
            def __init__(self):
                self.held = context.socket(zmq.REQ)
                self.held.connect("tcp://brain:1")
                self.eased = context.socket(zmq.REQ)
                self.eased.setsockopt(zmq.REQ_RELAXED, 1)
                self.eased.connect("tcp://brain:2")

            def ask(self, question):
                self.held.send(question)
                return self.held.recv()

            def ease(self, question):
                self.eased.send(question)

        def once(question):
            made = context.socket(zmq.REQ)
            made.connect("tcp://brain:3")
            made.send(question)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    why = {each.dependency.name: each.why("retry") for each in advise([Path()]).dependencies}
    unsaid = "where a call may be made twice, which the code does not say: 1 call"
    go = "go through a REQ socket that takes no request before it has the last one's answer: make one per attempt"
    made = "1 call (code.py:24) goes through a REQ socket made in the function: repeat all of it"
    assert why == {
        "brain:1": f"2 calls (code.py:15, code.py:16) {go}",
        "brain:2": f"{unsaid} (code.py:19)",
        "brain:3": f"{unsaid} (code.py:24); {made}",
    }


def test_waiting_for_whoever_pushes_is_no_candidate(tmp_path: Path) -> None:
    """A stream of Redis is waited at where the call says so."""
    code = """
        import redis

        client = redis.Redis("cache")

        def f():
            client.blpop("jobs")
            client.brpop("jobs", timeout=5)
            client.xread({"s": "$"}, block=0)
            client.xread({"s": "0"})
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert [each.call.line for each in it.dependency.serving] == [7, 8, 9]
    assert re.search(r"1 call \(.*:10\) may be made twice; 3 calls .* wait for what comes by itself", it.why("retry"))


def test_a_socket_that_is_bound_waits_for_whoever_comes(tmp_path: Path) -> None:
    """Whichever method it waits by."""
    code = """
        import socket

        class Listener:
            def __init__(self):
                self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self.sock.bind(("", 5000))

            def hear(self):
                return self.sock.recvfrom(1024)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert it.candidates == []
    assert len(it.dependency.serving) == 1


def test_a_secret_is_no_name_of_a_dependency(tmp_path: Path) -> None:
    """What a client of a service is given first is left unsaid."""
    code = "from slack_sdk import WebClient\n\n\ndef f():\n    WebClient('xoxb-12-abc').chat_postMessage(text='x')\n"
    (tmp_path / "code.py").write_text(code)
    found = advise([tmp_path])
    assert [each.dependency.name for each in found.dependencies] == ["slack_sdk"]
    assert "xoxb" not in as_text(found) + as_html(found)


def test_a_semaphore_bounds_what_is_under_way(tmp_path: Path) -> None:
    """What stands in it needs no bulkhead."""
    code = """
        import asyncio
        import httpx

        few = asyncio.Semaphore(4)
        client = httpx.AsyncClient()

        async def f(url):
            async with few:
                return await client.get(url)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert "bulkhead" not in it.candidates
    assert it.why("bulkhead") == "what stands around its calls says how many may be under way at once"


def test_the_score_follows_from_the_printed_formula_alone(advice: Advice) -> None:
    """Whoever has the terms and the formula gets the same number."""
    data = advice.as_data()
    formula = data["formula"].removeprefix("score = ").replace(" x ", "*")
    for each in data["dependencies"] + data["files"]:
        assert eval(formula, dict(each["terms"])) == each["score"]
    [prices] = [each for each in data["dependencies"] if each["name"] == "prices.example.com"]
    assert prices["terms"] == {"endless": 2, "endless_async": 1, "endless_loops": 1, "unguarded": 1, "files": 2}
    assert (prices["score"], prices["priority"]) == (14, "high")


def test_the_printed_report_has_all_that_a_score_and_a_priority_are_made_of(advice: Advice) -> None:
    """The weights and thresholds below, the numbers beside each dependency."""
    text = as_text(advice)
    said = re.search(r"^score = (.*); high from (\d+), medium from (\d+)$", text, re.MULTILINE)
    assert said is not None
    weights = re.findall(r"(\d+) x \w+", said[1])
    found = re.findall(r": (\w+), score (\d+)\n.*\[(.*)\]$", text, re.MULTILINE)
    assert len(found) == len(advice.dependencies)
    for priority, score, sum_ in found:
        parts = [part.split(" x ") for part in sum_.split(" + ")]
        assert [weight for weight, _ in parts] == weights
        worth = sum(int(weight) * int(number) for weight, number in parts)
        assert worth == int(score)
        assert priority == ("high" if worth >= int(said[2]) else "medium" if worth >= int(said[3]) else "low")
    files = re.findall(r"^  .*: (\w+) \(score (\d+)\), ", text, re.MULTILINE)
    assert len(files) == len(advice.files)
    for priority, score in files:
        assert priority == ("high" if int(score) >= int(said[2]) else "medium" if int(score) >= int(said[3]) else "low")


def test_totals_come_first(advice: Advice) -> None:
    """Of files, dependencies and candidates, in the text and on the page."""
    totals = [
        "3 files: 3 read, 0 repaired, 0 unreadable; 3 with external calls, 1 of high priority",
        "5 dependencies by priority: 1 high, 0 medium, 4 low",
        "files that are candidates: time limit 2, retry 2, circuit breaker 2, bulkhead 1, rate limit 2",
    ]
    said = as_text(advice).splitlines()
    assert said[:2] == totals[:2]
    assert said[2] == f"{totals[2]}, fallback 1, health check 2"
    assert all(line in as_html(advice) for line in totals)


def test_files_are_advised_one_by_one_with_totals(advice: Advice) -> None:
    """For those who roll out file by file."""
    assert [file.path.rpartition("/")[2] for file in advice.files] == ["agent.py", "prices.py", "orders.py"]
    totals = advice.totals()
    assert totals["files"] == {"read": 3, "repaired": 0, "unreadable": 0}
    assert totals["files_with_calls"] == 3
    assert totals["candidates"]["time limit"] == 2


def test_a_file_gets_the_breaker_of_its_dependency(tmp_path: Path) -> None:
    """As it does the health check: one for all callers needs them all, those that make one call, too."""
    call = "import requests\n\n\ndef f{0}():\n    return requests.get('https://a.example', timeout=5)\n"
    for number in range(2):
        (tmp_path / f"part{number}.py").write_text(call.format(number))
    found = advise([tmp_path])
    assert {"circuit breaker", "health check"} <= set(found.dependencies[0].candidates)
    assert all({"circuit breaker", "health check"} <= set(file.candidates) for file in found.files)


def test_files_that_do_not_parse_are_counted_and_never_dropped(tree: Path) -> None:
    """Repaired ones give what can be read, unreadable ones their reason."""
    (tree / "broken.py").write_text("import requests\ndef f(:\n    requests.get('https://x.example.org')\n")
    (tree / "nothing.py").write_bytes(b"\x00\xff\x00")
    found = advise([tree])
    assert found.totals()["files"] == {"read": 3, "repaired": 1, "unreadable": 1}
    assert "x.example.org" in {each.dependency.name for each in found.dependencies}
    assert "nothing.py" in as_text(found)


def test_a_guarded_call_counts_as_protected(tree: Path) -> None:
    """And its score falls to nothing."""
    guarded = textwrap.dedent(ORDERS).replace("def order", '@resilient("shop")\ndef order')
    (tree / "orders.py").write_text(f"from resilient_agents import resilient\n{guarded}")
    [shop] = [each for each in advise([tree]).dependencies if each.dependency.name == "shop.internal"]
    assert shop.as_data()["protected"] == 1
    assert shop.score.value == 0


def test_a_retry_ends_no_wait(tmp_path: Path) -> None:
    """What only a retry guards and can wait for ever counts as that in the score."""
    code = "import requests\nimport tenacity\n\n\n@tenacity.retry\ndef f():\n    return requests.get('https://a.example')\n"
    (tmp_path / "code.py").write_text(code)
    [it] = advise([tmp_path]).dependencies
    assert it.figures["protected"] == it.figures["can_wait_for_ever"] == 1
    assert it.score.terms == {"endless": 1, "endless_async": 0, "endless_loops": 0, "unguarded": 0, "files": 1}


def test_what_is_there_is_no_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a policy in the code, an option or another library; the calls that lack it are judged by themselves."""
    code = """
        import requests
        import tenacity
        from resilient_agents import Policy, Retry, resilient

        policy = Policy(Retry(3))

        @resilient(policy)
        def f():
            return requests.get("https://a.example", timeout=5)

        @resilient(retry=3, breaker="a")
        def g():
            return requests.get("https://a.example", timeout=5)

        @tenacity.retry
        def h():
            return requests.get("https://a.example", timeout=5)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    monkeypatch.chdir(tmp_path)
    [it] = advise([Path()]).dependencies
    assert it.candidates == ["circuit breaker", "health check"]
    assert it.why("retry") == "3 calls (code.py:10, code.py:14, code.py:18) have one in the code"
    assert it.why("circuit breaker").endswith("; 1 call (code.py:14) has one in the code")


def test_what_stands_in_one_line_is_repeated_together(tmp_path: Path) -> None:
    """The answer of a send cannot be waited for again without sending again."""
    code = """
        from kafka import KafkaProducer

        producer = KafkaProducer(bootstrap_servers="kafka:9092")

        def publish(event):
            producer.send("events", event).get(timeout=5)
    """
    (tmp_path / "code.py").write_text(textwrap.dedent(code))
    [it] = advise([tmp_path]).dependencies
    assert re.match(r"\d calls? \(.*code.py:7\) may not be made twice", it.why("retry"))


def test_a_tree_without_calls_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And has nothing to plan."""
    (tmp_path / "a.py").write_text("print(1)\n")
    assert main(["scan", "--no-cache", "--advise", "--plan", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "no external calls were found" in out
    assert "nothing to roll out" in out


def test_a_project_says_which_libraries_open_files(tmp_path: Path) -> None:
    """As the tables of the package do: a file on this machine has no outage."""
    (tmp_path / "pyproject.toml").write_text("""
        [tool.resilient-agents.scan.libraries.acme]
        kind = "database"
        address = "file"
        default = "none"
        client = [{ name = "acme.Store", call = [{ names = ["fetch"] }] }]
    """)
    (tmp_path / "code.py").write_text(
        "import acme\nstore = acme.Store('data/x.acme')\n\n\ndef f():\n    store.fetch()\n"
    )
    [it] = advise([tmp_path]).dependencies
    assert (it.dependency.name, it.dependency.target.local) == ("x.acme", True)
    assert "circuit breaker" not in it.candidates


def test_an_address_is_a_file_or_a_host() -> None:
    """Anything else is a mistake in the table."""
    with pytest.raises(TableError, match="acme: address is one of file, host, process, own, .*, got 'path'"):
        load_table([{"acme": {"kind": "database", "address": "path", "client": []}}])


def test_the_page_needs_no_network_and_shows_no_markup_of_the_code(tree: Path) -> None:
    """Names that were read in files are text, whatever they hold."""
    (tree / "evil.py").write_text("import subprocess\nsubprocess.run(['<script>alert(1)'])\n")
    page = as_html(advise([tree]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)\s*=", page)
    assert "prices.example.com" in page


def test_json_is_everything_as_data(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For programs and coding agents."""
    assert main(["scan", "--no-cache", "--advise", "--format", "json", str(tree)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["version"] == 1
    assert data["dependencies"][0]["patterns"]["retry"]["candidate"] in (True, False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--advise", "--format", "sarif"], "advice has the formats text, json, html, got sarif"),
        (["--format", "html"], "html goes with --advise"),
        (["--advise", "--fix"], "advice is about all calls, and --fix about findings: run scan twice"),
        (["--plan", "--since", "HEAD"], "and --since about findings"),
        (["--advise", "--select", "RA301"], "and --select about findings"),
        (["--advise", "--dry-run"], "and --dry-run about findings"),
        (["--plan", "--format", "json"], "of advice only --advise has a --format"),
        (["--advise", "--top", "3"], "--top goes with --examples"),
        (["--top", "20"], "--top goes with --examples"),
        (["--force"], "--force goes with --examples"),
        (["--dry-run"], "--dry-run goes with --fix"),
        (["--fix", "--fix=policy"], "run scan twice"),
        (["--fix", "--dry-run", "--strict"], "--dry-run prints the patch and no findings: no --strict with it"),
        (["--fix", "--dry-run", "--format", "json"], "no --format with it"),
    ],
)
def test_options_go_with_what_they_are_for(
    tree: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """Anything else is wrong use."""
    assert main(["scan", "--no-cache", *arguments, str(tree)]) == 2
    assert message in capsys.readouterr().err


def test_the_documentation_says_the_formula_as_it_is() -> None:
    """Each term with its weight and its reason."""
    page = (Path(__file__).parents[2] / "docs" / "pages" / "scan-advice.md").read_text()
    for name, (weight, why) in TERMS.items():
        assert f"| `{name}` | {weight} | {why} |" in page
    assert f"From {HIGH} on the priority is high, from {MEDIUM} on medium." in page
