"""Pages, a line each, and what people read on them."""

import codecs

import pytest

from flamingo_blocks.data import InterleavedDocument, TextSegment
from flamingo_blocks.data.html import decode_page, extract_page
from flamingo_blocks.data.html.decode_page import LABELS

URL = "https://ex.com/a/b.html"
HOST = "https://ex.com"


def shown(document):
    """Texts and [images] between bars, the host left out."""
    assert isinstance(document, InterleavedDocument)
    return " | ".join(
        segment.text if isinstance(segment, TextSegment) else f"[{segment.url.removeprefix(HOST)}]"
        for segment in document.segments
    )


CASES = {
    "an image between texts": ("<p>a</p><img src=/x.jpg><p>b</p>", "a | [/x.jpg] | b"),
    "an image inside a text": ("<p>a <img src=/x.jpg> b</p>", "a | [/x.jpg] | b"),
    "a figure": (
        "<figure><img src=/x.jpg><figcaption>cap</figcaption></figure><p>b",
        "[/x.jpg] | cap\n\nb",
    ),
    "a caption above": (
        "<figure><figcaption>cap</figcaption><a href=/big.jpg><img src=/x.jpg></a></figure>",
        "cap | [/x.jpg]",
    ),
    "a picture": ("<picture><source srcset=/x.webp type=image/webp><img src=/x.jpg></picture>", "[/x.jpg]"),
    "a picture without src": (
        (
            "<picture><source srcset=/x.avif type=image/avif>"  # which few decoders read
            "<source srcset='/s.webp 1x, /l.webp 2x' type=image/webp><img alt=q></picture>"
        ),
        "[/l.webp]",
    ),
    "a picture without img": ("<picture><source srcset=/x.webp></picture>", ""),
    "a lazy image and its noscript twin": (
        "<img src='data:image/gif;base64,AA,A=' data-src=/r.jpg><noscript><img src=/r.jpg></noscript><p>b",
        "[/r.jpg] | b",
    ),
    "the twin first": ("<noscript><img src=/n.jpg></noscript><img data-src=/n.jpg>", "[/n.jpg]"),
    "noscript in the body": (
        "<body><noscript><img src=/n.jpg><p>enable js</p></noscript><p>b",
        "[/n.jpg] | b",
    ),
    "noscript in the head closes early": (
        "<noscript><img src=/n.jpg><p>enable js</p></noscript><p>b",
        "[/n.jpg] | enable js\n\nb",
    ),
    "a placeholder": ("<img src=/blank.gif data-original=/o.png>", "[/o.png]"),
    "a comma in a srcset": ("<img srcset='/s.jpg 300w, /l,1.jpg 900w'>", "[/l,1.jpg]"),
    "a srcset without descriptor": ("<img srcset='/a.jpg, /b.jpg 2x'>", "[/b.jpg]"),
    "src before srcset": ("<img src=/s.jpg srcset='/l.jpg 2000w'>", "[/s.jpg]"),
    "relative addresses": (
        "<img src=x.jpg><p>t</p><img src=../y.jpg><p>t</p><img src=?v=2>",
        "[/a/x.jpg] | t | [/y.jpg] | t | [/a/b.html?v=2]",
    ),
    "a base": (
        "<head><base href='//cdn.net/p/'><base href=/z/></head><img src=x.jpg>",
        "[https://cdn.net/p/x.jpg]",
    ),
    "a base that leads nowhere": ("<base href='javascript:1'><img src=x.jpg>", "[/a/x.jpg]"),
    "an address without scheme": ("<img src='//c.net/q.jpg?a=1&amp;b=2#f'>", "[https://c.net/q.jpg?a=1&b=2]"),
    "spaces in an address": ("<img src=' /sp ace.jpg\n'>", "[/sp%20ace.jpg]"),
    "other letters in an address": ("<img src='http://bücher.de/ä.jpg'>", "[http://xn--bcher-kva.de/%C3%A4.jpg]"),
    "no host": ("<img src='http://:80/x.jpg'>", ""),
    "no addresses": ("<img src='http://[bad/x.jpg'><img src='mailto:x'><img src=''><img>", ""),
    "no pictures": ("<img src=/icon.svg><img src=/t.gif width=1 height=1>", ""),
    "inline tags": ("<p>Hello <b>bold</b>world, <a href=x>link</a>.</p>", "Hello boldworld, link."),
    "line breaks": ("<p>one<br>two<br/><br>three<BR>four</p>", "one\ntwo\n\nthree\nfour"),
    "blocks in blocks": ("<div>a<div>b</div>c</div><p>d</p>", "a\nb\nc\n\nd"),
    "spaces": ("<h1>T</h1>\n\n <p>  x\n y\t z&nbsp;&nbsp;w </p>", "T\n\nx y z w"),
    "a list": (
        "<p>intro</p><ul><li>one<li>two <b>x</b></ul><p>end</p>",
        "intro\n\none\ntwo x\n\nend",
    ),
    "a table": ("<table><tr><th>h<th>i<tr><td>a</td><td>b</td></table>", "h i\na b"),
    "preformatted": ("<p>a</p><pre>\nx  =  1\n  y</pre><p>b</p>", "a\n\nx  =  1\n  y\n\nb"),
    "preformatted lines of nothing": ("<pre>\n\n\n  a</pre>", "  a"),
    "preformatted lines of nothing behind a text": ("<p>a</p><pre>\n\n\n  b</pre>", "a\n\n  b"),
    "steps up from the root": ("<img src=/a/../b.jpg>", "[/b.jpg]"),
    "preformatted pieces": (
        "<pre><b>def</b> f():\n<i>    </i><b>pass</b>\n\n\n</pre>b",
        "def f():\n    pass\n\nb",
    ),
    "entities": (
        "<p>5 &lt; 6 &amp;amp; caf&eacute; &#x1F600; &#0;</p>",
        "5 < 6 &amp; café \U0001f600 \ufffd",
    ),
    "what is no text": (
        "<p>a<!-- c --><script>if(a<b){}</script><style>p{}</style>b</p>",
        "ab",
    ),
    "boilerplate": (
        "<nav>m</nav><header>top</header><main><header><h1>T</h1></header><p>x</p></main><footer>f</footer>",
        "T\n\nx",
    ),
    "boilerplate by words": (
        "<div class='post share'>s</div><div id=sidebar>s</div><div class=shareholder>keep</div>",
        "keep",
    ),
    "boilerplate by role": ("<p role=navigation>a</p><p role=img>b</p>", "b"),
    "what is hidden": (
        "<p hidden>a</p><p style='display: none'>b</p><img src=/x.jpg style='visibility:hidden'><p aria-hidden=true>c",
        "c",
    ),
    "what is hidden in capitals": ("<p STYLE='DISPLAY : NONE !important'>a</p><p>b", "b"),
    "what is no page": (
        (
            "<template><img src=/x.jpg></template><iframe src=/f></iframe><svg><image href=/y.jpg></svg>"
            "<video poster=/p.jpg><img src=/z.jpg></video><p>t"
        ),
        "t",
    ),
    "the same image twice": (
        "<img src=/x.jpg><img src=/x.jpg><p>t</p><img src=/x.jpg>",
        "[/x.jpg] | t | [/x.jpg]",
    ),
    "amp": (
        "<amp-img src=/a.jpg width=9 height=9><noscript><img src=/a.jpg></noscript></amp-img>",
        "[/a.jpg]",
    ),
    "a file that ends inside a tag": ("<p>a</p><img src='/x.jpg", "a"),
    "a file that ends inside a word": ("<p>a wor", "a wor"),
    "what takes no place": ("<p>zero\u200bwidth so\u00adft</p>", "zerowidth soft"),
    "joiners of emoji": ("<p>\U0001f469\u200d\U0001f4bb</p>", "\U0001f469\u200d\U0001f4bb"),
    "joiners of letters": ("<p>\u0646\u200c\u0645</p>", "\u0646\u200c\u0645"),
    "controls": (
        "<button>Buy<img src=/b.png></button><select><option>o</select><textarea>t</textarea><p>x",
        "x",
    ),
    "images in lists and tables": (
        "<ul><li>a<img src=/1.jpg></ul><table><tr><td><img src=/2.jpg><td>b</table>",
        "a | [/1.jpg] | [/2.jpg] | b",
    ),
    "other scripts": ("<p dir=rtl>שלום עולם</p><p>你好。\u3000世界</p>", "שלום עולם\n\n你好。\u3000世界"),
    "an image map": ("<img src=/m.jpg usemap=#m><map name=m><area href=/a alt=x></map><p>b", "[/m.jpg] | b"),
    "frames": ("<frameset><frame src=/f.html></frameset>", ""),
    "nothing": ("", ""),
    "spaces alone": (" \n\t ", ""),
    "NUL": ("<p>a\0b</p>", "ab"),
    "half a surrogate": ("<p>a\ud800b</p>", "a\ufffdb"),
}


@pytest.mark.parametrize(("page", "wanted"), CASES.values(), ids=CASES.keys())
def test_a_page_is_read_as_people_do(page, wanted):
    """Text and images stand in reading order."""
    assert shown(extract_page(page, url=URL)) == wanted


@pytest.mark.parametrize(
    ("page", "header", "text"),
    [
        (b"<p>\x93caf\xe9\x94", "text/html; charset=latin-1", "\u201ccafé\u201d"),  # as browsers mean it
        (b"<p>\x93caf\xe9\x94", "windows-1252", "\u201ccafé\u201d"),
        (b"<meta charset=utf-16><p>caf\xc3\xa9", None, "café"),  # which it cannot be
        (b"<meta charset=nothing><p>caf\xc3\xa9", None, "café"),
        (b"<meta charset=rot13><p>cat", None, "cat"),
        (b"<meta http-equiv=content-type content='text/html; charset=koi8-r'><p>\xeb\xcf\xd4", None, "Кот"),
        (b"<meta charset=koi8-r><p>caf\xc3\xa9", "text/html; charset=utf-8", "café"),  # the header is asked first
        ("<p>Кот сидит на окне и смотрит на улицу, где идёт снег".encode("cp1251"), None, None),
    ],
)
def test_an_encoding_is_what_browsers_take_it_for(page, header, text):
    """Labels of old, wrong ones, unknown ones, and none."""
    document = extract_page(page, url=URL, content_type=header)
    assert document.text == (text or page[3:].decode("cp1251"))


@pytest.mark.parametrize(("label", "encoding"), LABELS.items())
def test_a_label_stands_for_an_encoding_that_there_is(label, encoding):
    """Else a page that tells its encoding would be guessed at."""
    assert codecs.lookup(encoding)
    assert decode_page("a".encode(encoding), content_type=label) == "a"


def test_the_largest_image_on_demand():
    """By default `src` is what the author showed."""
    assert shown(extract_page("<img src=/s.jpg srcset='/l.jpg 2000w'>", url=URL, prefer="largest")) == "[/l.jpg]"


def test_what_is_told_of_an_image_stands_beside_it():
    """Caption, link, size and alternative text; none of it is text of the image's own."""
    page = "<figure><a href=/big><img src=/x.jpg alt=Cat width=300 height=50%></a><figcaption>A <b>cat</b></figcaption>"
    (image, caption) = extract_page(page, url=URL).segments
    assert image.alt == "Cat"
    assert image.metadata == {"declared_width": 300, "link": f"{HOST}/big", "caption": "A cat"}
    assert caption.text == "A cat"


def test_the_page_is_told_beside_the_document():
    """Its address and its title."""
    document = extract_page("<title> My\ncats </title><p>a", url=URL)
    assert document.metadata == {"url": URL, "title": "My cats"}


@pytest.mark.parametrize(
    ("boilerplate", "wanted"),
    [("tags", "x"), ("none", "m\n\nx"), (lambda tag, attributes: tag == "p" and "x" in attributes, "m")],
)
def test_boilerplate_is_a_choice(boilerplate, wanted):
    """The usual tags, nothing, or what a function says."""
    assert shown(extract_page("<nav>m</nav><p x>x</p>", url=URL, boilerplate=boilerplate)) == wanted


@pytest.mark.parametrize("url", ["page.html", "", "file:///home/page.html", "http://", "http://[x"])
def test_a_page_without_an_address_is_dropped(url):
    """Its relative images would be lost without a word."""
    assert extract_page("<img src=x.jpg>", url=url).reason == "url"


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(("option", "value"), [("boilerplate", "tag"), ("boilerplate", None), ("prefer", "largst")])
def test_options_are_spelled(option, value):
    """A slip would be taken for another choice."""
    with pytest.raises(ValueError, match=f"{option} is {value!r}, wanted '"):
        extract_page("<p>a", url=URL, **{option: value})
