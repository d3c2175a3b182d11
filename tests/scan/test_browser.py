"""The page of advice in a real browser, where there is one: it sorts, asks no network, and can be read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import textwrap
from html import unescape
from typing import Any

import pytest

from resilient_agents.scan.advice import advise
from resilient_agents.scan.advice.html import as_html
from tests.scan.small import AGENT, ORDERS, PRICES

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCHEMES = {"dark": 0, "light": 1}
"""As Chromium counts them."""

LOOK = """<script>
document.querySelectorAll("details").forEach(each => each.open = true);
const table = document.querySelector("table"), heads = [...table.querySelectorAll("th")];
const column = name => heads.findIndex(head => head.textContent === name);
const values = name => [...table.tBodies[0].rows].map(row => row.cells[column(name)].textContent);
const sorted = name => { heads[column(name)].click(); return values(name); };
const canvas = document.createElement("div");
canvas.style.background = "Canvas";
document.body.append(canvas);
const seen = {
  up: sorted("calls"), down: sorted("calls"), names: sorted("dependency"),
  asked: performance.getEntriesByType("resource").length,
  wide: document.documentElement.scrollWidth - innerWidth,
  back: getComputedStyle(canvas).backgroundColor,
  colors: [...new Set([...document.querySelectorAll("td, th, p, li, code, pre, h1, summary")]
    .map(each => getComputedStyle(each).color))],
};
const told = document.createElement("pre");
told.id = "told";
told.textContent = JSON.stringify(seen);
document.body.append(told);
</script>"""


@pytest.fixture(scope="module", params=SCHEMES)
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a browser of that color scheme makes of the page."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)} is on the path")
    folder = tmp_path_factory.mktemp("page")
    for name, source in (("prices", PRICES), ("agent", AGENT), ("orders", ORDERS)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    page = folder / "advice.html"
    page.write_text(as_html(advise([folder])).replace("</html>", f"{LOOK}</html>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]
    options += ["--window-size=1400,900", f"--user-data-dir={folder / 'profile'}"]
    options += [f"--blink-settings=preferredColorScheme={SCHEMES[request.param]}", page.as_uri()]
    try:
        done = subprocess.run([browser, *options], capture_output=True, text=True, timeout=100, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{browser} does not come to an end here")
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        pytest.skip(f"{browser} cannot run here: {done.stderr.strip()[-200:]}")
    return {"scheme": request.param, **json.loads(unescape(found[1]))}


def test_the_page_works_in_a_browser(seen: Any) -> None:
    """A click sorts up, the next one down, by number or by name; no network is asked; nothing sticks out."""
    assert seen["up"] == sorted(seen["up"], key=int)
    assert seen["down"] == sorted(seen["down"], key=int, reverse=True)
    assert seen["names"] == sorted(seen["names"])
    assert seen["asked"] == 0
    assert seen["wide"] <= 0


def test_all_of_it_can_be_read(seen: Any) -> None:
    """On a dark ground in dark, on a light one in light, with the contrast that WCAG 2 wants of text: 4.5."""
    back = brightness(seen["back"])
    assert (back < 0.1) is (seen["scheme"] == "dark")
    for color in seen["colors"]:
        dark, light = sorted((back, brightness(color)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, color


def brightness(color: str) -> float:
    """The relative luminance of WCAG 2."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", color)[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
