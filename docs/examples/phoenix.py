"""Takes the pictures of the documentation from a real Phoenix.

    python -m venv /tmp/phoenix && /tmp/phoenix/bin/pip install arize-phoenix
    apt-get install chromium
    python docs/examples/phoenix.py /tmp/phoenix/bin/phoenix docs/pages

starts Phoenix, lets `slow_calls.py` export its spans there, reads them back over Phoenix's API, prints their trees, and
takes a picture of each into the folder, if one is named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PORT = 6006
URL = f"http://127.0.0.1:{PORT}"
PROJECT = "agents"
CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# What a picture is called, by the name of its policy.
PICTURES = {
    "policy 1 told to wait": "phoenix-retry-after.png",
    "policy 2 backing off": "phoenix-backoff.png",
    "policy 3 in line": "phoenix-bulkhead.png",
    "policy 4 hanging": "phoenix-timeout.png",
    "policy 5 retried inside": "phoenix-inner-retries.png",
}


def get(path: str) -> Any:
    with urllib.request.urlopen(URL + path, timeout=10) as answer:
        return json.load(answer)


def until(true: Any, patience: float = 120.0) -> Any:
    """What `true` gives once it gives something."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        try:
            if found := true():
                return found
        except OSError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"nothing in {patience:g} s")


def spans() -> list[dict[str, Any]]:
    """All spans that arrived, as Phoenix gives them."""
    found: list[dict[str, Any]] = get(f"/v1/projects/{PROJECT}/spans?limit=1000")["data"]
    roots = {span["name"] for span in found if span["parent_id"] is None}
    return found if roots >= set(PICTURES) else []


def lines(found: list[dict[str, Any]], parent: str | None, indent: str = "") -> Iterator[str]:
    """The tree below a span."""
    for span in sorted(found, key=lambda span: span["start_time"]):
        if span["parent_id"] == parent:
            message = f"  {span['status_message']}" if span["status_message"] else ""
            yield f"{indent}{span['name']}  [{span['span_kind']}]{message}"
            yield from lines(found, span["context"]["span_id"], indent + "  ")


def picture(trace_id: str, file: Path) -> None:
    """What a browser shows of a trace."""
    project = get(f"/v1/projects/{PROJECT}")["data"]["id"]
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *CHROMIUM,
                f"--user-data-dir={profile}",
                "--window-size=1600,560",
                "--virtual-time-budget=20000",
                f"--screenshot={file}",
                f"{URL}/projects/{project}/traces/{trace_id}",
            ],
            check=True,
            timeout=120,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def main(phoenix: str, folder: Path | None) -> None:
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as home:
        mine = {**os.environ, "PHOENIX_WORKING_DIR": home, "PHOENIX_PORT": str(PORT), "PHOENIX_HOST": "127.0.0.1"}
        server = subprocess.Popen([phoenix, "serve"], env=mine, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until(lambda: get("/v1/projects"))
            told = {
                "OTEL_EXPORTER_OTLP_ENDPOINT": URL,
                "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={PROJECT}",
            }
            subprocess.run([sys.executable, str(here / "slow_calls.py")], env={**os.environ, **told}, check=True)
            found = until(spans)
            print("\n".join(lines(found, None)))
            for span in found:
                if folder is not None and span["name"] in PICTURES:
                    picture(span["context"]["trace_id"], folder / PICTURES[span["name"]])
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)
