"""Samples and rows of any kind that is known."""

from collections.abc import Mapping
from typing import Any

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records.media_kind import CLIPS, IMAGES
from flamingo_blocks.data.records.members import MARK, from_record
from flamingo_blocks.data.records.mmc4 import from_mmc4
from flamingo_blocks.data.records.obelics import from_obelics
from flamingo_blocks.data.records.pairs import from_pair
from flamingo_blocks.data.records.read_json import as_mapping, read_json


def read_sample(key: str, members: Mapping[str, bytes]) -> InterleavedDocument:
    """Read a sample of a shard, whatever its kind: ours, a pair, or a row of MMC4 or OBELICS as JSON.

    Args:
        key: Named in the error.
        members: Bytes by what follows the key and a dot in their names.

    Raises:
        RecordError: If it is of no such kind, or broken; the error names the key and the field.

    Example:
        >>> read_sample("000000007", {"jpg": b"...", "txt": b"A cat."}).text
        'A cat.'
    """
    try:
        if any(suffix in IMAGES or suffix in CLIPS for suffix in members):
            return from_pair(members)
        if "json" in members:
            return read_row(as_mapping(read_json(members["json"], field="json"), "json"), members)
    except RecordError as error:
        raise error.at(record=key) from error.__cause__
    problem = f"has the members {', '.join(members)}, wanted json, or an image or a clip with its txt"
    raise RecordError(problem, reason="members", record=key)


def read_row(row: Mapping[str, Any], members: Mapping[str, bytes] | None = None) -> InterleavedDocument:
    """Read a row of ours, of MMC4 or of OBELICS, by what it has.

    Args:
        row: The row.
        members: What it may name, for one of ours.

    Raises:
        RecordError: If it is of no such kind, or broken.

    Example:
        >>> read_row({"texts": ["a", "b"], "images": [None, None]}).text
        'ab'
    """
    if MARK in row:
        return from_record(row, members or {})
    if "text_list" in row or "image_info" in row:
        return from_mmc4(row)
    if "texts" in row or "images" in row:
        return from_obelics(row)
    problem = f"has the fields {', '.join(map(str, row))[:200]}, wanted texts and images, or text_list and image_info"
    raise RecordError(problem, reason="field")
