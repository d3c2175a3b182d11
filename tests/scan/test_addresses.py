"""What a call talks to, wherever the code says it: a default of the environment, a setting, a constant, a URL."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from resilient_agents.scan.advice import Advice, advise
from resilient_agents.scan.advice.text import as_text

HTTP = "import os\nimport requests\n"
KAFKA = "import os\nfrom kafka import KafkaProducer\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def advised(**files: str) -> Advice:
    for name, code in files.items():
        Path(f"{name}.py").write_text(textwrap.dedent(code))
    return advise([Path()])


DATACLASS = """
    from dataclasses import dataclass, field
    import requests


    @dataclass
    class Config:
        shop: str = field(default='https://shop.example')


    def f(config: Config):
        requests.get(config.shop)
"""
FACTORY = """
    import os
    from dataclasses import dataclass, field
    import httpx


    @dataclass
    class Config:
        shop: str = field(default_factory=lambda: os.getenv('SHOP', 'https://shop.example'))


    class Shop:
        def __init__(self, config: Config):
            self.client = httpx.Client(base_url=config.shop)

        def all(self):
            self.client.get('/all')
"""
DSN = """
    import redis
    from pydantic import RedisDsn
    cache = redis.from_url(str(RedisDsn('redis://cache:6379/0')))
    cache.get('x')
"""
SESSION = """
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker
    session = sessionmaker(bind=create_engine('sqlite:///data/app.db'))


    def f():
        with session() as db:
            db.execute('select 1')
            db.get(int, 1)
"""
ENGINE = """
    from sqlalchemy.ext.asyncio import create_async_engine
    engine = create_async_engine('sqlite+aiosqlite://')


    async def f():
        async with engine.connect() as db:
            await db.execute('select 1')
"""
SETTINGS = """
    import httpx
    from pydantic import Field
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="shop_")
        prices: str = "https://prices.example/v1"
        stock: str = Field(default="https://stock.example")
        orders: str

    settings = Settings()

    def f():
        httpx.get(f"{settings.prices}/all")

    def g():
        httpx.get(settings.stock + "/all")

    def h():
        httpx.get(settings.orders)
"""


@pytest.mark.parametrize(
    ("code", "name", "variables"),
    [
        (f"{HTTP}requests.get(os.environ.get('SHOP', 'https://shop.example') + '/x')", "shop.example", ["SHOP"]),
        (f"{HTTP}requests.get(os.getenv('SHOP', default='https://shop.example/v1'))", "shop.example", ["SHOP"]),
        (f"{HTTP}requests.get(os.environ.get('SHOP') or 'https://shop.example')", "shop.example", []),
        (
            f"{HTTP}requests.get(f\"{{os.getenv('SHOP', 'https://shop.example').rstrip('/')}}/x\")",
            "shop.example",
            ["SHOP"],
        ),
        (f"{HTTP}SHOP = 'https://shop.example'\nrequests.get(SHOP.rstrip('/') + '/x')", "shop.example", []),
        (f"{HTTP}requests.get(os.environ['SHOP_URL'] + '/x')", "$SHOP_URL", ["SHOP_URL"]),
        (f"{HTTP}requests.get(os.getenv('SHOP_URL'))", "$SHOP_URL", ["SHOP_URL"]),
        (f"{HTTP}SHOP = os.environ['SHOP_URL']\nrequests.get(f'{{SHOP}}/x')", "$SHOP_URL", ["SHOP_URL"]),
        (f"{HTTP}SHOP = os.environ['SHOP_URL']\nrequests.get(SHOP + '/' + 'x')", "$SHOP_URL", ["SHOP_URL"]),
        (
            f"{KAFKA}KafkaProducer(bootstrap_servers=os.environ['BROKERS'].split(',')).send('a')",
            "$BROKERS",
            ["BROKERS"],
        ),
        (f"{HTTP}requests.get(f'https://shop.example?{{os.getpid()}}')", "shop.example", []),
        (
            "from urllib.request import Request, urlopen\nit = Request('https://shop.example')\nurlopen(it)",
            "shop.example",
            [],
        ),
        (
            DATACLASS,
            "shop.example",
            [],
        ),
        (
            FACTORY,
            "shop.example",
            ["SHOP"],
        ),
        (
            DSN,
            "cache",
            [],
        ),
    ],
)
def test_an_address_is_known_by_what_the_code_says_of_it(code: str, name: str, variables: list[str]) -> None:
    """By the host of a default, with the variable that may say otherwise; by the variable where there is no default."""
    [it] = advised(code=code).dependencies
    assert (it.dependency.name, it.dependency.variables) == (name, variables)
    assert all(f"where {variable} says" in as_text(advised(code=code)) for variable in variables)


def test_fields_of_settings_are_named_by_their_variables() -> None:
    """With the prefix that the settings have."""
    found = {each.dependency.name: each.dependency.variables for each in advised(code=SETTINGS).dependencies}
    assert found == {
        "prices.example": ["SHOP_PRICES"],
        "stock.example": ["SHOP_STOCK"],
        "$SHOP_ORDERS": ["SHOP_ORDERS"],
    }


def test_a_variable_has_the_default_that_another_file_gives_it() -> None:
    """Both files talk to the same."""
    one = f"{HTTP}requests.get(os.environ['SHOP'])"
    two = f"{HTTP}requests.get(os.environ.get('SHOP', 'https://shop.example'))"
    [it] = advised(one=one, two=two).dependencies
    assert (it.dependency.name, it.dependency.files) == ("shop.example", ["one.py", "two.py"])


CONNECTED = {
    "brain:5556": """
        import zmq

        def f():
            s = zmq.Context().socket(zmq.REQ)
            s.connect("tcp://brain:5556")
            s.send(b"")
    """,
    "brain:80": """
        import socket

        def f():
            s = socket.socket()
            s.connect(("brain", 80))
            s.send(b"")
    """,
    "users:50051": """
        import grpc
        from users_pb2_grpc import UsersStub

        stub = UsersStub(grpc.insecure_channel("users:50051"))
        stub.Get(1)
    """,
    "reports/all": """
        import psycopg2
        psycopg2.connect("host=reports dbname=all").cursor().execute("select 1")
    """,
    "kafka:9092": """
        from confluent_kafka import Producer
        Producer({"bootstrap.servers": "kafka:9092"}).flush()
    """,
    "binance": """
        import ccxt
        ccxt.binance({"timeout": 5}).fetch_ticker("x")
    """,
    "warehouse:5439/dw": """
        import psycopg2
        from psycopg2.extras import execute_values

        def f(rows):
            connection = psycopg2.connect(host="warehouse", port=5439, dbname="dw")
            execute_values(connection.cursor(), "insert into x values %s", rows)
    """,
    "$HOOK": """
        import os
        import httpx

        async def f(text):
            async with httpx.AsyncClient() as client:
                await client.post(os.environ["HOOK"], json={"content": text})
    """,
    "queue": """
        from celery import Celery
        from celery.result import AsyncResult

        app = Celery("x", broker="redis://queue/0")

        def f(ident):
            return AsyncResult(ident, app=app).get(timeout=1)
    """,
    "zmq": """
        import zmq

        def f():
            s = zmq.Context().socket(zmq.DEALER)
            s.connect("tcp://a:1")
            s.connect("tcp://b:1")
            s.send(b"")
    """,
}


SAME = {
    ("a:9092", "aiokafka, confluent_kafka, kafka"): """
        from aiokafka import AIOKafkaProducer
        from confluent_kafka import Producer
        from kafka import KafkaConsumer, KafkaProducer

        producer = KafkaProducer(bootstrap_servers=["a:9092", "b:9092"])
        other = Producer({"bootstrap.servers": "a:9092,b:9092"})
        consumer = KafkaConsumer("orders", bootstrap_servers="a:9092")

        async def f():
            await AIOKafkaProducer(bootstrap_servers="a:9092,b:9092").start()
            producer.flush()
            other.flush()
            consumer.poll()
    """,
    ("cache", "celery, redis"): """
        import redis
        from celery import Celery

        app = Celery("jobs", broker="redis://cache:6379/0")
        cache = redis.Redis(host="cache", port=6379)

        @app.task
        def job(): ...

        @app.task(bind=True)
        def other(self): ...

        def f():
            job.delay()
            other.delay()
            app.send_task("job")
            cache.get("x")
    """,
    ("db:5433/app", "asyncpg, psycopg, sqlalchemy"): """
        import asyncpg
        import os
        import psycopg
        from sqlalchemy import create_engine

        engine = create_engine("postgresql+psycopg://me:secret@db:5433/app")

        async def f():
            await asyncpg.connect(host="db", port=int(os.getenv("DB_PORT", "5433")), database="app")
            psycopg.connect("host=db port=5433 dbname=app")
            engine.connect().execute(1)
    """,
    ("a", "motor, pymongo"): """
        from motor.motor_asyncio import AsyncIOMotorClient
        from pymongo import MongoClient

        one = MongoClient("mongodb://me:secret@a,b/app?replicaSet=x")
        two = AsyncIOMotorClient(["a:27017", "b:27017"])

        async def f():
            one.app.users.find_one()
            await two.get_database("app").users.find_one()
    """,
    ("gpu:11434", "httpx, ollama"): """
        import httpx
        import ollama

        def f():
            ollama.Client(host="http://gpu:11434").chat("m")
            httpx.get("http://gpu:11434/api/tags")
    """,
    ("shop.example", "httpx, requests"): """
        import httpx
        import requests

        def f():
            httpx.get("https://shop.example/a")
            requests.get("http://shop.example:80/b")
    """,
    ("$BROKER", "celery, redis"): """
        import os
        import redis
        from celery import Celery

        app = Celery("jobs", broker=os.environ["BROKER"])
        cache = redis.from_url(os.environ["BROKER"])

        def f():
            app.send_task("job")
            cache.get("x")
    """,
    ("cache:6380", "celery, redis"): """
        import redis
        from celery import Celery, shared_task
        from celery.result import AsyncResult

        app = Celery("jobs", broker="redis://cache:6380/0")
        cache = redis.Redis(**{"host": "cache", "port": 6380})

        @shared_task
        def job(): ...

        @shared_task(bind=True)
        def other(self): ...

        def f(ident):
            job.delay()
            other.delay().get(timeout=1)
            AsyncResult(ident).get(timeout=1)
            cache.get("x")
    """,
    ("db:5433/app", "psycopg, sqlalchemy"): """
        import psycopg
        from sqlalchemy import URL, create_engine

        url = URL.create("postgresql+psycopg", "me", host="db", port=5433, database="app")
        engine = create_engine(url)
        options = dict(host="db", port=5433, dbname="app")

        def f():
            psycopg.connect(**options)
            engine.connect().execute(1)
    """,
    ("git", "asyncio-subprocess, subprocess"): """
        import asyncio
        import subprocess

        async def f():
            subprocess.run(["git", "fetch"])
            await (await asyncio.create_subprocess_exec("git", "pull")).wait()
    """,
    ("dynamodb.eu-west-1", "boto3"): """
        import boto3

        table = boto3.resource("dynamodb", region_name="eu-west-1").Table("orders")
        users = boto3.resource("dynamodb").Table("users")
        client = boto3.Session(region_name="eu-west-1").client("dynamodb")

        def f():
            table.get_item(Key={})
            users.get_item(Key={})
            client.get_item(Key={})
    """,
    ("minio:9000", "boto3"): """
        import boto3

        s3 = boto3.resource("s3", endpoint_url="http://minio:9000")

        def f():
            s3.Bucket("reports").put_object(Key="a", Body="b")
    """,
}


@pytest.mark.parametrize(("name", "libraries"), SAME)
def test_what_stands_at_one_address_is_one_dependency(name: str, libraries: str) -> None:
    """By whichever libraries; a list of hosts is one cluster, by its first; of a service each region that is named."""
    [it] = advised(code=SAME[name, libraries]).dependencies
    assert (it.dependency.name, ", ".join(it.dependency.libraries)) == (name, libraries)
    assert f"by {libraries}" in as_text(advised(code=SAME[name, libraries]))


def test_what_a_function_makes_a_client_of_is_told_by_its_calls() -> None:
    """Each call of it says whom."""
    code = """
        import boto3
        import requests

        class Api:
            def get(self, session):
                return session.get(url="https://shop.example/x")

        def client(service, region):
            return boto3.client(service, region_name=region)

        def f(region):
            client("sts", region).get_caller_identity()
            client(service="s3", region="eu-west-1").list_buckets()
            Api().get(requests.Session())
    """
    names = [each.dependency.name for each in advised(code=code).dependencies]
    assert sorted(names) == ["s3.eu-west-1", "shop.example", "sts"]


def test_a_shared_task_is_of_the_one_app_of_a_tree() -> None:
    """Which finds its tasks by itself: no import leads from one to the other."""
    app = """
        from celery import Celery

        app = Celery("shop", broker="redis://cache:6380/0")
    """
    tasks = """
        from celery import shared_task

        @shared_task
        def job(): ...

        def f():
            job.delay()
    """
    [it] = advised(app=app, tasks=tasks).dependencies
    assert it.dependency.name == "cache:6380"


def test_a_shared_task_is_of_no_app_where_there_are_two() -> None:
    """Nothing says which of them it is sent by."""
    code = """
        from celery import Celery, shared_task

        one, two = Celery("a", broker="redis://a/0"), Celery("b", broker="redis://b/0")

        @shared_task
        def job(): ...

        def f():
            job.delay()
    """
    [it] = advised(code=code).dependencies
    assert it.dependency.name == "celery"


def test_a_url_of_parts_is_named_by_its_variable_where_that_is_all_that_is_known() -> None:
    """The host of a database."""
    code = """
        import os
        from sqlalchemy import URL, create_engine

        engine = create_engine(URL.create("postgresql", host=os.environ["DB_HOST"], database="app"))

        def f():
            engine.connect().execute(1)
    """
    [it] = advised(code=code).dependencies
    assert (it.dependency.name, it.dependency.variables) == ("$DB_HOST", ["DB_HOST"])


def test_servers_of_two_kinds_on_one_machine_are_two() -> None:
    """Their usual ports differ, and so do regions of a service."""
    code = """
        import boto3
        import psycopg
        import redis
        from pymongo import MongoClient

        psycopg.connect(host="localhost").execute("select 1")
        MongoClient("localhost").app.users.find_one()
        redis.Redis("localhost").get("x")
        boto3.client("sqs", region_name="eu-west-1").list_queues()
        boto3.client("sqs", region_name="us-east-1").list_queues()
        boto3.client("sqs").list_queues()
    """
    names = [each.dependency.name for each in advised(code=code).dependencies]
    assert sorted(names) == [*["localhost"] * 3, "sqs", "sqs.eu-west-1", "sqs.us-east-1"]


def test_what_a_resource_of_boto3_holds_is_asked_again_by_itself() -> None:
    """As its client is, unless its configuration says how often."""
    resource = 'import boto3\nfrom botocore.config import Config\nboto3.resource("s3"{}).Object("b", "k").get()\n'
    for config, retries in {
        "": True,
        ", config=Config(read_timeout=5)": True,
        ', config=Config(retries={"total_max_attempts": 1})': False,
    }.items():
        [it] = advised(code=resource.format(config)).dependencies
        assert it.why("retry").startswith("the client makes 1 call") is retries


@pytest.mark.parametrize("name", CONNECTED)
def test_a_client_talks_to_what_it_is_connected_to(name: str) -> None:
    """Later, through another client, by words in a text or a dict, by its class; to nothing known if to several."""
    assert {each.dependency.name for each in advised(code=CONNECTED[name]).dependencies} == {name}


def test_an_address_that_can_be_several_is_none() -> None:
    """What a function of one's own gives is not what any of its callers asked for."""
    found = advised(
        code="""
            import os
            import smtplib

            def read(name, default):
                return os.getenv(name, default)

            def f():
                smtplib.SMTP(read("MAIL", "mail.example"), 25)
                print(read("PROJECT", "default_project"))
        """
    )
    assert [each.dependency.name for each in found.dependencies] == ["smtplib"]


def test_services_on_one_machine_are_told_apart_by_their_ports() -> None:
    """A port that the scheme has anyway tells nothing."""
    code = "\n".join(f"requests.get('http://localhost{port}/x')" for port in ("", ":80", ":8001", ":8002"))
    names = sorted(each.dependency.name for each in advised(code=HTTP + code).dependencies)
    assert names == ["localhost", "localhost:8001", "localhost:8002"]


@pytest.mark.parametrize(
    ("code", "name", "place"),
    [
        ("import sqlite3\nsqlite3.connect(':memory:').execute('select 1')", ":memory:", "process"),
        ("import sqlite3\nsqlite3.connect('file:x?mode=memory', uri=True).execute('select 1')", ":memory:", "process"),
        ("import sqlite3\nsqlite3.connect('file:data/app.db?mode=ro', uri=True).execute('select 1')", "app.db", "file"),
        ("import os\nimport sqlite3\nsqlite3.connect(os.path.join(x(), 'a.db')).execute('select 1')", "a.db", "file"),
        ("import pathlib, sqlite3\nsqlite3.connect(pathlib.Path(x).with_name('a.db')).execute('')", "a.db", "file"),
        (
            SESSION,
            "app.db",
            "file",
        ),
        (
            ENGINE,
            ":memory:",
            "process",
        ),
    ],
)
def test_a_local_database_is_a_file_or_memory(code: str, name: str, place: str) -> None:
    """Neither is a candidate for a retry, a circuit breaker or a health check."""
    [it] = advised(code=code).dependencies
    assert (it.dependency.name, it.dependency.target.place) == (name, place)
    assert {"retry", "circuit breaker", "health check"}.isdisjoint(it.candidates)
    what = "what runs in this process" if place == "process" else "a file on this machine"
    assert it.why("circuit breaker") == f"{what} has no outage that callers could spare"


def test_what_is_connected_in_a_function_talks_to_what_its_caller_gave() -> None:
    """And to nothing known where a caller gave what the code does not say, whatever others gave."""
    pool = """
        import zmq

        def asking(endpoint):
            sock = zmq.Context.instance().socket(zmq.REQ)
            sock.connect(endpoint)
            return sock
    """
    code = """
        from pool import asking

        class Calls:
            def __init__(self, endpoints):
                self.voice = asking("tcp://voice:5563")
                self.others = {name: asking(endpoint) for name, endpoint in endpoints.items()}

            def speak(self):
                self.voice.send(b"1")

            def ask(self, name):
                self.others[name].send(b"2")
    """
    found = advised(pool=pool, code=code).dependencies
    assert {each.dependency.name: [one.call.line for one in each.dependency.found] for each in found} == {
        "voice:5563": [10],
        "zmq": [13],
    }


def test_a_name_that_a_server_is_asked_for_is_no_address_of_it() -> None:
    """A resource of a tool server has a URI of its own."""
    code = "from mcp import ClientSession\n\n\nasync def f(session: ClientSession):\n"
    [it] = advised(code=f"{code}    await session.read_resource('notes://shelf')\n").dependencies
    assert it.dependency.name == "mcp"


def test_a_service_of_one_library_is_no_region_of_another() -> None:
    """However their names begin; two libraries that are imported by one name have the names of their packages."""
    code = """
        from telegram import Bot
        from telegram.client import Telegram

        async def f(bot: Bot, client: Telegram):
            await bot.get_file("id")
            client.get_me().wait()
    """
    assert sorted(each.dependency.name for each in advised(code=code).dependencies) == ["python-telegram", "telegram"]
