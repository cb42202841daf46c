"""A sample of a shard: members of one key, each the bytes of a file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

WRITTEN_KEY = re.compile(r"[A-Za-z0-9_-]{1,200}")
# webdataset passes over a name that begins and ends with two underscores.
WRITTEN_SUFFIX = re.compile(r"(?!.*__$)[a-z0-9_-]{1,40}(?:\.[a-z0-9_-]{1,40}){0,4}")


@dataclass(frozen=True)
class Sample:
    """What a shard holds under one key.

    Args:
        key: Name that its members share.
        members: Bytes of each member, by what follows the key and a dot in its name: `"json"`, `"0.jpg"`.

    Example:
        >>> Sample("000000007", {"jpg": b"...", "txt": b"A cat."}).members["txt"]
        b'A cat.'
    """

    key: str
    members: Mapping[str, bytes]
