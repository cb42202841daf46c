"""Rows of OBELICS: lists of texts and image addresses, one of the two at each place."""

from collections.abc import Iterator, Mapping
from typing import Any

from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument, Segment, TextSegment
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.read_json import as_list, as_mapping, check_json, read_json, told, write_json

FORM = "obelics"  # in the metadata of a document: what a row has beyond what the rule below gives
COLUMNS = ("images", "texts", "metadata", "general_metadata")


def from_obelics(row: Mapping[str, Any]) -> InterleavedDocument:
    """Read a row of OBELICS, or of what is made like it: OmniCorpus, MINT-1T.

    Each place is a segment: texts side by side stay apart. What `metadata` says of an image is kept as it is, its
    `alt_text` as `alt`; the document's metadata are those of `general_metadata`. What a row has beyond this, such as
    other columns, stands under `"obelics"`, so that `to_obelics` gives it back.

    Args:
        row: `images` and `texts`, lists of one length with one value and one `None` at each place; `metadata` and
            `general_metadata` as JSON, as lists and mappings, or missing.

    Returns:
        The document; its images have addresses and no data.

    Raises:
        RecordError: If the lists differ in length, a place has two values or none, or JSON is broken.

    Example:
        >>> row = {"texts": [None, "a b"], "images": ["https://ex.com/1.jpg", None],
        ...        "metadata": '[{"alt_text": "A cat", "format": "jpeg"}, null]', "general_metadata": '{"url": "u"}'}
        >>> document = from_obelics(row)
        >>> document.media[0]
        ImageSegment(url='https://ex.com/1.jpg', data=None, alt='A cat', metadata={'format': 'jpeg'})
        >>> to_obelics(document)["texts"]
        [None, 'a b']

    Source:
        OBELICS (arXiv 2306.16527); the columns are those of its published files.
    """
    images, texts = as_list(row.get("images"), "images"), as_list(row.get("texts"), "texts")
    if len(images) != len(texts):
        problem = f"has {len(images)} places and texts {len(texts)}, wanted as many"
        raise RecordError(problem, reason="lists", field="images")
    known, form = _image_metadata(row, len(texts))
    segments = [_segment(k, images[k], texts[k], known[k]) for k in range(len(texts))]
    odd = [[k, known[k]] for k in range(len(texts)) if _described(segments[k]) != known[k]]
    general = _general_metadata(row, form)
    if FORM in general:
        form["general"] = general.pop(FORM)
    if odd:
        form["slots"] = odd
    others = {name: value for name, value in row.items() if name not in COLUMNS}
    if others:
        form["columns"] = others
    return InterleavedDocument(tuple(segments), {**general, FORM: form} if form else general)


def to_obelics(document: InterleavedDocument) -> dict[str, Any]:
    """Write a document as a row of OBELICS.

    Args:
        document: Texts, and images with an address and no data. Its segments are written as they are: texts side by
            side stay apart.

    Returns:
        The row; `metadata` and `general_metadata` are JSON.

    Raises:
        ValueError: If it has clips, or images without an address or with data, which the format has no place for.
            `to_members` keeps those.

    Example:
        >>> to_obelics(InterleavedDocument.from_parts([ImageSegment(url="https://ex.com/1.jpg"), "a b"]))["metadata"]
        '[null,null]'
    """
    for number, segment in enumerate(document.segments):
        _check(segment, number)
    general = dict(document.metadata)
    form = as_mapping(general.pop(FORM, {}), FORM)
    known = [_described(segment) for segment in document.segments]
    for number, value in _slots(form):
        if number < len(known):
            known[number] = value
    columns = as_mapping(form.get("columns", {}), f"{FORM}.columns")
    if taken := sorted(columns.keys() & set(COLUMNS)):
        problem = f"names {', '.join(taken)}, which the document itself tells; leave {FORM!r} out of its metadata"
        raise RecordError(problem, reason="field", field=f"{FORM}.columns")
    if "general" in form:
        general[FORM] = form["general"]
    check_json(known, "metadata of segments")
    check_json(general, "metadata")
    row = {
        "images": [segment.url if isinstance(segment, ImageSegment) else None for segment in document.segments],
        "texts": [segment.text if isinstance(segment, TextSegment) else None for segment in document.segments],
        **_as_it_was("metadata", known, form),
        **_as_it_was("general_metadata", general, form),
    }
    return {**row, **columns}


def _slots(form: Mapping[str, Any]) -> Iterator[tuple[int, Any]]:
    """Places, each with what a row said of it otherwise than by the rule."""
    field = f"{FORM}.slots"
    for slot in as_list(form.get("slots", []), field):
        pair = as_list(slot, field)
        if len(pair) != 2 or not isinstance(pair[0], int) or pair[0] < 0:
            raise RecordError("holds what is no place and its value", reason="field", field=field)
        yield pair[0], pair[1]


def _image_metadata(row: Mapping[str, Any], length: int) -> tuple[list[Any], dict[str, Any]]:
    """What is known of each place, and how the row said it, where not as OBELICS does."""
    value = row.get("metadata")
    if value is None:
        return [None] * length, {"metadata": "null" if "metadata" in row else "absent"}
    known = as_list(read_json(value, field="metadata") if isinstance(value, str | bytes) else value, "metadata")
    if len(known) != length:
        raise RecordError(f"has {len(known)} places, texts {length}", reason="lists", field="metadata")
    return known, {} if isinstance(value, str | bytes) else {"metadata": "plain"}


def _general_metadata(row: Mapping[str, Any], form: dict[str, Any]) -> dict[str, Any]:
    value = row.get("general_metadata")
    if value is None:
        form["general_metadata"] = "null" if "general_metadata" in row else "absent"
        return {}
    if isinstance(value, str | bytes):
        return as_mapping(read_json(value, field="general_metadata"), "general_metadata")
    form["general_metadata"] = "plain"
    return as_mapping(value, "general_metadata")


def _segment(number: int, image: Any, text: Any, known: Any) -> Segment:
    if (image is None) == (text is None):
        problem = "has a text and an image" if text is not None else "has neither text nor image"
        raise RecordError(f"{problem}, wanted one of them", reason="slot", field=f"texts[{number}]")
    value, field = (text, "texts") if image is None else (image, "images")
    if not isinstance(value, str):
        raise RecordError(f"is {told(value)}, wanted a text", reason="field", field=f"{field}[{number}]")
    if image is None:
        return TextSegment(value)
    if not isinstance(known, dict):
        return ImageSegment(url=value)
    rest = dict(known)
    alt = rest.pop("alt_text") if isinstance(rest.get("alt_text"), str) else None
    return ImageSegment(url=value, alt=alt, metadata=rest)


def _described(segment: Segment) -> dict[str, Any] | None:
    """What `metadata` has at the place of a segment, by the rule."""
    if not isinstance(segment, ImageSegment):
        return None
    alt = {} if segment.alt is None else {"alt_text": segment.alt}
    return {**segment.metadata, **alt} or None


def _check(segment: Segment, number: int) -> None:
    if isinstance(segment, TextSegment):
        return
    is_image = isinstance(segment, ImageSegment)
    if not is_image or segment.url is None or segment.data is not None:
        what = "an image without an address, or with data" if is_image else "a clip"
        raise ValueError(
            f"segment {number} is {what}, which a row of OBELICS has no place for; a shard of to_members keeps it"
        )


def _as_it_was(column: str, value: Any, form: Mapping[str, Any]) -> dict[str, Any]:
    """A column as JSON, or in the way that the row had it; what has come since is not lost for that."""
    way = form.get(column)
    has_some = any(part is not None for part in value) if isinstance(value, list) else bool(value)
    if way == "plain":
        return {column: value}
    if way in ("null", "absent") and not has_some:
        return {} if way == "absent" else {column: None}
    return {column: write_json(value)}
