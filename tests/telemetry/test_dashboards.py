"""The dashboard, the alert rules and the queries of the docs, against series scraped from real policies.

That each query selects and groups by what exists is always checked. Where a Prometheus is installed, it also evaluates
them all.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient_agents.telemetry import metric_table, names
from tests.telemetry.prometheus import MISSING, Prometheus, firing, promtool
from tests.telemetry.promql import Query, parse, problems
from tests.telemetry.traffic import DOWN, END, HEALTHY, Series, scrape_traffic

DOCS = Path(__file__).resolve().parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "dashboards" / "resilient-agents.json").read_text(encoding="utf-8"))
RULES = DOCS / "dashboards" / "alerts.yml"
PAGE = (DOCS / "pages" / "telemetry.md").read_text(encoding="utf-8")

VARIABLES: dict[str, str] = {
    variable["name"]: variable["query"]["query"]
    for variable in DASHBOARD["templating"]["list"]
    if variable["type"] == "query"
}
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}
RULE = re.compile(r"- alert: (?P<name>\w+)\n +expr: \|\n(?P<expr>(?: {10,}.*\n)+)")
ALERTS = {found["name"]: found["expr"] for found in RULE.finditer(RULES.read_text(encoding="utf-8"))}
FIGURES = re.findall(r"```promql\n(.*?)```", PAGE, re.DOTALL)
EVERYTHING = {
    **QUERIES,
    **ALERTS,
    **{f"docs {number}": expression for number, expression in enumerate(FIGURES, 1)},
}

# Earlier ones write the values of one label under the name of another where not all points of a metric have the same
# labels.
if tuple(map(int, re.findall(r"\d+", importlib.metadata.version("opentelemetry-exporter-prometheus"))[:2])) < (0, 52):
    pytest.skip("opentelemetry-exporter-prometheus before 0.52b0 mixes up labels", allow_module_level=True)

with_prometheus = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture(scope="module")
def scraped() -> list[Series]:
    return scrape_traffic()


@pytest.fixture(scope="module")
def prometheus(scraped: list[Series], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with Prometheus.over(scraped, tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def plain(expression: str) -> str:
    """What Grafana sends when all is chosen."""
    for variable in VARIABLES:
        expression = expression.replace(f"${variable}", ".*")
    return expression.replace("$__rate_interval", "1m").replace("$__range", "8m")


# ------------------------------------------------------------------------------------- against what was scraped, always


def test_the_traffic_touches_every_metric(scraped: list[Series]) -> None:
    """The data that queries are checked against has every metric of the table, from real strategies."""
    suffix = {"counter": "_total", "histogram": "_bucket", "gauge": ""}
    expected = {
        metric.name.replace(".", "_") + ("_seconds" if metric.unit == "s" else "") + suffix[metric.kind]
        for metric in metric_table.METRICS
    }
    assert expected <= {series.name for series in scraped}


@pytest.mark.parametrize("name", EVERYTHING)
def test_each_query_asks_for_what_there_is(name: str, scraped: list[Series]) -> None:
    """Metrics, labels and values that a query names are in the scraped data, and each selector finds something."""
    query = parse(EVERYTHING[name])
    assert query.selectors
    assert list(problems(query, scraped)) == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_shadow_breakers_are_told_apart(name: str) -> None:
    """Where a series may be a shadow breaker's, the query says which it means."""
    marked = {
        metric.name.replace(".", "_") + suffix
        for metric in metric_table.METRICS
        if names.SHADOW in metric.attributes
        for suffix in ("", "_total")
    }
    shadow = names.SHADOW.replace(".", "_")
    for selector in parse(EVERYTHING[name]).selectors:
        only_budgets = ("resilient_agents_strategy", "=", "retry_budget") in selector.matchers  # which have no shadow
        if selector.metric in marked and not only_budgets:
            assert shadow in {label for label, _, _ in selector.matchers}, selector


@pytest.mark.parametrize("name", QUERIES)
def test_each_panel_follows_the_variables(name: str) -> None:
    """What is chosen at the top of the dashboard holds for every query: the instance, and the policy if it has one."""
    policies = {metric.name.replace(".", "_") for metric in metric_table.METRICS if names.POLICY in metric.attributes}
    for selector in parse(QUERIES[name]).selectors:
        wanted = {"job", "instance"}
        if re.sub(r"_seconds.*|_total", "", selector.metric) in policies:
            wanted.add("resilient_agents_policy")
        assert wanted <= {label for label, _, _ in selector.matchers}, selector


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_name_labels_that_remain(panel: dict[str, Any]) -> None:
    """A legend is made of labels by which its query groups."""
    for target in panel["targets"]:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= parse(target["expr"]).labels


def test_variables_offer_what_there_is(scraped: list[Series]) -> None:
    """The variables of the dashboard are read from a metric that exists, and all that queries use are defined."""
    for query in VARIABLES.values():
        found = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
        assert found
        assert list(problems(Query(parse(found[1]).selectors, {found[2]}), scraped)) == []
    used = {name for query in [*QUERIES.values(), *VARIABLES.values()] for name in re.findall(r"\$(\w+)", query)}
    assert used == {*VARIABLES, "__rate_interval", "__range"}


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids of their own, lie beside one another, and ask the data source that is chosen."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    sources = [owner["datasource"] for panel in PANELS for owner in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert DASHBOARD["templating"]["list"][0]["name"] == "datasource"


def test_all_rules_were_read() -> None:
    """No alert escapes these tests for being written in another way."""
    assert len(ALERTS) == RULES.read_text(encoding="utf-8").count("alert:") == 5


def test_the_docs_have_the_three_figures() -> None:
    """The page has a query for each of the three figures."""
    assert len(FIGURES) == 3


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sum(rate(resilient_agents_attempt_total[5m]))", "no metric resilient_agents_attempt_total"),
        ('resilient_agents_attempts_total{outcome="success"}', "resilient_agents_attempts_total has no label outcome"),
        (
            'resilient_agents_attempts_total{resilient_agents_outcome=~"success|failed"}',
            'resilient_agents_attempts_total has no resilient_agents_outcome="failed"',
        ),
        (
            "sum by (strategy) (resilient_agents_attempts_total)",
            "nothing selected has the label strategy to group by",
        ),
        (
            'resilient_agents_attempts_total{resilient_agents_outcome="success", error_type="timeout"}',
            'nothing matches resilient_agents_attempts_total{resilient_agents_outcome="success", error_type="timeout"}',
        ),
    ],
)
def test_a_wrong_query_is_found(expression: str, problem: str, scraped: list[Series]) -> None:
    """A misspelt metric, label, value or grouping, and a combination that never occurs, are problems."""
    assert list(problems(parse(expression), scraped)) == [problem]


@pytest.mark.parametrize("expression", ["sums(resilient_agents_attempts_total)", "a ? b", "a{b=c}"])
def test_what_cannot_be_read_is_no_query(expression: str) -> None:
    """An unknown function or sign is not passed over."""
    with pytest.raises(ValueError):
        parse(expression)


# ---------------------------------------------------------------------------------- by Prometheus, where there is one


@with_prometheus
@pytest.mark.parametrize("name", QUERIES)
def test_prometheus_has_data_for_each_panel(name: str, prometheus: Prometheus) -> None:
    """Each query of the dashboard returns numbers for a time of trouble."""
    found = prometheus.query(plain(QUERIES[name]), DOWN)
    assert found
    assert any(math.isfinite(value) for _, value in found)


@with_prometheus
def test_prometheus_offers_values_for_the_variables(prometheus: Prometheus) -> None:
    """The variables list the instance and the policies."""
    found = {
        name: prometheus.label_values(query.removesuffix(")").rpartition(", ")[2], plain(query[13:].rpartition(",")[0]))
        for name, query in VARIABLES.items()
    }
    assert found == {
        "job": ["agents"],
        "instance": ["agents:9464"],
        "policy": ["chat", "embed", "report", "search", "stream", "tool"],
    }


@with_prometheus
def test_prometheus_computes_the_three_figures(prometheus: Prometheus) -> None:
    """From these metrics alone: 99.9 % of operations succeeded, 12 % of attempts failed, retries cost 340 ms at p99."""
    chat = 'resilient_agents_policy="chat"'
    figures: list[float] = []
    for expression in FIGURES:
        assert chat in expression
        ((_, value),) = prometheus.query(expression, HEALTHY)
        figures.append(value)
    succeeded, failed, delay = figures
    assert f"{succeeded:.1%}" == "99.9%"
    assert f"{failed:.0%}" == "12%"
    assert delay == pytest.approx(0.34, abs=0.005)


@with_prometheus
def test_the_state_of_circuits_can_be_drawn(prometheus: Prometheus) -> None:
    """The timeline of circuits shows 0 closed, 1 half-open, 2 open, and no shadow breaker."""
    (query,) = (query for name, query in QUERIES.items() if name.startswith("State of circuits"))
    states = [prometheus.query(plain(query), at) for at in (HEALTHY, DOWN, END)]
    openai = {"resilient_agents_circuit_breaker": "openai"}
    assert states == [[(openai, 0.0)], [(openai, 2.0)], [(openai, 0.0)]]


@with_prometheus
def test_the_first_transition_is_counted(prometheus: Prometheus) -> None:
    """A transition whose series begins with it is in the panel; by `increase` alone it would not be."""
    (query,) = (query for name, query in QUERIES.items() if name.startswith("Transitions of circuits"))
    closing = {
        "resilient_agents_circuit_breaker": "openai",
        "resilient_agents_from": "closed",
        "resilient_agents_to": "open",
    }
    found = prometheus.query(plain(query), HEALTHY + 30)
    assert (closing, 1.0) in found


@with_prometheus
def test_promtool_accepts_the_rules() -> None:
    """`promtool check rules` finds nothing wrong."""
    assert "SUCCESS: 5 rules found" in promtool("check", "rules", str(RULES))


@with_prometheus
def test_alerts_fire_in_an_outage_only(scraped: list[Series], tmp_path: Path) -> None:
    """While all is well no alert fires; in a long outage each of them does; afterwards they stop."""
    needed = {selector.metric for expression in ALERTS.values() for selector in parse(expression).selectors}
    series = [each for each in scraped if each.name in needed]
    firing(RULES, series, {HEALTHY: set(), DOWN: set(ALERTS), END: set()}, tmp_path)
