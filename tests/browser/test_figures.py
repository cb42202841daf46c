"""The figures, as a browser draws them: words within the drawing, large enough, in the colours of the page's mode."""

import re

import pytest

from docs.figures.svg import DARK, LIGHT
from tests.browser.conftest import ROOT

pytestmark = pytest.mark.browser
WIDTHS = (375, 1440)
MEASURE = """return [...document.querySelectorAll(".md-content svg[role=img]")].map(drawing => {
  const place = drawing.getBoundingClientRect();
  const words = [...drawing.querySelectorAll("text")].map(text => {
    const box = text.getBoundingClientRect();
    const inside = box.left >= place.left - 1 && box.right <= place.right + 1
      && box.top >= place.top - 1 && box.bottom <= place.bottom + 1;
    const size = parseFloat(getComputedStyle(text).fontSize) * place.width / drawing.viewBox.baseVal.width;
    return {said: text.textContent, inside, size};
  });
  return {id: drawing.id, wide: place.width, words, line: getComputedStyle(drawing).getPropertyValue("--line")};
})"""


def pages_with_figures():
    """Addresses of the pages that take a drawing in, also by way of another file."""
    docs = ROOT / "docs"
    shown = [page for page in docs.rglob("*.md") if re.search(r'<figure[^>]*>\n--8<-- "docs/assets/', page.read_text())]
    told = [f"/{page.relative_to(docs).with_suffix('')}/".removesuffix("index/") for page in shown]
    return sorted({*told, "/benchmarks/"})


@pytest.mark.parametrize("address", pages_with_figures())
def test_figures_can_be_read(browser, site, address):
    """On a phone and on a wide page no words of a figure are cut off or small, and its colours are of the mode."""
    for width in WIDTHS:
        screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(site + address)
        for scheme, colours in (("default", LIGHT), ("slate", DARK)):
            browser.execute_script("document.body.setAttribute('data-md-color-scheme', arguments[0])", scheme)
            figures = browser.execute_script(MEASURE)
            assert figures
            for figure in figures:
                trouble = [word for word in figure["words"] if not word["inside"] or word["size"] < 9.9]
                assert (figure["id"], figure["line"], trouble) == (figure["id"], colours["line"], [])
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
