"""What the table says, held against the oldest and the newest version of each library that it speaks of.

`python -m tests.scan.libraries [oldest|newest …]` makes an environment for each, which is thrown away afterwards, and
runs `test_knowledge.py` in it. Left out are libraries that bring a gigabyte with them (sentence-transformers, whisper,
litellm) or are compiled where they are installed (llama-cpp-python), and anyio, which our own metadata pins.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["OLDEST"]

OLDEST = {
    "PyGithub": "2.1.1",
    "aio-pika": "9.0.0",
    "aiohttp": "3.9.0",
    "aiokafka": "0.10.0",
    "aiomqtt": "2.0.0",
    "aiomysql": "0.2.0",
    "aiopg": "1.4.0",
    "aiosmtplib": "3.0.0",
    "aiosqlite": "0.19.0",
    "anthropic": "0.40.0",
    "arxiv": "2.0.0",
    "asyncpg": "0.29.0",
    "atlassian-python-api": "3.41.0",
    "boto3": "1.34.0",
    "cassandra-driver": "3.29.0",
    "ccxt": "4.2.0",
    "celery": "5.3.0",
    "clickhouse-connect": "0.7.0",
    "confluent-kafka": "2.3.0",
    "databases": "0.8.0",
    "dbutils": "3.0.3",
    "ddgs": "9.0.0",
    "discord.py": "2.3.0",
    "django": "4.2",
    "docker": "7.0.0",
    "dramatiq": "1.15.0",
    "elasticsearch": "8.11.0",
    "google-cloud-bigquery": "3.17.0",
    "google-cloud-pubsub": "2.18.0",
    "google-cloud-storage": "2.14.0",
    "google-genai": "1.0.0",
    "google-generativeai": "0.7.0",
    "groq": "0.5.0",
    "grpcio": "1.60.0",
    "gspread": "6.0.0",
    "httpx": "0.25.0",
    "httpx-sse": "0.4.0",
    "hvac": "2.0.0",
    "imapclient": "3.0.0",
    "influxdb-client": "1.38.0",
    "jira": "3.5.0",
    "kafka-python": "2.1.0",
    "kombu": "5.3.0",
    "kubernetes": "28.1.0",
    "langchain-core": "0.2.0",
    "ldap3": "2.9.1",
    "matrix-nio": "0.24.0",
    "mcp": "1.2.0",
    "minio": "7.2.0",
    "motor": "3.3.0",
    "mysql-connector-python": "8.3.0",
    "nats-py": "2.6.0",
    "notion-client": "2.0.0",
    "ollama": "0.2.0",
    "onnxruntime": "1.17.0",
    "openai": "1.30.0",
    "oracledb": "2.0.0",
    "paho-mqtt": "2.0.0",
    "paramiko": "3.4.0",
    "peewee": "3.17.0",
    "pika": "1.3.0",
    "playwright": "1.40.0",
    "praw": "7.7.0",
    "psutil": "5.9.0",
    "psycopg": "3.1.0",
    "psycopg-pool": "3.1.0",
    "psycopg2-binary": "2.9.9",
    "pulsar-client": "3.5.0",
    "pymongo": "4.5.0",
    "pymssql": "2.3.0",
    "pymysql": "1.1.0",
    "pyodbc": "5.0.0",
    "pyrogram": "2.0.106",
    "pyserial": "3.5",
    "pytelegrambotapi": "4.14.0",
    "python-gitlab": "4.0.0",
    "python-kasa": "0.6.0",
    "python-socketio": "5.10.0",
    "python-telegram-bot": "20.6",
    "pyzmq": "25.1.0",
    "qdrant-client": "1.7.0",
    "redis": "5.0.0",
    "requests": "2.31.0",
    "rq": "1.15.0",
    "selenium": "4.15.0",
    "slack_sdk": "3.26.0",
    "snowflake-connector-python": "3.6.0",
    "spotipy": "2.23.0",
    "sqlalchemy": "2.0.0",
    "starlette": "0.27.0",
    "tavily-python": "0.5.0",
    "telethon": "1.34.0",
    "trio": "0.23.0",
    "tweepy": "4.14.0",
    "twilio": "9.0.0",
    "urllib3": "2.0.0",
    "valkey": "6.0.0",
    "websocket-client": "1.6.0",
    "websockets": "12.0",
    "zeep": "4.2.1",
}
"""By distribution; what comes after is what the table is about."""
TEST = Path(__file__).with_name("test_knowledge.py")


def _main(arguments: list[str]) -> int:
    failed = 0
    for which in arguments or ["oldest", "newest"]:
        wanted = [f"{name}=={version}" if which == "oldest" else name for name, version in OLDEST.items()]
        with tempfile.TemporaryDirectory() as folder:
            python = str(Path(folder, "bin", "python"))
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            subprocess.run([*install, "-e", f"{TEST.parents[2]}[scan]", "pytest"], check=True)
            for each in wanted:  # one at a time: libraries disagree about what they need
                if subprocess.run([*install, "--upgrade", each], check=False).returncode:
                    sys.stdout.write(f"{each} could not be installed\n")
            command = [
                python,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                "--noconftest",
                "-o",
                "addopts=",
                "-W",
                "ignore",
                str(TEST),
            ]
            sys.stdout.write(f"{which}:\n")
            sys.stdout.flush()
            failed |= subprocess.run(command, check=False, cwd=TEST.parents[2]).returncode
    return failed


if __name__ == "__main__":
    raise SystemExit(_main(sys.argv[1:]))
