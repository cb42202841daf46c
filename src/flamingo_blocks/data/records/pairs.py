"""Pairs of an image or a clip and its text, as img2dataset and its like keep them."""

from collections.abc import Mapping

from flamingo_blocks.data.documents import ClipSegment, ImageSegment, InterleavedDocument, MediaSegment, TextSegment
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.media_kind import CLIPS, IMAGES, UNKNOWN, media_suffix
from flamingo_blocks.data.records.read_json import as_mapping, check_json, read_json, write_json

SUFFIX = "member"  # in the metadata of the item: the ending of its member, where the bytes tell another


def from_pair(members: Mapping[str, bytes]) -> InterleavedDocument:
    """Read the members of a pair: an image or a clip, its text, and what is known of it.

    Args:
        members: Bytes by ending: one of `jpg`, `png`, `webp`, `mp4` and their like; `txt`; `json`. A pair without
            `txt` is the item alone. Other members are not read.

    Returns:
        The item, then its text; the metadata are those of `json`, whose `url` is that of the item.

    Raises:
        RecordError: If there is no item or more than one, or `json` or `txt` is broken.

    Example:
        >>> document = from_pair({"jpg": b"...", "txt": b"A cat.", "json": b'{"url": "u", "width": 640}'})
        >>> document.text, document.media[0].url, document.metadata
        ('A cat.', 'u', {'width': 640})
    """
    media = [suffix for suffix in members if suffix in IMAGES or suffix in CLIPS]
    if len(media) != 1:
        problem = f"has the members {', '.join(members)}, wanted one image or clip among them"
        raise RecordError(problem, reason="members")
    metadata = as_mapping(read_json(members["json"], field="json"), "json") if "json" in members else {}
    url = metadata.pop("url") if isinstance(metadata.get("url"), str) else None
    suffix, data = media[0], members[media[0]]
    kind = ClipSegment if suffix in CLIPS else ImageSegment
    item = kind(url=url, data=data, metadata={} if media_suffix(data) == suffix else {SUFFIX: suffix})
    text = _text(members)
    return InterleavedDocument((item,) if text is None else (item, TextSegment(text)), metadata)


def to_pair(document: InterleavedDocument) -> dict[str, bytes]:
    """Write a document of an image or a clip and its text as the members of a pair.

    Args:
        document: The item with its bytes, then at most one text.

    Returns:
        Bytes by ending, for a `Sample`; there is no `json` where nothing is known.

    Raises:
        ValueError: If the document is no such pair, or has what a pair has no place for. `to_members` keeps it.

    Example:
        >>> pair = InterleavedDocument.from_parts([ImageSegment(url="u", data=b"GIF89a..."), "A cat."])
        >>> to_pair(pair)
        {'gif': b'GIF89a...', 'txt': b'A cat.', 'json': b'{"url":"u"}'}
    """
    kinds = [type(segment) for segment in document.segments]
    if kinds[:1] not in ([ImageSegment], [ClipSegment]) or kinds[1:] not in ([], [TextSegment]):
        names = ", ".join(kind.__name__ for kind in kinds) or "no segments"
        raise ValueError(f"document has {names}, wanted an image or a clip, then at most one text; to_members keeps it")
    item = document.media[0]
    suffix = _suffix(item)
    metadata = dict(document.metadata)
    if item.url is not None:
        if "url" in metadata:
            raise ValueError("document and item both have an address, and a pair has one place; to_members keeps both")
        metadata["url"] = item.url
    check_json(metadata, "metadata")
    members = {suffix: item.data}
    if len(kinds) == 2:
        try:
            members["txt"] = document.text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text cannot be written as UTF-8: {error}; to_members keeps it") from error
    if metadata:
        members["json"] = write_json(metadata).encode()
    return members


def _text(members: Mapping[str, bytes]) -> str | None:
    if "txt" not in members:
        return None
    try:
        return members["txt"].decode()
    except UnicodeDecodeError as error:
        raise RecordError(f"is no UTF-8: {error}", reason="text", field="txt") from error


def _suffix(item: MediaSegment) -> str:
    allowed = CLIPS if isinstance(item, ClipSegment) else IMAGES
    if not isinstance(item.data, bytes):
        kind = type(item.data).__name__
        raise ValueError(f"data of the item is of type {kind}, wanted the bytes of a file")  # noqa: TRY004 - a bad pair
    others = item.metadata.keys() - {SUFFIX}
    if item.alt is not None or others:
        what = "alt" if item.alt is not None else f"metadata {sorted(others)}"
        raise ValueError(f"the item has {what}, which a pair has no place for; to_members keeps it")
    suffix: str = item.metadata.get(SUFFIX, media_suffix(item.data))
    if suffix not in allowed:
        what = "bytes that begin like nothing known" if suffix == UNKNOWN else f"the ending {suffix!r}"
        raise ValueError(f"the item has {what}, wanted one of {', '.join(sorted(allowed))}")
    return suffix
