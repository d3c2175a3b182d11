"""What may be made twice, and what waits for what comes by itself: no retry is advised for writes or servers."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan import Options, scan
from resilient_agents.scan.advice import Advice, advise
from resilient_agents.scan.advice.policies import names, policy_of
from resilient_agents.scan.fix import fix

UNSAID = "where a call may be made twice, which the code does not say: 1 call (code.py:{line})"
NEVER = "1 call (code.py:{line}) may not be made twice: one whose answer was lost may have taken effect"
MAY = "1 call (code.py:{line}) may be made twice"
COSTS = f"{MAY}, each time at its price"

PSYCOPG = "import psycopg\n\n\ndef f(db: psycopg.Connection, x):\n    "
ALCHEMY = "from sqlalchemy import *\nfrom sqlalchemy.orm import Session\n\n\ndef f(db: Session, x):\n    "
REDIS = "import redis\n\n\ndef f(cache: redis.Redis, x):\n    "
HTTP = "import requests\n\n\ndef f(url, x):\n    "
OPENED = "from urllib.request import Request, urlopen\n\n\ndef f(url, x):\n    "
MONGO = "import pymongo\n\nusers = pymongo.MongoClient('mongodb://db').shop.users\n\n\ndef f(x):\n    "
AWS = "import boto3\n\nclient = boto3.client('sqs', config=x)\n\n\ndef f(x):\n    "


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def advised(code: str) -> Advice:
    Path("code.py").write_text(textwrap.dedent(code))
    return advise([Path()])


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (f"{PSYCOPG}db.execute('SELECT 1')", MAY),
        (f"{PSYCOPG}db.execute('''\n      select *\n      from users''')", MAY),
        (f"{PSYCOPG}db.execute('INSERT INTO users VALUES (%s)', [x])", NEVER),
        (f"{PSYCOPG}db.execute(f'UPDATE users SET name = {{x}}')", NEVER),
        (f"{PSYCOPG}db.execute('DELETE FROM ' + x)", NEVER),
        (f"{PSYCOPG}db.execute('INSERT INTO users VALUES (%s) ON CONFLICT (id) DO NOTHING', [x])", MAY),
        (f"{PSYCOPG}db.execute('CREATE TABLE IF NOT EXISTS users (id int)')", MAY),
        (f"{PSYCOPG}db.execute('WITH a AS (SELECT 1) SELECT * FROM a')", UNSAID),
        (f"{PSYCOPG}db.execute(x)", UNSAID),
        (f"{PSYCOPG}db.execute('SELECT 1' if x else 'INSERT INTO a VALUES (1)')", NEVER),
        (f"{ALCHEMY}db.execute(text('INSERT INTO a VALUES (1)'))", NEVER),
        (f"{ALCHEMY}db.execute(insert(x).values(a=1))", NEVER),
        (f"{ALCHEMY}db.scalars(select(x).where(x.a == 1))", MAY),
        (f"{REDIS}cache.get(x)", MAY),
        (f"{REDIS}cache.set(x, 1)", MAY),
        (f"{REDIS}cache.incr(x)", NEVER),
        (f"{REDIS}cache.lpush(x, 1)", NEVER),
        (f"{REDIS}cache.eval(x, 0)", UNSAID),
        (f"{MONGO}users.find_one(x)", MAY),
        (f"{MONGO}users.insert_one(x)", NEVER),
        (f"{MONGO}users.update_one({{}}, x)", UNSAID),
        (f"{AWS}client.send_message(QueueUrl=x)", NEVER),
        (f"{AWS}client.get_object(Key=x)", MAY),
        (f"{AWS}client.create_queue(QueueName=x)", UNSAID),
        (f"{HTTP}requests.request('POST', url)", NEVER),
        (f"{HTTP}requests.request('get', url)", MAY),
        (f"{HTTP}requests.request(x, url)", UNSAID),
        (f"{HTTP}requests.post(url, headers={{'Idempotency-Key': x}})", MAY),
        (f"{HTTP}requests.post('http://gpu:8000/v1/chat/completions', json=x)", MAY),
        (f"{HTTP}requests.post(f'{{url}}/chat/completions', json=x)", MAY),
        (f"{HTTP}requests.post(url + '/chat/completions', json=x)", MAY),
        (f"{HTTP}requests.post(f'{{url}}/chat/completions/{{x}}', json=x)", NEVER),
        (f"{HTTP}requests.post('https://api.openai.com/v1/responses', json=x)", COSTS),
        (f"{HTTP}requests.request('POST', 'https://api.anthropic.com/v1/messages', json=x)", COSTS),
        (f"{HTTP}requests.post('https://api.openai.com/v1/files', files=x)", NEVER),
        (f"{HTTP}requests.post('https://chat.example/v1/messages', json=x)", NEVER),
        (f"{OPENED}urlopen('https://shop.example')", MAY),
        (f"{OPENED}urlopen('https://shop.example', x)", NEVER),
        (f"{OPENED}urlopen(Request('https://shop.example', data=x))", NEVER),
        (f"{OPENED}urlopen(Request('https://shop.example', data=x, method='PUT'))", MAY),
        (f"{OPENED}urlopen(Request('https://shop.example', method=x))", UNSAID),
        (f"{OPENED}urlopen(url)", UNSAID),
        ("import smtplib\n\n\ndef f(mail: smtplib.SMTP, x):\n    mail.send_message(x)", NEVER),
        ("import ollama\n\n\ndef f(x):\n    ollama.chat(x)", MAY),
        ("import litellm\n\n\ndef f(x):\n    litellm.completion(x)", COSTS),
        ("import aio_pika\n\n\nasync def f(e: aio_pika.Exchange, x):\n    await e.publish(x, 'q')", NEVER),
    ],
)
def test_a_write_that_is_not_idempotent_is_no_candidate_for_a_retry(code: str, why: str) -> None:
    """By the table of libraries, the first word of an SQL text, the method of a request; else it is said that the code
    does not say."""
    [it] = advised(code).dependencies
    assert it.why("retry") == why.format(line=it.dependency.waiting[0].call.line)
    assert ("retry" in it.candidates) is (why != NEVER)


SERVERS = {
    "accept": """
        import socket

        def serve():
            server = socket.create_server(("", 7000))
            while True:
                connection, _ = server.accept()
                connection.sendall(connection.recv(100))
    """,
    "reply": """
        import zmq

        def serve():
            socket = zmq.Context().socket(zmq.REP)
            while True:
                socket.send(socket.recv())
    """,
    "consumer": """
        from aiokafka import AIOKafkaConsumer

        async def read(consumer: AIOKafkaConsumer):
            while True:
                print(await consumer.getone())
    """,
    "handler": """
        from websockets import ServerConnection

        async def handle(socket: ServerConnection):
            await socket.send(await socket.recv())
    """,
    "listener": """
        import redis

        def read(pubsub: redis.client.PubSub):
            for message in pubsub.listen():
                print(message)
    """,
}


@pytest.mark.parametrize("code", SERVERS.values(), ids=SERVERS)
def test_what_waits_for_whoever_comes_is_a_candidate_for_nothing(code: str) -> None:
    """There is nobody to ask again, no circuit that could be open, and a time limit would end a server that idles."""
    found = advised(code)
    [it] = found.dependencies
    assert it.candidates == []
    assert it.why("retry").endswith("for what comes by itself: nobody is asked, so there is nobody to ask again")
    assert it.score.value == 0
    assert names(found) == {}


def test_a_client_of_the_same_library_is_advised_beside_it() -> None:
    """And what waits for what comes by itself is named as left out."""
    [it] = advised("""
        import zmq

        context = zmq.Context()

        def serve():
            context.socket(zmq.REP).recv()

        def ask(question):
            socket = context.socket(zmq.REQ)
            socket.send(question)
            return socket.recv()
    """).dependencies
    assert it.why("retry") == (
        "where a call may be made twice, which the code does not say: 2 calls (code.py:11, code.py:12); "
        "2 calls (code.py:11, code.py:12) go through a REQ socket made in the function: repeat all of it; "
        "1 call (code.py:7) waits for what comes by itself"
    )
    assert it.why("time limit") == "2 calls (code.py:11, code.py:12) can wait for ever"


def test_a_limit_is_said_of_calls_that_ask_for_an_answer() -> None:
    """What waits for what comes by itself has none."""
    [it] = advised("""
        import redis

        cache = redis.Redis(socket_timeout=3)

        def read():
            cache.get("x")
            for message in cache.pubsub().listen():
                print(message)
    """).dependencies
    assert it.why("time limit") == "every call that asks for an answer has a limit, its own or its library's"


def test_no_policy_is_put_around_what_waits_for_whoever_comes() -> None:
    """A time limit of its function would end the server."""
    found = advised("""
        import socket
        import requests

        def once():
            connection, _ = socket.create_server(("", 7000)).accept()
            requests.get("https://a.example/")

        def ask():
            requests.get("https://a.example/")
    """)
    after = "".join(fix([Path()], Options(), policy_of(found)).after.values())
    assert after.count("@resilient") == 1
    assert '@resilient("a-example")\ndef ask()' in after


def test_a_rule_knows_the_same_writes() -> None:
    """A retry around an INSERT is found as one around a POST is."""
    code = PSYCOPG.replace("def", "@tenacity.retry(stop=1)\ndef") + "db.execute('INSERT INTO a')"
    Path("code.py").write_text(f"import tenacity\n{code}")
    [finding] = scan([Path()], Options(select=("RA203",))).findings
    assert finding.message == "tenacity.retry repeats psycopg.Connection.execute, which may do its work twice"
