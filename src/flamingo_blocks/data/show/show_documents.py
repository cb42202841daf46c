"""A page to look at documents with, as the model will see them."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.show.page_style import style_sheet
from flamingo_blocks.data.show.render_document import TOKENS, render_document, render_dropped
from flamingo_blocks.data.show.see_document import SeenDocument, see_document
from flamingo_blocks.data.show.word_tokenizer import WordTokenizer
from flamingo_blocks.data.show.write_html import as_text
from flamingo_blocks.data.tokenize import SpecialTokens, TextTokenizer
from flamingo_blocks.types import Direction, Scope

# Nothing is loaded and nothing runs, whatever a document says: a second wall behind the escapes.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_SEEING = {
    "last": "Text sees the last image before it.",
    "all": "Text sees all images before it.",
    "grouped": "Text sees the last images before it that stand side by side.",
    "next": "Text sees the next image after it.",
}


def show_documents(
    documents: Iterable[InterleavedDocument | Dropped],
    path: str | os.PathLike[str],
    *,
    limit: int | None = 50,
    tokenizer: TextTokenizer | None = None,
    special: SpecialTokens | None = None,
    scope: Scope = "last",
    direction: Direction = "previous",
    group_consecutive: bool = False,
    end_before_media: bool = True,
    end_before_first_media: bool = True,
    mask_between_chunks: bool = False,
    mask_before_first_media: bool = False,
    title: str = "Documents as the model sees them",
    image_side_px: int = 240,
) -> int:
    """Write a page that shows documents as the model will see them.

    Look at it before a model is trained: the text with its tags in their places, every part of it marked by the images
    that it sees, tokens on which no loss is taken, pictures, descriptions, metadata and counts. The page is one file
    that needs no other and asks no host; nothing in it runs.

    Args:
        documents: Any, read up to `limit`; a `Dropped` among them is shown with its reason.
        path: File to write, replaced whole or not at all.
        limit: Most documents to show; None shows all.
        tokenizer: Encodes the text; without one its tokens are words.
        special: Ids of the tags, needed with a tokenizer.
        scope: As in `MediaLayout.from_tokens`.
        direction: As there.
        group_consecutive: As there.
        end_before_media: As in `tokenize_document`.
        end_before_first_media: As there.
        mask_between_chunks: As in `document_labels`.
        mask_before_first_media: As there.
        title: Of the page.
        image_side_px: Longest side of a picture on the page. Pictures need pillow, and those of clips PyAV.

    Returns:
        How many documents the page shows.

    Raises:
        ValueError: If `limit` or `image_side_px` is below 1, one of `tokenizer` and `special` is given without the
            other, or the layout is none.

    Example:
        >>> documents = [InterleavedDocument.from_tagged("Our cat: <image>She sleeps.", [None])]
        >>> show_documents(documents, "page.html")
        1
        >>> "&lt;EOC&gt;" in Path("page.html").read_text(encoding="utf-8")
        True

    Source:
        Flamingo (arXiv 2204.14198), figure 7, draws a document in this way.
    """
    _check(limit, image_side_px, tokenizer, special)
    words = WordTokenizer()
    see = partial(
        see_document, tokenizer=tokenizer or words, special=special or words.special, scope=scope, direction=direction,
        group_consecutive=group_consecutive, end_before_media=end_before_media,
        end_before_first_media=end_before_first_media, mask_between_chunks=mask_between_chunks,
        mask_before_first_media=mask_before_first_media,
    )  # fmt: skip
    see(InterleavedDocument.from_parts([b""]))  # a layout that is none is the caller's slip, not that of a document
    unit = "words" if tokenizer is None else "tokens"
    taken = iter(documents)
    cards = [
        _card(document, see, number=number, unit=unit, side_px=image_side_px)
        for number, document in enumerate(islice(taken, limit), 1)
    ]
    more = next(taken, None) is not None
    way = "next" if direction == "next" else "grouped" if group_consecutive else scope
    page = "".join(_page(title, cards, more=more, unit=unit, seeing=_SEEING[way]))
    with atomic_file(Path(path)) as file:
        file.write(page.encode())
    return len(cards)


def _card(
    document: InterleavedDocument | Dropped, see: Callable[[InterleavedDocument], SeenDocument], *, number: int,
    unit: str, side_px: int,
) -> str:  # fmt: skip
    if isinstance(document, Dropped):
        return render_dropped(document, number=number)
    try:
        seen: SeenDocument | str = see(document)
    except ValueError as error:  # a text that says a special token
        seen = str(error)
    return render_document(document, seen, number=number, unit=unit, side_px=side_px)


def _check(
    limit: int | None, image_side_px: int, tokenizer: TextTokenizer | None, special: SpecialTokens | None
) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}, wanted 1 or more, or None for all documents")
    if image_side_px < 1:
        raise ValueError(f"image_side_px is {image_side_px}, wanted 1 or more")
    if (tokenizer is None) != (special is None):
        given, missing = ("special", "tokenizer") if tokenizer is None else ("tokenizer", "special")
        raise ValueError(f"{given} is given and {missing} is None; give both, or neither for words as tokens")


def _page(title: str, cards: list[str], *, more: bool, unit: str, seeing: str) -> Iterable[str]:
    shown = f"{len(cards)} document{'' if len(cards) == 1 else 's'}" if cards else "No documents"
    counted = " Words stand for tokens: no tokenizer was given." if unit == "words" else ""
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{as_text(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{as_text(title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n<body>\n"
        f'<header class="page">\n<h1>{as_text(title)}</h1>\n'
        f"<p>{shown}{', the first of more' if more else ''}. {seeing}{counted}</p>\n{_legend()}"
    )
    links = "".join(f'<a href="#d{number}">{number}</a>' for number in range(1, len(cards) + 1))
    yield f'<nav aria-label="Documents">{links}</nav>\n' if len(cards) > 1 else ""
    yield "</header>\n<main>\n"
    yield from cards
    yield "</main>\n</body>\n</html>\n"


def _legend() -> str:
    bos, end, tag = (as_text(TOKENS[kind]) for kind in ("bos", "end_of_chunk", "media"))
    return (
        '<p class="muted">The number in the margin says which image a text sees. '
        "Point at an image, or click on it, and all that sees it is framed. "
        f'<span class="token">{end}</span> is predicted in training, <span class="token ignored">{bos}</span> and '
        f'<span class="token ignored">{tag}</span> are not, '
        'nor is <span class="text ignored">text like this</span>.</p>\n'
    )
