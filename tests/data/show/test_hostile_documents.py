"""What strangers wrote stays text: it makes no tag, no attribute, no address that runs or loads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment, InterleavedDocument
from flamingo_blocks.data.show import show_documents
from tests.data.filters.test_image_gate import file_of
from tests.data.show.read_page import read_page

PNG = file_of(Image.new("L", (8, 8)))
ATTACKS = (
    "</script><img src=x onerror=alert(1)>", "<script>alert(1)</script>", '"><svg onload=alert(1)>', "' onfocus='x",
    "<!-- ", "-->", "</style><style>*{background:url(//evil)}", "javascript:alert(1)", "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)", "data:text/html,<script>1</script>", "&lt;script&gt;", "&#60;b&#62;", "</title><b>",
    "\x00<b>", "https://ex.com/\"onmouseover='x'", "https://ex.com/\n<b>", "//evil.com/x", "\u202egnp.<b>",
    "</article>", "http://[bad", "file:///etc/passwd", "<base href=//evil>", "<meta http-equiv=refresh>",
    "\ud800<b>",
    "]]>", "<image>", "<EOC>", "https://ex.com/\ud800",
)  # fmt: skip
wild = st.sampled_from(ATTACKS) | st.text(max_size=20) | st.text(st.sampled_from("<>\"'&/= abcx:;\x00\n#"), max_size=20)
values = st.recursive(
    wild | st.none() | st.integers() | st.binary(max_size=3),
    lambda inside: st.lists(inside, max_size=2) | st.dictionaries(wild, inside, max_size=2),
    max_leaves=4,
)
metadata = st.dictionaries(wild | st.sampled_from(["url", "title", "reasons", "reason"]), values, max_size=3)
media = st.fixed_dictionaries(
    {
        "url": st.none() | wild,
        "alt": st.none() | wild,
        "metadata": metadata,
        "data": st.none() | st.binary(max_size=8) | st.just(PNG),
    }
)
parts = st.lists(
    wild | media.map(lambda fields: ImageSegment(**fields)) | media.map(lambda fields: ClipSegment(**fields)),
    max_size=4,
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "nav", "a", "main", "article", "span",
    "div", "figure", "figcaption", "img", "details", "summary", "dl", "dt", "dd", "bdi",
}  # fmt: skip
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "rel", "title", "aria-label",
    "aria-labelledby", "role", "tabindex", "src", "alt",
}  # fmt: skip


def is_harmless(page):
    """Only the tags and attributes that the page is made of, no address but anchors, the web and pictures."""
    for one in page.all():
        assert one.tag in TAGS, one.tag
        assert set(one.attributes) <= ATTRIBUTES, one.attributes
        assert one.tag != "style" or one.parent.tag == "head"
        assert one.tag != "a" or one.attributes["href"].lower().startswith(("#d", "http://", "https://"))
        assert one.tag != "img" or one.attributes["src"].startswith(
            ("data:image/png;base64,", "data:image/jpeg;base64,")
        )
    assert len(page.find("style")) == len(page.find("title")) == 1
    assert "url(" not in page.find("style")[0].text


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "page.html"


def page_of(file, documents, **further):
    show_documents(documents, file, **further)
    return read_page(file.read_bytes().decode("utf-8"))


@given(parts, metadata, wild, wild)
def test_no_document_makes_a_tag(file, segments, about, title, detail):
    """Whatever stands in text, `alt`, address, names and values of metadata, and in the title of the page."""
    documents = [InterleavedDocument.from_parts(segments, metadata=about), Dropped(detail, title)]
    page = page_of(file, documents, title=title)
    is_harmless(page)
    assert len(page.find("article")) == 2
    assert len(page.find("figure")) == len(documents[0].media)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_shown_as_text(file, attack):
    """In every place at once; and it can be read there."""
    item = ImageSegment(url=attack, alt=attack, metadata={attack: attack}, data=PNG)
    about = {attack: attack, "url": attack, "title": attack, "reasons": [attack], "deep": {attack: [attack]}}
    page = page_of(file, [InterleavedDocument.from_parts([attack, item, attack], metadata=about)], title=attack)
    is_harmless(page)
    shown = attack.replace("\x00", "␀").replace("\u202e", "[U+202E]").replace("\ud800", "\ufffd")
    assert [one.text for one in page.find(".text")][-2:] == [shown, shown]
    assert page.find("title")[0].text == shown
    assert page.find("img")[0].attributes["alt"] == shown


def test_nothing_may_run_or_load(file):
    """A policy says so to the browser, should an escape be missing one day."""
    page = page_of(file, [])
    policy = page.find("meta")[1].attributes
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_long_values_of_metadata_are_cut(file):
    """A page that holds a page is not what anybody looks for."""
    page = page_of(file, [InterleavedDocument.from_parts(["a"], metadata={"html": "x" * 5000})])
    assert "x (3000 characters more)" in page.text.replace("…", "")


def test_a_circle_in_metadata_is_named_by_its_kind(file):
    """Nothing else can be said of it."""
    circle = []
    circle.append(circle)
    page = page_of(file, [InterleavedDocument.from_parts(["a"], metadata={"circle": circle})])
    assert "(list)" in page.find("dd")[0].text
