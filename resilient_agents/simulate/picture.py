"""A simulation as a picture, SVG or PNG, in one self-contained file. Needs matplotlib (extra `simulate`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resilient_agents.simulate.result import Result

__all__ = ["draw"]

_HEIGHT = 2.0
_COLOURS = {"offered": "#4a5568", "sent": "#2b6cb0", "errors": "#c53030", "good": "#2f855a", "open": "#c05621"}


def draw(results: Mapping[str, Result], path: Path, *, title: str) -> None:
    """Write `path`, whose ending says which kind. Same results, same bytes.

    Raises ImportError without matplotlib, ValueError for another ending, OSError where it cannot be written.
    """
    if path.suffix not in (".svg", ".png"):
        raise ValueError(f"a picture is an .svg or a .png, got {path.name}")
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot, which keeps every figure and may open windows

    with matplotlib.rc_context({"svg.hashsalt": "resilient-agents", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(results) + 1.2, 4 * _HEIGHT), layout="constrained")
        grid: Any = figure.subplots(4, len(results), sharex=True, sharey="row", squeeze=False)
        for column, (name, result) in enumerate(results.items()):
            _column(grid[:, column], name, result)
        figure.suptitle(title)
        metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, dpi=110, metadata=metadata)


def _column(axes: Sequence[Any], name: str, result: Result) -> None:
    series = result.series
    times = [(step + 1) * series.step for step in range(len(series))]
    load, success, circuits, queues = axes
    load.set_title(name)
    load.plot(times, _rates(series.offered, series.step), color=_COLOURS["offered"], label="calls offered")
    load.plot(times, _rates(series.sent, series.step), color=_COLOURS["sent"], label="requests sent")
    load.plot(times, _rates(series.errors, series.step), color=_COLOURS["errors"], label="errors answered")
    load.set_ylabel("a second")
    success.plot(times, [100 * share for share in series.success()], color=_COLOURS["good"], label="calls that succeed")
    success.set_ylabel("%")
    success.set_ylim(-5, 105)
    circuits.fill_between(
        times,
        [100 * share for share in series.open],
        color=_COLOURS["open"],
        step="pre",
        alpha=0.7,
        label="processes with a circuit not closed",
    )
    circuits.set_ylabel("%")
    circuits.set_ylim(-5, 105)
    queues.plot(times, series.waiting, color=_COLOURS["errors"], label="queue at the dependency")
    queues.plot(times, series.in_use, color=_COLOURS["sent"], label="slots in use")
    queues.set_xlabel("seconds")
    for each in axes:
        each.grid(alpha=0.3)
        each.legend(loc="upper right", frameon=False)


def _rates(values: Sequence[int], step: float) -> list[float]:
    return [value / step for value in values]
