"""Pages of the web to documents, beside extractors of text, a naive walk, and the parser alone."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.case import OURS, Bar, Case, Contender
from flamingo_blocks.data import ImageSegment, InterleavedDocument
from flamingo_blocks.data.filters import GopherQuality, GopherRepetition
from flamingo_blocks.data.html import extract_page

URL = "https://ex.com/stories/page.html"
WORDS = (
    "the of and to in that it was with for his had on at by which have be from this or but not they she an were there "
    "house river garden winter morning letter captain village road window people"
).split()
PACKAGES = {"trafilatura": ("trafilatura",), "beautifulsoup": ("bs4", "lxml"), "parser": ("selectolax",)}
CHECK_SEED = 1


def cases(device: str, dtype: str, *, tiny: bool = False) -> list[Case]:
    """Articles with captioned images, on one core of a CPU; and the text filters on their texts."""
    if device != "cpu" or dtype != "float32" or _missing("parser") is not None:
        return []
    number = 1 if tiny else 20
    return [
        Case(
            suite="pages", name="pages/extract", sizes={"pages": number}, device=device, dtype=dtype,
            prepare=lambda: _extractors(number), check=_check_pages,
            bar=(
                Bar("at least 6x trafilatura, fast and with images", "trafilatura", 6.0, "faster_by"),
                Bar("at least 8x a naive walk over BeautifulSoup's tree", "beautifulsoup", 8.0, "faster_by"),
                Bar("at most 7x the parser alone", "parser", 7.0, "at_most"),
            ),
        ),
        Case(
            suite="pages", name="pages/gopher", sizes={"documents": number}, device=device, dtype=dtype,
            prepare=lambda: _filters(number), check=_check_filters,
        ),
    ]  # fmt: skip


@dataclass
class Article:
    """A page as it is written, and what stands on it."""

    html: str
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


def write_article(seed: int) -> Article:
    """A page as a common system for blogs writes it: menu, figures with captions and sizes, sidebar, scripts.

    Args:
        seed: Pages of different seeds differ in length and in every word.
    """
    draw = Random(seed)  # noqa: S311 - no secret

    def words(number: int) -> str:
        return " ".join(draw.choices(WORDS, k=number))

    menu = "".join(f"<li class='menu-item'><a href='/{k}'>{words(2)}</a></li>" for k in range(30))
    found = Article("")
    body = []
    for k in range(draw.randrange(30, 90)):
        bold, link = words(2), words(2)
        before, between, after = words(20), words(20), words(15)
        body.append(f"<p class='par'>{before} <b>{bold}</b> {between} <a href='/l{k}'>{link}</a> {after}</p>")
        found.texts.append(f"{before} {bold} {between} {link} {after}")
        if k % 4 != 3:
            name, caption = f"/uploads/2020/{seed}-{k}", words(8)
            body.append(
                f"<figure class='wp-block-image size-large'><a href='{name}-big.jpg'><img src='{name}.jpg' "
                f"srcset='{name}-300.jpg 300w, {name}-1024.jpg 1024w' width='640' height='480' alt='{words(4)}' "
                f"class='wp-image-{k}' loading='lazy'></a><figcaption>{caption}</figcaption></figure>"
            )
            found.images.append(f"https://ex.com{name}.jpg")
            found.texts.append(caption)
        else:
            items = [words(8) for _ in range(5)]
            body.append(f"<h2>{words(4)}</h2>\n<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>")
            found.texts += items
    style, script = "p{margin:0}" * 200, "var x='<div>'+1;" * 200
    side = f"<div class='sidebar widget-area'>{'<div class=w><span>x</span></div>' * 40}</div>"
    found.html = (
        f"<!doctype html><html><head><title>{words(5)}</title><meta charset='utf-8'><style>{style}</style>"
        f"<script>{script}</script></head><body class='home single'><nav><ul>{menu}</ul></nav><div class='content'>"
        f"<article>{chr(10).join(body)}</article>{side}</div><footer>{words(30)}</footer></body></html>"
    )
    return found


@dataclass
class _Pages:
    """Pages that are written anew before every call."""

    number: int
    articles: list[Article] = field(default_factory=list)

    def fresh(self, seed: int) -> None:
        self.articles = [write_article(seed * self.number + k) for k in range(self.number)]


def _extractors(number: int) -> list[Contender]:
    pages = _Pages(number)
    found = [Contender(OURS, lambda: [extract_page(page.html, url=URL) for page in pages.articles], pages.fresh)]
    for name, make in _OTHERS.items():
        if (why := _missing(name)) is not None:
            found.append(Contender.left_out(name, why))
            continue
        one = make()
        run = _on_all(one, pages)
        found.append(Contender(name, run, pages.fresh, same_work=name != "parser"))
    return found


def _on_all(one: Callable[[str], Any], pages: _Pages) -> Callable[[], list[Any]]:
    return lambda: [one(page.html) for page in pages.articles]


def _trafilatura() -> Callable[[str], Any]:
    extract = importlib.import_module("trafilatura").extract
    return lambda html: extract(html, include_images=True, fast=True, url=URL)


def _naive_walk() -> Callable[[str], Any]:
    """Every text and every image in order, without one rule."""
    soup = importlib.import_module("bs4").BeautifulSoup

    def walk(html: str) -> list[str]:
        parts = []
        for node in soup(html, "lxml").descendants:
            if node.name is None:
                parts.append(str(node))
            elif node.name == "img":
                parts.append(str(node.get("src")))
        return parts

    return walk


def _parser() -> Callable[[str], Any]:
    parse: Callable[[str], Any] = importlib.import_module("selectolax.lexbor").LexborHTMLParser
    return parse


_OTHERS = {"trafilatura": _trafilatura, "beautifulsoup": _naive_walk, "parser": _parser}


def _missing(name: str) -> str | None:
    absent = [package for package in PACKAGES[name] if importlib.util.find_spec(package) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def _check_pages(contenders: list[Contender]) -> None:
    """Ours has every image and every text of the articles, in order; the peers have text at all."""
    for contender in contenders:
        contender.fresh(CHECK_SEED)
        results = contender.run()
        if contender.name == OURS:
            first = write_article(CHECK_SEED * len(results))
            document = results[0]
            if not isinstance(document, InterleavedDocument):
                raise AssertionError(f"the page was dropped: {document}")
            images = [item.url for item in document.media if isinstance(item, ImageSegment)]
            if images != first.images:
                raise AssertionError(f"{len(images)} images were found of {len(first.images)}, or in another order")
            place = 0
            for text in first.texts:
                place = document.text.find(text, place) + 1
                if not place:
                    raise AssertionError(f"the text {text!r} is missing, or not in its place")
        elif contender.name != "parser" and not all(results):
            raise AssertionError(f"{contender.name} found nothing on a page")


def _filters(number: int) -> list[Contender]:
    """Both of Gopher's filters on texts of five thousand characters, beside splitting them into words."""
    keep, once = GopherQuality(), GopherRepetition()
    texts: list[str] = []

    def fresh(seed: int) -> None:
        articles = (write_article(seed * number + k) for k in range(number))
        texts[:] = ["\n\n".join(article.texts)[:5000] for article in articles]

    return [
        Contender(OURS, lambda: [(keep.judge(text), once.judge(text)) for text in texts], fresh),
        Contender("split", lambda: [text.split() for text in texts], fresh, same_work=False),
    ]


def _check_filters(contenders: list[Contender]) -> None:
    """What says the same twice is dropped for it, whatever else is said of the text."""
    contenders[0].fresh(CHECK_SEED)
    if any(quality is not None for quality, _ in contenders[0].run()):
        raise AssertionError("prose was called none")
    text = "\n\n".join(write_article(CHECK_SEED).texts)[:2500]
    found = GopherRepetition().judge(f"{text}\n\n{text}")
    if found is None or found.reason != "duplicate_paragraphs":
        raise AssertionError(f"a text that stands there twice was judged {found}")
