"""Every page in a real browser: nothing fails, nothing comes from elsewhere, nothing is cut off."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser.conftest import ROOT, addresses

pytestmark = pytest.mark.browser
WIDTHS = (375, 1440)
SCHEMES = ("default", "slate")
STILL = """const style = document.createElement("style");
style.textContent = "* { transition: none !important; }";
document.head.append(style);"""  # colours on their way from one mode to the other are of neither
TERMS = (
    "MediaLayout", "xformers", "resampler", "IDEFICS", "tanh gate", "packed documents", "checkpoint", "RICES",
    "pixels", "direction next",
)  # fmt: skip


class _Links(HTMLParser):
    """The ids of a page, and where its links and pictures lead."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what is named and what is named by it."""
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.ids.add(value)
            if name in ("href", "src") and value:
                self.targets.append(value)


@pytest.fixture(scope="module")
def read(pages):
    """Ids and targets of each page, by its file."""
    found = {}
    for page in pages.rglob("*.html"):
        found[page] = _Links()
        found[page].feed(page.read_text())
    return found


def test_every_link_and_anchor_leads_somewhere(pages, read):
    """Links inside the site name files that are there, and anchors that stand in them."""
    broken = []
    for page, links in read.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            path = unquote(parts.path)
            there = page if not path else (pages / path.lstrip("/") if path.startswith("/") else page.parent / path)
            there = (there / "index.html" if there.is_dir() else there).resolve()
            if not there.exists() or (
                parts.fragment and there in read and unquote(parts.fragment) not in read[there].ids
            ):
                broken.append((str(page.relative_to(pages)), target))
    assert not [each for each in broken if not each[0].startswith("404")]


def test_nothing_is_asked_of_another_host(pages):
    """No script, style, font or picture stands elsewhere."""
    asked = re.compile(
        r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?(https?:)?//[^\s\"'>]+", re.IGNORECASE
    )
    own = re.compile(r'rel="?(canonical|edit|alternate)')
    found = [
        (str(page.relative_to(pages)), match[0])
        for page in pages.rglob("*.html") for match in asked.finditer(page.read_text()) if not own.search(match[0])
    ]  # fmt: skip
    styles = [path.name for path in pages.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", path.read_text())]
    assert not found and not styles


def test_every_page_opens_in_both_modes_and_widths(browser, site, pages):
    """No error in the console, no request to another host, each picture is there, and nothing scrolls sideways."""
    trouble = []
    for address in addresses(pages):
        for width in WIDTHS:
            browser.set_window_size(width, 900)
            browser.get(site + address)
            for scheme in SCHEMES:
                browser.execute_script("document.body.setAttribute('data-md-color-scheme', arguments[0])", scheme)
                trouble += [(address, width, scheme, each) for each in _seen(browser, site)]
    assert not trouble


def _seen(browser, site):
    """What is wrong with the page that is open."""
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        yield f"{wide} px scroll sideways"
    lacking = "return [...document.images].filter(i => i.loading !== 'lazy' && !i.naturalWidth).map(i => i.src)"
    yield from (f"{source} is not there" for source in browser.execute_script(lacking))
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    yield from (f"asks {name}" for name in asked if not name.startswith((site, "data:", "blob:")))
    yield from (entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE")


def test_the_first_page_is_one_screen(browser, site):
    """Curve and doors are seen without scrolling, side by side, on a desk's screen of 1440 by 900 pixels."""
    from selenium.webdriver.common.by import By

    browser.set_window_size(1440, 900 + browser.get_window_size()["height"] - _inner_height(browser))
    browser.get(site)
    doors = [each.rect for each in browser.find_elements(By.CSS_SELECTOR, ".grid.cards li")]
    curve = browser.find_element(By.CSS_SELECTOR, "figure svg").rect
    assert len(doors) == 3 and len({door["y"] for door in doors}) == 1
    assert max(each["y"] + each["height"] for each in [*doors, curve]) <= _inner_height(browser)


def _inner_height(browser):
    return browser.execute_script("return window.innerHeight")


@pytest.mark.parametrize("term", TERMS)
def test_the_search_finds(browser, site, term):
    """A term that readers look for has a result."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.set_window_size(1440, 900)
    browser.get(site)
    field = browser.find_element(By.CSS_SELECTOR, "[data-md-component=search-query]")
    browser.execute_script("document.querySelector('#__search').checked = true; arguments[0].focus()", field)
    field.send_keys(term)
    found = (By.CSS_SELECTOR, ".md-search-result__item")
    results = WebDriverWait(browser, 20).until(lambda open_: open_.find_elements(*found))
    said = [each.get_attribute("textContent").lower() for each in results]
    assert any(all(word in one for word in term.lower().split()) for one in said)


def test_code_is_copied(browser, site):
    """The button beside a block of code puts the code into the clipboard."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    grant = {"origin": site, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    browser.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.set_window_size(1440, 900)
    browser.get(site + "/how-to/put-a-block-into-your-vlm/")
    block = browser.find_element(By.CSS_SELECTOR, ".highlight")
    ActionChains(browser).move_to_element(block).perform()
    find = (By.CSS_SELECTOR, ".md-clipboard, .md-code__button")
    button = WebDriverWait(browser, 20).until(lambda _: block.find_element(*find))
    ActionChains(browser).move_to_element(button).click().perform()
    code = browser.find_element(By.CSS_SELECTOR, ".highlight code").get_attribute("textContent")
    read = "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))"
    copied = WebDriverWait(browser, 10).until(lambda open_: open_.execute_async_script(read).strip())
    assert copied == code.strip()


def test_pages_can_be_read_by_everyone(browser, site, pages):
    """No finding of WCAG 2 A or AA: contrast, names of controls, texts of pictures, the keyboard; in both modes."""
    script = (files("axe_core_python") / "axe.min.js").read_text()
    run = "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa']}).then(arguments[0])"
    browser.set_window_size(1440, 900)
    trouble = []
    for address in addresses(pages):
        browser.get(site + address)
        browser.execute_script(script + STILL)
        for scheme in SCHEMES:
            browser.execute_script("document.body.setAttribute('data-md-color-scheme', arguments[0])", scheme)
            found = browser.execute_async_script(run)["violations"]
            trouble += [(address, scheme, each["id"], _where(each)) for each in found]
    assert not trouble, json.dumps(trouble, indent=1)[:6000]


def _where(violation):
    return [node["html"][:120] for node in violation["nodes"][:3]]


def test_the_pages_are_those_of_the_menu(pages):
    """Each file of the documentation is a page."""
    sources = set((ROOT / "docs").rglob("*.md"))
    assert len(addresses(pages)) == len(sources)
