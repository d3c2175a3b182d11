"""A Celery broker and its results in a folder.

The two ends share no file that one may read while the other writes it: the client posts into a folder of its own, from
where each message is moved, whole, into the queue that the worker reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import Celery

__all__ = ["Client", "worker"]


def worker(folder: Path) -> Celery:
    """The worker's end."""
    return _configured(folder, "queue", "control", worker_hijack_root_logger=False, worker_prefetch_multiplier=1)


class Client:
    """The end of whoever wants something done."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._celery = _configured(folder, "outbox", "client")
        (folder / "queue").mkdir()

    def run(self, task: str, seconds: float) -> Any:
        """The result of this task."""
        result = self._celery.send_task(task)
        for message in (self._folder / "outbox").iterdir():
            message.rename(self._folder / "queue" / message.name)
        return result.get(timeout=seconds, interval=0.02)

    def close(self) -> None:
        self._celery.close()


def _configured(folder: Path, data: str, control: str, **options: Any) -> Celery:
    for name in (data, control, "processed", "results"):
        (folder / name).mkdir(exist_ok=True)
    celery = Celery("tests", broker="filesystem://", backend=f"file://{folder / 'results'}", set_as_current=False)
    celery.conf.update(
        broker_transport_options={
            "data_folder_in": str(folder / data),
            "data_folder_out": str(folder / data),
            "processed_folder": str(folder / "processed"),
            "control_folder": str(folder / control),
            "store_processed": True,
            "polling_interval": 0.02,
        },
        broker_connection_retry_on_startup=False,
        **options,
    )
    return celery
