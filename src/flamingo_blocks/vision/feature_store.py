"""Patch features computed once and kept in files, refused by a tower that computes others."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks._version import __version__
from flamingo_blocks.errors import CheckpointError, ShapeError
from flamingo_blocks.vision.tower import PatchTokens, VisionTower, floating_state

FORMAT_VERSION = 1
INDEX = "features.json"
# How far features of one tower may lie apart on two machines, relative to their length; and with weights in bfloat16,
# where GELU and QuickGELU are no longer told apart. Another layer, norm, mean or fit is far beyond both.
_SAME, _SAME_HALVED = 2e-3, 3e-2


class FeatureStore(Mapping[str, Tensor]):
    """Patch features by key, read from the files that `save_features` wrote.

    Use it to train without running the tower in every epoch. It stands in for `tower.preprocess`:
    `FlamingoProcessor(features=store)` gives batches of features, and a `Flamingo` takes them with `vision=None` or
    beside its tower. Files are mapped into memory: what is not asked for is not read.

    Args:
        directory: Where `save_features` wrote.
        tower: The tower that will be used beside the features, or was: it is run on one picture, and refused if it
            computes other features than the files hold.

    Attributes:
        dim: Width of a feature (`vision_dim`).
        grid: Rows and columns of the tower's patches.
        tower: How the tower was called and how it prepared images, in words.

    Raises:
        CheckpointError: If a file is missing or damaged, or the tower is another one.
        KeyError: When asked for a key that was not saved.
        MissingDependencyError: If safetensors is not installed.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.vision import CallableTower
        >>> tower = CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=16)
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     store = save_features(directory, [("cat", torch.rand(3, 20, 30))], tower=tower)
        ...     store["cat"].shape  # frames patches vision_dim
        torch.Size([1, 16, 8])
    """

    def __init__(self, directory: str | os.PathLike[str], *, tower: VisionTower | None = None) -> None:
        self.directory = Path(directory)
        index = _read_index(self.directory)
        try:
            self.tower: dict[str, Any] = index["tower"]
            self.dim: int = self.tower["dim"]
            self.grid: tuple[int, int] = (self.tower["grid"][0], self.tower["grid"][1])
            self._fingerprint: str = index["fingerprint"]
            self._shard_of: dict[str, str] = {key: shard for shard, keys in index["shards"].items() for key in keys}
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.directory / INDEX} is damaged: {error!r}; save the features again") from error
        self._open: dict[str, Any] = {}
        if tower is not None:
            self.check(tower)

    def __getitem__(self, key: str) -> Float[Tensor, "frames patches vision_dim"]:
        return self._read(self._shard_of[key], key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shard_of)

    def __len__(self) -> int:
        return len(self._shard_of)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # open files do not travel to the workers of a loader

    def _read(self, file: str, key: str) -> Tensor:
        """One tensor of a file, which stays open."""
        safetensors = require("safetensors", used_by="FeatureStore", extra="vision")
        try:
            if file not in self._open:
                self._open[file] = safetensors.safe_open(self.directory / file, framework="pt")
            found: Tensor = self._open[file].get_tensor(key)
        except Exception as error:  # safetensors raises classes of its own, and OSError
            raise CheckpointError(
                f"{self.directory / file} is missing or damaged: {error}; open the store again if features were saved "
                "here since, or save them again"
            ) from error
        return found

    def check(self, tower: VisionTower) -> None:
        """Refuse a tower that computes other features.

        Args:
            tower: Run on one picture, in the state it is in.

        Raises:
            CheckpointError: If its features differ in shape or value, or what the other tower gave is missing.
        """
        stored = self._read(self._fingerprint, "tokens")
        found = fingerprint(tower)
        weight = floating_state(tower)
        dtype = str(torch.float32 if weight is None else weight.dtype)
        halved = {dtype, self.tower["dtype"]} != {"torch.float32"}
        names = f"{self.tower['class']} with {self.tower['preprocess']}"
        if found.shape != stored.shape:
            raise CheckpointError(
                f"tower gives features of shape {list(found.shape)} of the test picture, those in {self.directory} "
                f"have {list(stored.shape)}; they are of {names}"
            )
        apart = float((found - stored).norm() / stored.norm().clamp_min(1e-12))
        if not apart <= (_SAME_HALVED if halved else _SAME):
            raise CheckpointError(
                f"tower computes other features than {self.directory} holds: {apart:.2g} apart on the test picture, "
                f"relative to their length; they are of {names}. Weights, layer, norm, image size and preprocessing "
                "must be the same"
            )


def save_features(
    directory: str | os.PathLike[str],
    items: Iterable[tuple[str, Any]],
    *,
    tower: VisionTower,
    dtype: torch.dtype | None = None,
    frames_per_call: int = 32,
    shard_bytes: int = 2**30,
) -> FeatureStore:
    """Run a tower over images and clips and keep their patch features.

    They are the patch tokens, not a pooled vector, which is what the resampler needs: 256 patches of 1024 values take
    half a megabyte an image in bfloat16.

    Args:
        directory: Made if it is missing. Features that are there already are replaced in the end: until then, and if
            this fails, they stay as they were; a store that was opened before reads the files it had read from.
        items: Key and image, or key and list of frames. Keys are what the data name the item by, such as its URL.
        tower: Encodes frames; put it into eval mode, and on the device where it shall run.
        dtype: Of the stored features; as the tower gives them when None.
        frames_per_call: Frames given to the tower at once, as long as their sizes are equal.
        shard_bytes: Size at which a new file is begun.

    Returns:
        The store, to be read from.

    Raises:
        TypeError: If `items` does not give pairs whose key is a string.
        ValueError: If `dtype` is not of floats; if a key comes twice, an image cannot be read or prepared, a clip has
            no frames or frames of several sizes, or a feature is not finite; the message names the key.
        MissingDependencyError: If safetensors is not installed.

    Example:
        >>> from flamingo_blocks.vision import CallableTower
        >>> tower = CallableTower(torch.nn.Conv2d(3, 8, 4, stride=4), image_size=16)
        >>> pictures = [("https://a.org/cat.jpg", torch.rand(3, 20, 30)), ("jump.mp4", [torch.rand(3, 16, 16)] * 5)]
        >>> store = save_features("features", pictures, tower=tower, dtype=torch.bfloat16)
        >>> store["jump.mp4"].shape, store["jump.mp4"].dtype  # frames patches vision_dim
        (torch.Size([5, 16, 8]), torch.bfloat16)
    """
    if dtype is not None and not getattr(dtype, "is_floating_point", False):  # a word has none
        raise ValueError(
            f"dtype is {dtype!r}, wanted a dtype of floats, such as torch.bfloat16, or None for the tower's"
        )
    safetensors = require("safetensors.torch", used_by="save_features", extra="vision")
    folder, mark = Path(directory), secrets.token_hex(4)  # no file of another save has its name
    folder.mkdir(parents=True, exist_ok=True)
    beside, last = folder / f"{INDEX}.{mark}", f"tower-{mark}.safetensors"
    shards: dict[str, list[str]] = {}
    try:
        for kept in _shards(_encoded(items, tower, frames_per_call), dtype, shard_bytes):
            name = f"features-{mark}-{len(shards):05d}.safetensors"
            shards[name] = list(kept)
            safetensors.save_file(kept, folder / name)
        safetensors.save_file({"tokens": fingerprint(tower).contiguous()}, folder / last)
        versions = {"format_version": FORMAT_VERSION, "flamingo_blocks": __version__}
        beside.write_text(
            json.dumps({**versions, "tower": _words(tower), "fingerprint": last, "shards": shards}) + "\n"
        )
        replaced = _files_of(folder)
        beside.replace(folder / INDEX)
    except BaseException:
        _remove([folder / name for name in (*shards, last)] + [beside])
        raise
    _remove(replaced)
    return FeatureStore(folder)


def fingerprint(tower: VisionTower) -> Float[Tensor, "patches vision_dim"]:
    """What a tower makes of one picture that is always the same: it tells towers apart, whatever they differ in."""
    rows, columns = torch.arange(61)[:, None], torch.arange(97)[None]
    # Wide, so that ways to fit an image differ; slopes and fine grain in every channel, so that filters and means do.
    picture = torch.stack([rows * 4 + 0 * columns, columns * 2 + 0 * rows, rows * columns * 7]) % 256
    (features,) = _run(tower, [tower.preprocess(picture.to(torch.uint8))])
    return features.float().cpu()


def _shards(
    features: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None, most: int
) -> Iterator[dict[str, Float[Tensor, "frames patches vision_dim"]]]:
    """Features as they are stored, as many at a time as make one file."""
    known: set[str] = set()
    kept: dict[str, Tensor] = {}
    kept_bytes = 0
    for key, found in features:
        if key in known:
            raise ValueError(f"the key {key!r} comes twice; give every item a key of its own")
        known.add(key)
        kept[key] = found.to("cpu", dtype or found.dtype).contiguous()
        if not kept[key].isfinite().all():
            raise ValueError(f"the features of {key!r} are not finite in {kept[key].dtype}; look at image and tower")
        kept_bytes += kept[key].nbytes
        if kept_bytes >= most:
            yield kept
            kept, kept_bytes = {}, 0
    if kept:
        yield kept


def _files_of(folder: Path) -> list[Path]:
    """The files of the store that stands in a folder; none where no store can be read."""
    try:
        index = _read_index(folder)
        return [folder / Path(name).name for name in (*index["shards"], index["fingerprint"])]
    except (CheckpointError, KeyError, TypeError):
        return []


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):  # open elsewhere, where that forbids it; nothing depends on it
            file.unlink(missing_ok=True)


def _encoded(
    items: Iterable[tuple[str, Any]], tower: VisionTower, most: int
) -> Iterator[tuple[str, Float[Tensor, "frames patches vision_dim"]]]:
    """Features item by item; items whose frames have one size share a call."""
    waiting: list[tuple[str, list[Tensor]]] = []
    for place, pair in enumerate(items):
        key, item = _checked_pair(place, pair)
        frames = _prepared(key, item, tower)
        if len({frame.shape for frame in frames}) != 1:
            raise ShapeError(f"the clip {key!r} has frames of {len({f.shape for f in frames})} sizes, wanted one size")
        number = sum(len(others) for _, others in waiting) + len(frames)
        if waiting and (number > most or waiting[0][1][0].shape != frames[0].shape):
            yield from _flushed(waiting, tower, most)
            waiting = []
        waiting.append((key, frames))
    if waiting:
        yield from _flushed(waiting, tower, most)


def _prepared(key: str, item: Any, tower: VisionTower) -> list[Tensor]:
    try:
        return [tower.preprocess(frame) for frame in (item if isinstance(item, list | tuple) else [item])]
    except Exception as error:  # whatever a file or a preprocessing comes to
        raise ValueError(
            f"the tower cannot prepare the image of {key!r}: {type(error).__name__}: {error}; leave it out, or mend it"
        ) from error


def _flushed(waiting: list[tuple[str, list[Tensor]]], tower: VisionTower, most: int) -> Iterator[tuple[str, Tensor]]:
    frames = [frame for _, own in waiting for frame in own]
    features = [found for start in range(0, len(frames), most) for found in _run(tower, frames[start : start + most])]
    start = 0
    for key, own in waiting:
        yield key, torch.stack(features[start : start + len(own)])
        start += len(own)


def _checked_pair(place: int, pair: Any) -> tuple[str, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
        raise TypeError(
            f"items gives {_kind(pair)} at place {place}, wanted pairs of key and image: [('cat', image), ...], or "
            "the items() of a dict"
        )
    return pair[0], pair[1]


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value[:3])}"
    return f"the string {value[:40]!r}" if isinstance(value, str) else f"a {type(value).__name__}"


@torch.no_grad()
def _run(tower: VisionTower, frames: list[Tensor]) -> list[Float[Tensor, "patches vision_dim"]]:
    """Features of frames of one size, each without the patches that show nothing."""
    weight = floating_state(tower)
    pixels = torch.stack(frames)
    found: PatchTokens = tower(pixels if weight is None else pixels.to(weight.device))
    if found.valid is None:
        return list(found.tokens)
    return [tokens[valid] for tokens, valid in zip(found.tokens, found.valid, strict=True)]


def _words(tower: VisionTower) -> dict[str, Any]:
    weight = floating_state(tower)
    return {
        "class": type(tower).__name__,
        "preprocess": repr(tower.preprocess),
        "dim": tower.dim,
        "grid": list(tower.grid),
        "dtype": str(torch.float32 if weight is None else weight.dtype),
    }


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; wanted a folder that save_features wrote to its end")
    try:
        index = json.loads(path.read_text())
    except ValueError as error:  # no text, or no JSON
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(index, dict) or index.get("format_version") != FORMAT_VERSION:
        version = index.get("format_version") if isinstance(index, dict) else None
        raise CheckpointError(f"{path} has format version {version!r}, this library reads {FORMAT_VERSION}")
    return index
