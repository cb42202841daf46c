"""The page shows what the model sees, and says it to eyes, keyboards and readers of screens."""

import io

import pytest
from hypothesis import given

from flamingo_blocks.data import Dropped, ImageSegment, InterleavedDocument
from flamingo_blocks.data.show import see_document, show_documents
from flamingo_blocks.data.show.page_style import DARK, HUES, LIGHT, style_sheet, tints
from tests.data.show.read_page import highlighted, read_page
from tests.data.show.test_see_document import each_layout, losses
from tests.data.test_tokenize import LETTERS, PAPER, segment_lists, tagged

NAMES = {"bos": "<BOS>", "eos": "<EOS>", "end_of_chunk": "<EOC>", "media": "<image>"}
READS = {"tokenizer": LETTERS, "special": PAPER}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "page.html"


def shown(file, documents, **further):
    """The page of documents, read back."""
    show_documents(documents, file, **further)
    return read_page(file.read_text(encoding="utf-8"))


def pictured(text):
    """As a page holds it: control characters by their pictures."""
    return "".join(chr(0x2400 + ord(c)) if c < " " and c not in "\t\n" else "␡" if c == "\x7f" else c for c in text)


@each_layout
@given(segments=segment_lists, loss=losses)
def test_the_page_holds_the_tokens_in_their_places(file, segments, layout, loss):
    """Text, tags, begin and ends, in order, and whether loss is taken on each, as `see_document` says."""
    document = InterleavedDocument(segments)
    seen = see_document(document, **READS, **layout, **loss)
    page = shown(file, [document], **READS, **layout, **loss)
    (flow,) = page.find(".flow")
    found = [one for one in flow.all() if {"text", "token"} & set(one.classes)]
    assert [one.text for one in found] == [NAMES.get(run.kind, pictured(run.text)) for run in seen.runs]
    assert ["ignored" in one.classes for one in found] == [run.ignored for run in seen.runs]


@each_layout
@given(segments=segment_lists)
def test_an_image_frames_all_that_sees_it(file, segments, layout):
    """For each scope and direction, by the rule of the sheet of style; and numbers say the same."""
    document = InterleavedDocument(segments)
    seen = see_document(document, **READS, **layout)
    page = shown(file, [document], **READS, **layout)
    (flow,) = page.find(".flow")
    found = [one for one in flow.all() if {"text", "token"} & set(one.classes)]

    def block(one):
        while "see" not in one.classes:
            one = one.parent
        return one

    for item, figure in enumerate(flow.find("figure")):
        framed = highlighted(figure)
        sees = [item in run.sees for run in seen.runs]
        assert [block(one) in framed for one in found] == sees
        assert ".see:has(figure:is(:hover, :focus)), .see:has(figure:is(:hover, :focus)) ~ .see" in style_sheet()
    for one, run in zip(found, seen.runs, strict=True):
        first, last = run.first + 1, run.last + 1
        number = "none" if not run.sees else str(last) if first == last else f"{first}-{last}"
        assert block(one).find(".num")[0].text == number


def test_a_page_of_a_few_documents(file):
    """Titles, addresses, reasons, counts, metadata; what was dropped has its reason."""
    document = InterleavedDocument.from_parts(
        ["Our cat:", ImageSegment(url="https://ex.com/cat.jpg", alt="A grey cat", metadata={"caption": "Tom"}), "Tom."],
        metadata={"title": "Cats", "url": "https://ex.com/", "reasons": ["image_small"], "size": {"deep": [1, None]}},
    )
    page = shown(file, [document, Dropped("too_large", "6000000 characters")])
    cards = page.find("article")
    assert [card.find("h2")[0].text for card in cards] == ["1. Cats", "2. Dropped"]
    assert [link.attributes["href"] for link in cards[0].find("a")[:2]] == ["https://ex.com/", "https://ex.com/cat.jpg"]
    assert "3 words · 5 special tokens · 1 image · loss on 6 of 8" in cards[0].text
    assert cards[0].find(".reason")[0].text == "image_small"
    assert '{"deep": [1, null]}' in cards[0].text
    assert "alt: A grey cat" in cards[0].text
    assert "not fetched" in cards[0].find(".gone")[0].text
    assert "too_large" in cards[1].text and "6000000 characters" in cards[1].text
    assert [link.attributes["href"] for link in page.find("nav")[0].find("a")] == ["#d1", "#d2"]
    assert "Words stand for tokens" in page.text


def test_tokens_are_counted_where_there_is_a_tokenizer(file):
    """And words are not spoken of."""
    page = shown(file, [tagged("ab<image>c")], **READS)
    assert "3 tokens · 5 special tokens · 1 image · loss on 6 of 8" in page.text
    assert "Words stand" not in page.text


@pytest.mark.parametrize(("limit", "number", "more"), [(2, 2, True), (3, 3, False), (9, 3, False), (None, 3, False)])
def test_so_many_documents_are_shown(file, limit, number, more):
    """And it is said whether there were more."""
    assert show_documents(iter([tagged("a")] * 3), file, limit=limit) == number
    page = read_page(file.read_text(encoding="utf-8"))
    assert len(page.find("article")) == number
    assert ("the first of more" in page.text) is more


def test_a_text_that_says_a_special_token_is_shown_with_the_error(file):
    """The page is written all the same, and the other documents with it."""
    page = shown(file, [InterleavedDocument.from_parts(["a\u0103"]), tagged("b")], **READS)
    assert "Cannot be tokenised" in page.find(".wrong")[0].text
    assert "special.media" in page.find(".wrong")[0].text
    assert len(page.find(".flow")) == 1


@pytest.mark.parametrize(
    "document",
    [
        InterleavedDocument(()),
        InterleavedDocument.from_parts(["only text"]),
        InterleavedDocument.from_parts([ImageSegment(url="https://ex.com/1.jpg")]),
        InterleavedDocument.from_parts([part for n in range(500) for part in (f"text {n}", ImageSegment(alt=f"{n}"))]),
        InterleavedDocument.from_parts(["שרה\nרמש", ImageSegment(alt="تصویر"), "and English"]),
    ],
    ids=["nothing", "text", "image", "1,000 segments", "right to left"],
)
def test_any_document_has_a_card(file, document):
    """Without media, without text, long, from right to left."""
    page = shown(file, [document])
    assert len(page.find("article")) == 1
    assert len(page.find("figure")) == len(document.media)
    assert page.find(".flow")[0].text.count("text ") == document.text.count("text ")


def test_no_documents_are_a_page_too(file):
    """It says so."""
    assert "No documents" in shown(file, []).text


def test_two_pages_of_the_same_are_the_same(file, tmp_path):
    """Byte for byte, broken images and values without a text among them."""
    from PIL import Image

    colours = io.BytesIO()
    Image.linear_gradient("L").resize((200, 150)).save(colours, "JPEG")

    def documents():
        data = [colours.getvalue(), b"<html>", object(), Image.linear_gradient("L")]
        yield InterleavedDocument.from_parts(
            [ImageSegment(data=one) for one in data], metadata={"object": object(), "set": {"a"}, 3: "three"}
        )

    show_documents(documents(), file)
    show_documents(documents(), tmp_path / "other.html")
    assert file.read_bytes() == (tmp_path / "other.html").read_bytes()
    assert b"0x" not in file.read_bytes()


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path):
    """What fails half-way leaves the old page, and nothing beside it."""

    def broken():
        yield tagged("new")
        raise OSError("disk gone")

    page = tmp_path / "page.html"
    page.write_text("old")
    with pytest.raises(OSError, match="disk gone"):
        show_documents(broken(), page)
    assert page.read_text() == "old"
    show_documents([tagged("new")], page)
    assert "new" in page.read_text()
    with pytest.raises(OSError, match="folder"):
        show_documents([tagged("new")], (tmp_path / "folder").mkdir() or tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "page.html"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limit": 0}, "limit is 0, wanted 1 or more"),
        ({"image_side_px": 0}, "image_side_px is 0, wanted 1 or more"),
        ({"tokenizer": LETTERS}, "tokenizer is given and special is None"),
        ({"special": PAPER}, "special is given and tokenizer is None"),
        ({"scope": "all", "direction": "next"}, "next"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, wrong, message):
    """Before a page is written."""
    with pytest.raises(ValueError, match=message):
        show_documents([tagged("a")], tmp_path / "page.html", **wrong)
    assert not list(tmp_path.iterdir())


def contrast(one, other):
    """As WCAG 2 defines it."""

    def light(colour):
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        lit = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * lit[0] + 0.7152 * lit[1] + 0.0722 * lit[2]

    dark, bright = sorted((light(one), light(other)))
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("mode", "names"), [(0, LIGHT), (1, DARK)], ids=["light", "dark"])
def test_everything_written_can_be_read(mode, names):
    """Text has a contrast of 4.5 to what lies behind it, in the light and in the dark."""
    behind = [names["card"], names["page"], names["none-tint"], *tints(mode)]
    for colour in (names["text"], names["muted"], names["wrong"], HUES[0][mode]):
        assert min(contrast(colour, below) for below in behind) >= 4.5, colour
    for hue in [names["none"], *(hues[mode] for hues in HUES)]:
        assert contrast(names["on-hue"], hue) >= 4.5, hue


def test_images_have_descriptions_and_keyboards_reach_them(file):
    """An image without `alt` too."""
    from PIL import Image

    colours = io.BytesIO()
    Image.linear_gradient("L").save(colours, "PNG")
    media = [ImageSegment(data=colours.getvalue(), alt="A ramp"), ImageSegment(data=colours.getvalue())]
    page = shown(file, [InterleavedDocument.from_parts(media)])
    assert [image.attributes["alt"] for image in page.find("img")] == ["A ramp", "image 2, without a description"]
    assert all(figure.attributes["tabindex"] == "0" for figure in page.find("figure"))
    assert page.find("html")[0].attributes["lang"] == "en"
