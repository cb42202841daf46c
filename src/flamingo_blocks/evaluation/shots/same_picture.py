"""Whether two items show the same picture."""

import ctypes
from collections.abc import Hashable
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor

from flamingo_blocks.evaluation.item import TaskItem


class SamePicture:
    """Tells whether one item would give away another: by id, cluster, name or content of an image or clip.

    Files are compared by their sizes first, and read only where two have one size. What was read of a picture is kept,
    so pictures must not change in between.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, _Content] = {}

    def __call__(self, left: TaskItem, right: TaskItem) -> bool:
        """Whether two items have the same id, cluster, name of a picture, or content of one.

        Args:
            left: An item.
            right: Another.
        """
        if left is right or left.id == right.id or left.cluster == right.cluster:
            return True
        urls = {medium.url for medium in left.media if medium.url is not None}
        if any(medium.url in urls for medium in right.media):
            return True
        return any(self._same(one.data, other.data) for one in left.media for other in right.media)

    def _same(self, left: Any, right: Any) -> bool:
        if left is None or right is None:
            return False
        one, other = self._content(left), self._content(right)
        return one.size is not None and one.size == other.size and one.digest == other.digest

    def _content(self, data: Any) -> "_Content":
        key = str(data) if isinstance(data, str | Path) else id(data)
        return self._known.setdefault(key, _Content(data))


class _Content:
    """A picture, of which size and hash are told when they are asked for; it is held, so its `id` stays its own."""

    def __init__(self, data: Any) -> None:
        self._data = data

    @cached_property
    def size(self) -> Hashable:
        return _size(self._data)

    @cached_property
    def digest(self) -> bytes:
        return content_digest(self._data)


def content_digest(data: Any) -> bytes:
    """The SHA-256 of a picture: of the bytes of a file, or of an array with its shape.

    Args:
        data: A path, bytes, an array, a tensor, a picture of pillow, or a sequence of these, as of frames.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If it is something else.
    """
    if isinstance(data, str | Path):
        data = Path(data).read_bytes()
    if isinstance(data, bytes):
        return sha256(data).digest()
    if isinstance(data, Tensor):
        digest = sha256(f"{data.dtype} {list(data.shape)} ".encode())
        digest.update(tensor_bytes(data))
    elif hasattr(data, "tobytes"):  # of numpy and pillow, and neither has to be there to tell
        digest = sha256(f"{_size(data)} ".encode())
        digest.update(data.tobytes())
    elif isinstance(data, list | tuple):
        digest = sha256(b"frames")
        for frame in data:
            digest.update(content_digest(frame))
    else:
        raise ValueError(f"a picture is a {type(data).__name__}, wanted a path, bytes, an array, or a list of these")
    return digest.digest()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor as they lie in memory.

    Args:
        tensor: Of any dtype and device.
    """
    values = tensor.detach().cpu().contiguous()
    return ctypes.string_at(values.data_ptr(), values.nbytes) if values.nbytes else b""


def _size(data: Any) -> Hashable:
    """What contents must share to be the same; None of what cannot be looked at."""
    if isinstance(data, str | Path | bytes):
        return _file_size(data)
    if isinstance(data, list | tuple):
        sizes = tuple(map(_size, data))
        return None if None in sizes else ("frames", *sizes)
    if not isinstance(data, Tensor) and not hasattr(data, "tobytes"):
        return None
    if hasattr(data, "convert"):  # a picture of pillow
        return ("picture", str(data.mode), tuple(data.size))
    return (type(data).__name__, str(getattr(data, "dtype", None)), tuple(getattr(data, "shape", ())))


def _file_size(data: str | Path | bytes) -> Hashable:
    try:
        return ("file", len(data) if isinstance(data, bytes) else Path(data).stat().st_size)
    except (OSError, ValueError):  # it is missed where it is shown
        return None
