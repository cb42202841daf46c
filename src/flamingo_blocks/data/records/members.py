"""Our own records: one JSON with the document, and one member for each image, clip or frame."""

from collections.abc import Mapping
from typing import Any

from flamingo_blocks.data.documents import (
    ClipSegment,
    ImageSegment,
    InterleavedDocument,
    MediaSegment,
    Segment,
    TextSegment,
)
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.media_kind import media_suffix
from flamingo_blocks.data.records.read_json import as_list, as_mapping, check_json, read_json, told, write_json

VERSION = 1
MARK = "flamingo_blocks"  # the entry that tells our records, and their version
LISTS = ("texts", "images", "clips")


def to_members(document: InterleavedDocument) -> dict[str, bytes]:
    """Write a document as the members of a sample: `json`, and the bytes of its items as `0.jpg`, `3.mp4`.

    `json` has the lists `texts`, `images` and `clips`, with one value and two `null` at each place, as OBELICS has them
    for two. An item is `{"url", "alt", "member", "metadata"}` as far as it is known; a clip of frames names its
    `frames`. Bytes are kept as they are, and their member ends in what they are.

    Args:
        document: Any document whose metadata JSON can hold, and whose data are bytes, or clips of frames of bytes.

    Returns:
        Bytes by name, for a `Sample`.

    Raises:
        ValueError: If data are no bytes, or JSON cannot hold the metadata.

    Example:
        >>> document = InterleavedDocument.from_parts([ImageSegment(data=b"GIF89a..."), "A cat."])
        >>> members = to_members(document)
        >>> list(members)
        ['json', '0.gif']
        >>> print(members["json"].decode())
        {"flamingo_blocks":1,"texts":[null,"A cat."],"images":[{"member":"0.gif"},null],"clips":[null,null]}
    """
    data: dict[str, bytes] = {}
    rows: dict[str, list[Any]] = {name: [None] * len(document.segments) for name in LISTS}
    for number, segment in enumerate(document.segments):
        if isinstance(segment, TextSegment):
            rows["texts"][number] = segment.text
        else:
            name = "clips" if isinstance(segment, ClipSegment) else "images"
            rows[name][number] = _described(segment, number, data)
    check_json(document.metadata, "metadata")
    metadata = {"metadata": document.metadata} if document.metadata else {}
    written = write_json({MARK: VERSION, **rows, **metadata})
    return {"json": written.encode(), **data}


def from_members(members: Mapping[str, bytes]) -> InterleavedDocument:
    """Read the members that `to_members` wrote.

    Args:
        members: Bytes by name.

    Raises:
        RecordError: If the JSON is broken or of a newer version, a place has none or two values, or a member is
            missing.

    Example:
        >>> document = InterleavedDocument.from_parts([ImageSegment(url="u", data=b"GIF89a..."), "A cat."])
        >>> from_members(to_members(document)) == document
        True
    """
    if "json" not in members:
        raise RecordError(f"has the members {', '.join(members)}, wanted json", reason="members")
    return from_record(as_mapping(read_json(members["json"], field="json"), "json"), members)


def from_record(record: Mapping[str, Any], members: Mapping[str, bytes]) -> InterleavedDocument:
    """Read one of our records whose JSON is parsed.

    Args:
        record: The JSON.
        members: Bytes by name.
    """
    if record.get(MARK) != VERSION:
        problem = f"is {told(record.get(MARK))}, wanted {VERSION}, the version that is read here"
        raise RecordError(problem, reason="version", field=MARK)
    rows = {name: as_list(record.get(name), name) for name in LISTS}
    length = len(rows["texts"])
    for name, values in rows.items():
        if len(values) != length:
            raise RecordError(f"has {len(values)} places, texts {length}", reason="lists", field=name)
    segments = tuple(_segment(number, rows, members) for number in range(length))
    return InterleavedDocument(segments, as_mapping(record.get("metadata", {}), "metadata"))


def _described(segment: MediaSegment, number: int, data: dict[str, bytes]) -> dict[str, Any]:
    check_json(segment.metadata, f"metadata of segment {number}")
    known: dict[str, Any] = {}
    if segment.url is not None:
        known["url"] = segment.url
    if segment.alt is not None:
        known["alt"] = segment.alt
    if isinstance(segment, ClipSegment) and isinstance(segment.data, list | tuple):
        known["frames"] = [_keep(frame, f"{number}.{k}", data) for k, frame in enumerate(segment.data)]
    elif segment.data is not None:
        known["member"] = _keep(segment.data, str(number), data)
    if segment.metadata:
        known["metadata"] = segment.metadata
    return known


def _keep(item: Any, name: str, data: dict[str, bytes]) -> str:
    if not isinstance(item, bytes):
        raise ValueError(  # noqa: TRY004 - a document that cannot be written, whatever the type
            f"data of segment {name} is of type {type(item).__name__}, wanted the bytes of a file; encode it first"
        )
    member = f"{name}.{media_suffix(item)}"
    data[member] = item
    return member


def _segment(number: int, rows: Mapping[str, list[Any]], members: Mapping[str, bytes]) -> Segment:
    filled = [name for name in LISTS if rows[name][number] is not None]
    if len(filled) != 1:
        problem = f"place {number} has {' and '.join(filled) or 'nothing'}, wanted one of {', '.join(LISTS)}"
        raise RecordError(problem, reason="slot", field=f"texts[{number}]")
    name, field = filled[0], f"{filled[0]}[{number}]"
    value = rows[name][number]
    if name == "texts":
        return TextSegment(_text(value, field) or "")
    known = as_mapping(value, field)
    kind = ClipSegment if name == "clips" else ImageSegment
    return kind(
        url=_text(known.get("url"), f"{field}.url"),
        data=_data(known, field, members),
        alt=_text(known.get("alt"), f"{field}.alt"),
        metadata=as_mapping(known.get("metadata", {}), f"{field}.metadata"),
    )


def _data(known: Mapping[str, Any], field: str, members: Mapping[str, bytes]) -> bytes | tuple[bytes, ...] | None:
    if "frames" in known:
        frames = as_list(known["frames"], f"{field}.frames")
        return tuple(_member(name, f"{field}.frames[{k}]", members) for k, name in enumerate(frames))
    return _member(known["member"], f"{field}.member", members) if "member" in known else None


def _member(name: Any, field: str, members: Mapping[str, bytes]) -> bytes:
    if not isinstance(name, str) or name not in members:
        raise RecordError(f"names {told(name)}, which is not there", reason="members", field=field)
    return members[name]


def _text(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise RecordError(f"is {told(value)}, wanted a text", reason="field", field=field)
    return value
