"""What holds for any page."""

import html as entities
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.html import absolute_url, decode_page, extract_page, largest_candidate, parse_srcset

URL = "https://ex.com/a/b.html"
LEVELS = {"div": 2, "section": 2, "article": 2, "blockquote": 3, "figure": 3, "span": 0, "em": 0, "code": 0, "a": 0}
SEPARATORS = ("", " ", "\n", "\n\n")

# A page as a tree: text, an image by its number, or a tag with what it holds.
texts = st.text(st.sampled_from("ab éß你\u00a0 \n\t<&\u200d"), min_size=1, max_size=12)
images = st.integers(0, 9)
# A link within a link is closed by the parser, so links hold no tags here.
trees = st.recursive(
    texts | images | st.tuples(st.just("a"), st.lists(texts | images, max_size=3)),
    lambda inside: st.tuples(st.sampled_from([*set(LEVELS) - {"a"}]), st.lists(inside, max_size=4)),
    max_leaves=20,
)
pages = st.lists(trees, max_size=6)


def write(node):
    if isinstance(node, str):
        return entities.escape(node)
    if isinstance(node, int):
        return f"<img src='/{node}.jpg'>"
    name, inside = node
    return f"<{name}>{''.join(map(write, inside))}</{name}>"


def page_of(nodes):
    return "<body>" + "".join(map(write, nodes))


def flat(node):
    """Texts, image numbers, and levels of edges, in order."""
    if isinstance(node, str):
        yield "text", node
    elif isinstance(node, int):
        yield "image", node
    else:
        yield "edge", LEVELS[node[0]]
        for inside in node[1]:
            yield from flat(inside)
        yield "edge", LEVELS[node[0]]


def naive(nodes):
    """The segments by the definition: words, and between two of them the widest of what stands there."""
    found, words, between = [], [], 0

    def end():
        if words:
            found.append("".join(words))
        words.clear()

    for node in nodes:
        for kind, value in flat(node):
            if kind == "edge":
                between = max(between, value)
            elif kind == "image":
                if words or not found or found[-1] != f"https://ex.com/{value}.jpg":
                    end()
                    found.append(f"https://ex.com/{value}.jpg")
                between = 0
            else:
                for piece in re.findall(r"[ \n\t\xa0]+|[^ \n\t\xa0]+", value):
                    if piece.strip(" \n\t\xa0"):
                        words.append((SEPARATORS[between] if words else "") + piece)
                        between = 0
                    else:
                        between = max(between, 1)
    end()
    return found


def read(page, **options):
    document = extract_page(page, url=URL, **options)
    assert isinstance(document, InterleavedDocument), document
    return [segment.text if isinstance(segment, TextSegment) else segment.url for segment in document.segments]


@given(pages)
def test_a_page_is_read_in_the_order_of_its_tree(nodes):
    """As a naive walk reads it."""
    assert read(page_of(nodes)) == naive(nodes)


@given(pages)
def test_segments_are_never_empty_and_texts_never_side_by_side(nodes):
    """Whatever the page."""
    segments = extract_page(page_of(nodes), url=URL).segments
    assert all(segment.text for segment in segments if isinstance(segment, TextSegment))
    kinds = [type(segment) for segment in segments]
    assert (TextSegment, TextSegment) not in pairwise(kinds)


@given(pages, st.data())
def test_a_page_that_was_cut_off_gives_what_came_before(nodes, data):
    """Anywhere: in a tag, in an entity, in a letter."""
    page = page_of(nodes).encode()
    cut = page[: data.draw(st.integers(0, len(page)))]
    document = extract_page(cut + b" " * 400, url=URL)  # half a letter is more than a percent of a short page
    whole = [segment for segment in read(page) if segment.startswith("https:")]
    found = [segment.url for segment in document.segments if isinstance(segment, ImageSegment)]
    assert found == whole[: len(found)]


preformatted = st.text(st.sampled_from("ab \n\té<&"), max_size=12).map(lambda text: ("pre", text))


@given(st.lists(trees | preformatted, max_size=6))
def test_what_was_read_is_read_again_as_it_is(nodes):
    """Reading is idempotent on its own rendering."""

    def part(node):
        return f"<pre>\n{entities.escape(node[1])}</pre>" if node[0] == "pre" else write(node)

    def render(segment):
        is_image = segment.startswith("https:")
        return f"<img src={segment}>" if is_image else f"<pre>\n{entities.escape(segment)}</pre>"

    once = read("<body>" + "".join(part(n) if isinstance(n, tuple) else write(n) for n in nodes))
    assert read("<body>" + "".join(map(render, once))) == once


NOTHING = (
    "<script>if(a<b){'<img src=/z.jpg>'}</script>", "<!-- <img src=/z.jpg> -->", "<style>p{}</style>",
    "<div hidden>x<img src=/z.jpg></div>", "<template><p>x<img src=/z.jpg></template>", "<noscript>x</noscript>",
    "<nav>menu<img src=/z.jpg></nav>", "<select><option>x</select>",
)  # fmt: skip


@given(pages, st.data())
def test_what_is_not_shown_changes_nothing(nodes, data):
    """Wherever it stands between blocks, and inside of them."""

    def with_nothing(node):
        if not isinstance(node, tuple):
            return write(node)
        inside = "".join(with_nothing(child) + data.draw(st.sampled_from(("", *NOTHING))) for child in node[1])
        return f"<{node[0]}>{inside}</{node[0]}>"

    assert read("<body>" + "".join(map(with_nothing, nodes))) == read(page_of(nodes))


@given(pages)
def test_a_wrapper_around_text_changes_nothing(nodes):
    """A `<span>` is no edge."""

    def wrapped(node):
        if isinstance(node, str):
            return f"<span>{write(node)}</span>"
        return write(node) if isinstance(node, int) else f"<{node[0]}>{''.join(map(wrapped, node[1]))}</{node[0]}>"

    assert read("<body>" + "".join(map(wrapped, nodes))) == read(page_of(nodes))


ENCODINGS = {
    "utf-8": "aé你ß", "windows-1252": "aéß", "iso-8859-2": "aéßł", "koi8-r": "aж", "shift_jis": "aあ日",
    "euc-kr": "a한", "gb2312": "a你好", "big5": "a你好", "utf-16-le": "aé你", "utf-16-be": "aé你",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("how", ["header", "page", "mark"])
@given(data=st.data())
def test_an_encoding_that_is_told_is_read(encoding, how, data):
    """Told by the header, by the page, or by a mark, a page gives what its text gives."""
    text = data.draw(st.text(st.sampled_from(ENCODINGS[encoding] + " "), max_size=20))
    wide = encoding.startswith("utf-16")
    if (how == "mark") != (wide or encoding == "utf-8"):
        how = "mark" if wide else "header"
    page = f"<meta charset={encoding}><p>{text}"
    mark = "\ufeff" if how == "mark" else ""
    plain = page if how == "page" else f"<p>{text}"
    header = f"text/html; charset={encoding}" if how == "header" else None
    assert decode_page((mark + plain).encode(encoding), content_type=header) == plain


@given(st.text(max_size=40), st.text(max_size=40))
def test_an_address_is_of_the_web_or_none(base, link):
    """Whatever stands in a page."""
    for start in (base, URL):
        found = absolute_url(start, link)
        assert found is None or (re.fullmatch(r"https?://[^/?#]+[!-~]*", found, re.IGNORECASE) and "#" not in found)


urls = st.text(st.sampled_from("ab,/.:()"), min_size=1, max_size=10).filter(
    lambda url: not url.startswith(",") and not url.endswith(",")
)
descriptors = st.integers(1, 9999).map("{}w".format) | st.sampled_from(["1x", "2x", "1.5x", ".5x", "1e1x"])


@given(st.lists(st.tuples(urls, descriptors), max_size=5))
def test_a_srcset_is_read_as_it_was_written(sources):
    """Commas inside of addresses too."""
    found = parse_srcset(", ".join(f"{url} {descriptor}" for url, descriptor in sources))
    assert [candidate.url for candidate in found] == [url for url, _ in sources]
    told = [candidate.width if candidate.width is not None else candidate.density for candidate in found]
    assert told == [float(descriptor[:-1]) for _, descriptor in sources]


@given(st.text(st.sampled_from("a1,.wxh() -+\n"), max_size=30))
def test_any_srcset_is_read(value):
    """Broken ones give what is left of them."""
    found = parse_srcset(value)
    assert all(candidate.url and not re.search(r"\s", candidate.url) for candidate in found)
    assert largest_candidate(found) in (found or [None])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_page(page):
    """Noise is dropped for a reason, or read."""
    found = extract_page(page, url=URL)
    assert isinstance(found, InterleavedDocument) or found.reason == "encoding"
