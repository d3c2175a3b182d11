"""A Celery application."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery.signals import worker_process_init

from tests.servers import broker, service

app = broker.worker(Path(os.environ["CELERY_FOLDER"]))

if "BUSY_PARENT" in os.environ:
    service.be_a_busy_parent()


@worker_process_init.connect
def _in_each_worker(**_: Any) -> None:
    service.monitor.start()


@app.task(name="work")
def work() -> str:
    return service.work()


@app.task(name="trip")
def trip() -> None:
    service.breaker.open()


@app.task(name="state")
def state() -> dict[str, Any]:
    return service.state()
