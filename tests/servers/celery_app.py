"""A Celery application with its broker and results in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_process_init

from tests.servers import service


def configured(folder: Path) -> Celery:
    for name in ("queue", "processed", "control", "results"):
        (folder / name).mkdir(exist_ok=True)
    celery = Celery("tests", broker="filesystem://", backend=f"file://{folder / 'results'}")
    celery.conf.update(
        broker_transport_options={
            "data_folder_in": str(folder / "queue"),
            "data_folder_out": str(folder / "queue"),
            "processed_folder": str(folder / "processed"),
            "control_folder": str(folder / "control"),
            "store_processed": False,
            "polling_interval": 0.05,
        },
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=False,
        worker_hijack_root_logger=False,
    )
    return celery


app = configured(Path(os.environ["CELERY_FOLDER"]))

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
