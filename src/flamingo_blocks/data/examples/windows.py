"""A run of a document's tokens: where it may begin and end, and what it is as a document."""

from bisect import bisect_left

from flamingo_blocks.data.tokenize import SpecialTokens, TokenizedDocument


def draw_window(
    tokenized: TokenizedDocument,
    *,
    length: int,
    special: SpecialTokens,
    draw: float,
    max_media: int | None = None,
    needs_media: bool = False,
) -> range:
    """Choose a run of tokens, each start as likely as another; a document that is shorter is taken from its beginning.

        text       <BOS> a  b <EOC> <image> c  d <EOC> <image> e  f <EOC> <EOS>
        window                        <image> c  d <EOC>                  length 5, max_media 1

    No tag is cut in half: a window does not begin inside of one, and ends before one that does not fit. It also ends
    before the tag of the first item beyond `max_media`, for the text behind that tag would see no item of its own.

    Args:
        tokenized: The document.
        length: Most tokens of a window, 256 in the paper.
        special: Says how many tokens a tag has.
        draw: A number from [0, 1), which decides where the window begins.
        max_media: Most items of a window, 5 in the paper; the first ones inside of it are kept.
        needs_media: Choose among the windows that hold an item.

    Returns:
        Positions in the document, one after the other.

    Raises:
        ValueError: If `length` is too small for a tag, `max_media` is less than 1, `draw` is no number from [0, 1), or
            an item is needed of a document that has none.

    Example:
        >>> image = SpecialTokens(media=9)
        >>> document = TokenizedDocument(ids=(1, 9, 2, 3, 9, 4), tags=(1, 4), media=())
        >>> draw_window(document, length=3, special=image, draw=0.5)
        range(2, 5)
        >>> draw_window(document, length=6, special=image, draw=0.5, max_media=1)
        range(0, 4)

    Source:
        Flamingo (arXiv 2204.14198), section A.3.2: a random subsequence of 256 tokens and its first 5 images. What
        becomes of the text behind the image that is dropped, it does not say.
    """
    check_window(length=length, max_media=max_media, special=special)
    width = len(special.media_ids)
    if not 0.0 <= draw < 1.0:
        raise ValueError(f"draw is {draw}, wanted a number from 0 to 1, 1 excluded")
    runs = _starts(tokenized, length, width, needs_media=needs_media)
    chosen = int(draw * sum(map(len, runs)))
    for run in runs:
        if chosen < len(run):
            break
        chosen -= len(run)
    else:
        raise ValueError("needs_media is True, but the document has no item; leave it out, or pass needs_media=False")
    start = run[chosen]
    stop = min(start + length, len(tokenized.ids))
    first, last = bisect_left(tokenized.tags, start), bisect_left(tokenized.tags, stop)
    if last > first and tokenized.tags[last - 1] + width > stop:
        last -= 1
        stop = tokenized.tags[last]
    if max_media is not None and last - first > max_media:
        stop = tokenized.tags[first + max_media]
    return range(start, stop)


def check_window(*, length: int, max_media: int | None, special: SpecialTokens) -> None:
    """Windows must have room for a tag and its item.

    Raises:
        ValueError: If they have not.
    """
    if length < len(special.media_ids):
        raise ValueError(f"length is {length}, wanted the {len(special.media_ids)} tokens of a tag at least")
    if max_media is not None and max_media < 1:
        raise ValueError(f"max_media is {max_media}, wanted 1 or more, or None for all")


def _starts(tokenized: TokenizedDocument, length: int, width: int, *, needs_media: bool) -> list[range]:
    """The positions at which a window may begin, in runs between the tags."""
    latest = max(len(tokenized.ids) - length, 0)
    runs, after = [], 0  # behind the tag before
    for tag in tokenized.tags:
        earliest = max(after, tag + width - length) if needs_media else after
        runs.append(range(earliest, min(tag, latest) + 1))
        after = tag + width
    if not needs_media:
        runs.append(range(after, latest + 1))
    return runs


def cut_document(tokenized: TokenizedDocument, window: range, *, special: SpecialTokens) -> TokenizedDocument:
    """A run of a document as a document of its own: its tokens, its tags and their items.

    Labels are cut beside it, so that they do not depend on the window: `labels[window.start : window.stop]`.

    Args:
        tokenized: The document.
        window: Positions in it, one after the other, as `draw_window` gives them.
        special: Says how many tokens a tag has.

    Returns:
        The run. Text whose item stands before it sees nothing.

    Raises:
        ValueError: If the run lies beyond the document or cuts a tag in half.

    Example:
        >>> document = TokenizedDocument(ids=(1, 9, 2, 3, 9, 4), tags=(1, 4), media=())
        >>> cut_document(document, range(2, 6), special=SpecialTokens(media=9))
        TokenizedDocument(ids=(2, 3, 9, 4), tags=(2,), media=(), inserted=frozenset())
    """
    start, stop = window.start, max(window.start, window.stop)
    if window.step != 1 or start < 0 or stop > len(tokenized.ids):
        raise ValueError(f"window is {window}, wanted positions one after the other below {len(tokenized.ids)}")
    width = len(special.media_ids)
    first, last = bisect_left(tokenized.tags, start), bisect_left(tokenized.tags, stop)
    for edge, before in ((start, first), (stop, last)):
        if before and tokenized.tags[before - 1] + width > edge > tokenized.tags[before - 1]:
            tag = tokenized.tags[before - 1]
            raise ValueError(f"window is {window}, which cuts the tag at {tag} to {tag + width} in half")
    return TokenizedDocument(
        ids=tokenized.ids[start:stop],
        tags=tuple(tag - start for tag in tokenized.tags[first:last]),
        media=tokenized.media[first:last],
        inserted=frozenset(place - start for place in tokenized.inserted if start <= place < stop),
    )
