"""Advice as one page that needs no network: tables that sort by a click, readable in light and dark."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template

from resilient_agents.scan.advice.advise import Advice, Advised
from resilient_agents.scan.advice.policies import for_writes, names, writes_apart
from resilient_agents.scan.advice.score import FORMULA, HIGH, MEDIUM, TERMS
from resilient_agents.scan.advice.text import summary

__all__ = ["as_html"]

_PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>External calls and what would help</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { cursor: pointer; white-space: nowrap; }
th[aria-sort=ascending]::after { content: " ▲"; } th[aria-sort=descending]::after { content: " ▼"; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { font: 13px/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px; }
code { padding: .1rem .3rem; overflow-wrap: anywhere; } pre { padding: .7rem; overflow-x: auto; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.high { font-weight: 700; } .no { opacity: .7; }
</style>
<h1>External calls and what would help</h1>
<p>$summary</p>
<h2>Dependencies</h2>
$dependencies
$details
<h2>Files</h2>
$files
<h2>How the score is made</h2>
<p><code>$formula</code></p>
$terms
<script>
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), column = head.cellIndex, body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") === "ascending";
  const key = row => row.cells[column].textContent;
  const numbers = [...body.rows].every(row => !isNaN(key(row)));
  const rows = [...body.rows].sort((a, b) => numbers ? key(a) - key(b) : key(a).localeCompare(key(b)));
  if (down) rows.reverse();
  for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
});
</script>
</html>
""")


COUNTS = ("calls", "for ever", "in loops", "async", "for what comes", "protected")
"""Heads of the figures of a dependency."""


def as_html(advice: Advice) -> str:
    policies = {id(each): name for name, each in names(advice).items()}
    return _PAGE.substitute(
        summary="<br>\n".join(escape(line) for line in summary(advice)),
        dependencies=_table(
            ("dependency", "kind", "priority", "score", "files", *COUNTS),
            (_row(each) for each in advice.dependencies),
        ),
        details="\n".join(_details(each, policies.get(id(each))) for each in advice.dependencies),
        files=_table(
            ("file", "priority", "score", "calls", "candidates"),
            ((f.path, f.priority, f.score.value, f.calls, ", ".join(f.candidates)) for f in advice.files),
        ),
        formula=escape(f"{FORMULA}; high from {HIGH}, medium from {MEDIUM}"),
        terms=_table(("term", "weight", "why"), ((name, weight, why) for name, (weight, why) in TERMS.items())),
    )


def _row(each: Advised) -> tuple[str | int, ...]:
    it = each.dependency
    return (it.name, it.target.kind, each.score.priority, each.score.value, len(it.files), *each.figures.values())


def _table(heads: Iterable[str], rows: Iterable[tuple[str | int, ...]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def _cell(value: str | int) -> str:
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td{' class=high' if value == 'high' else ''}>{escape(value)}</td>"


def _details(each: Advised, policy: str | None) -> str:
    points = "\n".join(
        f"<li{'' if v.candidate else ' class=no'}>{'+' if v.candidate else '-'} <b>{escape(v.pattern)}</b>: "
        f"{escape(v.why)}</li>"
        for v in each.verdicts
    )
    snippet = "" if policy is None else f"<pre>{escape(_snippet(each, policy))}</pre>"
    return f"<details><summary>{escape(each.dependency.name)}</summary>\n<ul>{points}</ul>{snippet}</details>"


def _snippet(each: Advised, policy: str) -> str:
    first = each.dependency.unprotected or each.dependency.found
    call = first[0].call
    name = for_writes(policy) if each.dependency.only_once(first[0]) and writes_apart(each) else policy
    kind = "async def" if call.is_async else "def"
    return f'# {call.path}:{call.line}\n@resilient("{name}")\n{kind} {call.function or "call"}(...):\n    ...'
