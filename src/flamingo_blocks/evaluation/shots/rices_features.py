"""What the pictures of items show, as one vector an item."""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment
from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.data.video import clip_images
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.same_picture import content_digest, tensor_bytes
from flamingo_blocks.vision import VisionTower
from flamingo_blocks.vision.feature_store import fingerprint
from flamingo_blocks.vision.tower import floating_state

Medium = ImageSegment | ClipSegment
Reader = Callable[[Medium], Sequence[Any] | Dropped]
_UNNAMED = "\0"  # what the key of a picture begins with that is known in this process alone
_log = logging.getLogger(__name__)


def read_images(medium: Medium) -> Sequence[Any] | Dropped:
    """The images of a medium: an image, or the frames of a clip.

    Args:
        medium: With its data.
    """
    if isinstance(medium, ClipSegment):
        return clip_images(medium)
    return Dropped("not_fetched", medium.url or "") if medium.data is None else (medium.data,)


def rices_features(
    items: Iterable[TaskItem],
    *,
    tower: VisionTower,
    reader: Reader = read_images,
    batch_size: int = 32,
    cache: Path | None = None,
) -> Float[Tensor, "items dim"]:
    """One vector of length 1 for each item: the mean of its patch tokens, of the frames of a clip, of its pictures.

    Args:
        items: Each with an image or clip at least.
        tower: The frozen tower of the model, or any other, on the device where it shall run.
        reader: Gives the images of a medium, as `tower.preprocess` takes them, or why there are none.
        batch_size: Frames given to the tower at once.
        cache: A folder where vectors are kept, one file a tower. A picture is known there by its `url` and the size of
            its file, or by its content where it is no file; a tower by its weights and by what it makes of a test
            picture. With another `reader`, take another folder.

    Returns:
        The vectors in float32 on the CPU, in the order of the items.

    Raises:
        ValueError: If `batch_size` is less than 1, or the tower is in training mode.
        EvaluationError: If an item has no picture, one cannot be read, or its vector is zero or not finite.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> tower = CallableTower(nn.Conv2d(3, 8, 4, stride=4), image_size=16)
        >>> item = TaskItem(id="1", media=(ImageSegment(data=torch.rand(3, 20, 30)),))
        >>> rices_features([item], tower=tower).shape
        torch.Size([1, 8])
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, wanted 1 or more")
    if getattr(tower, "training", False):
        raise ValueError("tower is in training mode, where features may be drawn at random; call tower.eval()")
    items = list(items)
    for item in items:
        if not item.media:
            raise EvaluationError(f"item {item.id!r} has no image or clip, so none is like it; take RandomShots")
    kept = _Kept(None if cache is None else cache / f"rices-{_name_of(tower)}.pt")
    media = {kept.key(medium): (item, medium) for item in items for medium in item.media}
    missing = {key: found for key, found in media.items() if key not in kept.vectors}
    for key, vector in _encoded(missing.items(), tower, reader, batch_size):
        kept.vectors[key] = vector
    if missing:
        kept.write()
    rows = [torch.stack([kept.vectors[kept.key(medium)] for medium in item.media]).mean(0) for item in items]
    return _of_length_one(rows, items) if rows else torch.zeros(0, tower.dim)


def _of_length_one(rows: list[Tensor], items: list[TaskItem]) -> Float[Tensor, "items dim"]:
    found = torch.stack(rows).double()
    lengths = found.norm(dim=1, keepdim=True)
    bad = (~(lengths.isfinite() & (lengths > 0))).nonzero()
    if len(bad):
        item = items[int(bad[0, 0])]
        raise EvaluationError(
            f"the features of item {item.id!r} are zero or not finite (length {float(lengths[bad[0, 0]]):.3g}); "
            "look at its picture and at the tower"
        )
    units: Tensor = found / lengths
    return units.float()


class _Kept:
    """Vectors by picture, in memory and in a file."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._keys: dict[int, tuple[Medium, str]] = {}
        self.vectors: dict[str, Tensor] = {} if file is None else _read(file)

    def key(self, medium: Medium) -> str:
        """What a picture is known by; asked often, and told from its content once."""
        if id(medium) not in self._keys:
            self._keys[id(medium)] = (medium, _key(medium))
        return self._keys[id(medium)][1]

    def write(self) -> None:
        """Keep what there is, beside what other processes have kept meanwhile."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        own = {key: vector for key, vector in self.vectors.items() if not key.startswith(_UNNAMED)}
        vectors = {**_read(self._file), **own}
        if not vectors:
            return
        with atomic_file(self._file) as file:
            torch.save({"keys": list(vectors), "vectors": torch.stack(list(vectors.values()))}, file)


def _read(file: Path) -> dict[str, Tensor]:
    """Vectors of a file; none of one that is damaged, for they can be computed again."""
    if not file.is_file():
        return {}
    try:
        found = torch.load(file, weights_only=True)
        keys: list[str] = found["keys"]
        return dict(zip(keys, found["vectors"], strict=True))
    except (EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError) as error:
        _log.warning("%s is damaged, and its features are computed again: %s", file, error)
        return {}


def _key(medium: Medium) -> str:
    data = medium.data
    if isinstance(data, str | Path):
        try:
            return f"{medium.url} {data if medium.url is None else ''} {Path(data).stat().st_size}"
        except (OSError, ValueError):  # the reader tells what is wrong with it
            return f"{medium.url} {data}"
    try:
        return f"{medium.url} {'' if data is None else content_digest(data).hex()}"
    except (OSError, ValueError):  # no hash can be made of it
        return f"{_UNNAMED}{id(data)}"


def _name_of(tower: VisionTower) -> str:
    """A hash of the weights, and of what the tower makes of one picture, whatever else decides that."""
    digest = sha256()
    state = tower.state_dict() if isinstance(tower, nn.Module) else {}
    for name, tensor in sorted({**state, "shown": fingerprint(tower)}.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()[:32]


def _encoded(
    media: Iterable[tuple[str, tuple[TaskItem, Medium]]], tower: VisionTower, reader: Reader, batch_size: int
) -> Iterator[tuple[str, Float[Tensor, " dim"]]]:
    """Vectors of pictures; frames of one size share a call of the tower."""
    waiting: list[tuple[str, list[Tensor]]] = []
    for key, (item, medium) in media:
        frames = _frames(item, medium, tower, reader)
        number = sum(len(others) for _, others in waiting) + len(frames)
        if waiting and (number > batch_size or waiting[0][1][0].shape != frames[0].shape):
            yield from _flushed(waiting, tower, batch_size)
            waiting = []
        waiting.append((key, frames))
    if waiting:
        yield from _flushed(waiting, tower, batch_size)


def _frames(item: TaskItem, medium: Medium, tower: VisionTower, reader: Reader) -> list[Tensor]:
    told = f"item {item.id!r}: {medium.url or 'a picture without a url'}"
    try:
        images = reader(medium)
        frames = [] if isinstance(images, Dropped) else [tower.preprocess(image) for image in images]
    except ImportError:  # a package that is missing is no fault of the picture
        raise
    except Exception as error:  # whatever a file or a preprocessing comes to
        raise EvaluationError(f"{told} cannot be read: {one_line(error)}") from error
    if isinstance(images, Dropped):
        raise EvaluationError(f"{told} cannot be read: {images.reason}: {images.detail}")
    if not frames:
        raise EvaluationError(f"{told} has no frames, wanted one at least")
    if len({frame.shape for frame in frames}) != 1:
        raise EvaluationError(f"{told} has frames of {len({f.shape for f in frames})} sizes, wanted one")
    return frames


@torch.no_grad()
def _flushed(
    waiting: list[tuple[str, list[Tensor]]], tower: VisionTower, batch_size: int
) -> Iterator[tuple[str, Float[Tensor, " dim"]]]:
    frames = torch.stack([frame for _, own in waiting for frame in own])
    weight = floating_state(tower)
    pooled = []
    for start in range(0, len(frames), batch_size):
        pixels = frames[start : start + batch_size]
        found = tower(pixels if weight is None else pixels.to(weight.device))
        tokens = found.tokens.float()
        if found.valid is None:
            pooled.append(tokens.mean(1).cpu())
        else:  # what shows nothing may be NaN
            total = tokens.masked_fill(~found.valid[..., None], 0).sum(1)
            pooled.append((total / found.valid.sum(1, keepdim=True)).cpu())
    vectors = iter(torch.cat(pooled))
    for key, own in waiting:
        yield key, torch.stack(list(islice(vectors, len(own)))).mean(0)
