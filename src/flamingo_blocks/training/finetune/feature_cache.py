"""Features of a frozen tower, computed once for each image or clip."""

import logging
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import accumulate, pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from flamingo_blocks._optional import require
from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.data.atomic_file import UNFINISHED
from flamingo_blocks.vision import VisionTower, encode_frames
from flamingo_blocks.vision.feature_store import fingerprint

_Item = dict[str, Tensor]  # "tokens": frames patches vision_dim; "valid": frames patches, where the tower tells it
_DIGEST = 32  # bytes
_ABANDONED_S = 3600.0  # what is not finished after so long belongs to a process that was killed
_log = logging.getLogger(__name__)


class FeatureCache:
    """Turns batches of pixels into batches of features; the tower runs on pictures that it has not seen.

    Use it for small sets that are seen in many epochs, with a frozen tower and pictures that are the same each time.
    Where items have names, `FeatureStore` does the same ahead of the run. A picture is known by its pixels. In a folder
    features outlive the run and serve several processes; another tower, or the same after a change of its weights, has
    a folder of its own in there. Loss and gradients are those without a cache bit for bit, where the tower computes a
    frame alike whatever stands beside it.

    Args:
        tower: The frozen tower of the model.
        folder: Where features are kept, one file an item; None for the memory of this process.
        max_bytes: No more is kept than that, in a folder by all processes together, but for a few items; what does not
            fit is computed each time.
        num_items: How many different images and clips the set has. If there are more, each picture is a new one, by
            augmentation, and the cache would be of no use: that is an error.
        dtype: Of what is kept, `torch.bfloat16` for half the size; None for what the tower gives.

    Attributes:
        hits: Items whose features were there.
        misses: Items that the tower ran on.

    Raises:
        ValueError: If the tower trains, or is in training mode.
        MissingDependencyError: If there is a folder, and safetensors is not installed.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> from flamingo_blocks.training import flamingo_loss
        >>> model = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, model.media_token_id, 5, 6]])
        >>> batch = FlamingoBatch(
        ...     input_ids=ids, attention_mask=ids >= 0, labels=ids, layout=model.make_layout(ids),
        ...     pixels=torch.zeros(1, 1, 3, 8, 8),
        ... )
        >>> cached = FeatureCache(model.vision)
        >>> losses = [flamingo_loss(model, cached(batch)) for _ in range(4)]
        >>> cached.hits, cached.misses, cached.hit_rate
        (3, 1, 0.75)
    """

    def __init__(
        self,
        tower: VisionTower,
        folder: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int = 2**34,
        num_items: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.tower, self.max_bytes, self.num_items, self.dtype = tower, max_bytes, num_items, dtype
        self.hits = self.misses = 0
        self.folder = None if folder is None else Path(folder)
        self._state: list[tuple[int, int]] | None = None  # where the weights lie, and how often they were changed
        self._name = ""
        self._full = False
        self._look_at_tower()

    @property
    def hit_rate(self) -> float:
        """Share of items whose features were there; 0 before the first."""
        return self.hits / max(1, self.hits + self.misses)

    @torch.no_grad()
    def __call__(self, batch: FlamingoBatch) -> FlamingoBatch:
        """The batch with features in place of its pixels; one without pixels as it is.

        Args:
            batch: A batch, on any device.

        Raises:
            ValueError: If the tower trains by now, or there are more different items than `num_items`.
        """
        pixels = batch.pixels
        if pixels is None or not len(pixels):
            return batch
        self._look_at_tower()
        all_exist = torch.ones(pixels.shape[:2], dtype=torch.bool)
        exists = all_exist if batch.frame_valid is None else batch.frame_valid.cpu()
        keys = list(self._keys(pixels, exists))
        items = {key: item for key in dict.fromkeys(keys) if (item := self._store.read(key)) is not None}
        new = {key: keys.index(key) for key in dict.fromkeys(keys) if key not in items}
        self.hits, self.misses = self.hits + len(keys) - len(new), self.misses + len(new)
        for key, item in zip(new, self._computed(pixels, exists, list(new.values())), strict=True):
            self._keep(key, item)
            items[key] = item
        features, patch_valid = _pool([items[key] for key in keys], exists, pixels.device)
        frame_valid = None if exists.all() else batch.frame_valid  # flags that say nothing may be computed otherwise
        return replace(batch, pixels=None, features=features, frame_valid=frame_valid, patch_valid=patch_valid)

    def _computed(self, pixels: Tensor, exists: Tensor, rows: list[int]) -> list[_Item]:
        """What the tower makes of some items, all of their frames in one call."""
        if not rows:
            return []
        counts = exists[rows].sum(1).tolist()
        frames = pixels[rows][exists[rows].to(pixels.device)]
        tokens, valid = encode_frames(self.tower, frames[:, None])
        kept = {"tokens": tokens[:, 0].to("cpu", self.dtype or tokens.dtype)}
        if valid is not None:
            kept["valid"] = valid[:, 0].cpu()

        def copied(value: Tensor) -> Tensor:
            """What views of it show, which would hold the features of all items of the batch."""
            return value.clone(memory_format=torch.contiguous_format)

        ends = accumulate(counts, initial=0)
        return [{name: copied(value[start:end]) for name, value in kept.items()} for start, end in pairwise(ends)]

    def _keep(self, key: str, item: _Item) -> None:
        if self._store.kept == self.num_items:
            raise ValueError(
                f"num_items is {self.num_items}, and here is one more that was never seen; {self.hit_rate:.0%} of all "
                "were seen before. Augmentation makes each picture a new one: turn it off, or take no FeatureCache"
            )
        if not self._full and (why_not := self._store.write(key, item)):
            self._full = True
            _log.warning(
                "features are kept no more: %s; %.0f %% of all items were seen before. The rest is computed each time",
                why_not, 100 * self.hit_rate,
            )  # fmt: skip

    def _keys(self, pixels: Tensor, exists: Tensor) -> Iterator[str]:
        """A hash of the frames that exist, and of what else decides the features, item by item."""
        kind = pixels.device.type
        autocast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        for item, there in zip(pixels.cpu(), exists, strict=True):
            frames = item[there].contiguous()
            digest = sha256(f"{[*frames.shape]} {frames.dtype} {autocast} {self.dtype} ".encode())
            digest.update(frames.flatten().view(torch.uint8).numpy().data)
            yield digest.hexdigest()

    def _look_at_tower(self) -> None:
        """Refuse a tower whose features change, and find what is kept of the weights that it has now."""
        modules = list(self.tower.modules()) if isinstance(self.tower, nn.Module) else []
        weights = [weight for module in modules[:1] for weight in (*module.parameters(), *module.buffers())]
        if any(weight.requires_grad for weight in weights):
            raise ValueError("tower trains, so its features change each step; freeze it, or leave the FeatureCache out")
        if any(module.training for module in modules):
            raise ValueError("tower is in training mode, where features may be drawn at random; call tower.eval()")
        state = [(weight.data_ptr(), weight.is_inference() or weight._version) for weight in weights]  # noqa: SLF001
        if state != self._state:
            self._state, name = state, _name_of(self.tower)
            if name != self._name:
                self._name, self._full = name, False
                kind = _Memory if self.folder is None else partial(_Files, self.folder / name)
                self._store: _Memory | _Files = kind(self.max_bytes)


class _Memory:
    """Features in the memory of this process."""

    def __init__(self, max_bytes: int) -> None:
        self._items: dict[str, _Item] = {}
        self._max_bytes, self._bytes = max_bytes, 0

    @property
    def kept(self) -> int:
        return len(self._items)

    def read(self, key: str) -> _Item | None:
        return self._items.get(key)

    def write(self, key: str, item: _Item) -> str:
        """Keep an item, or say why not."""
        size = sum(tensor.nbytes for tensor in item.values())
        if self._bytes + size > self._max_bytes:
            return f"max_bytes is {self._max_bytes}"
        self._items[key] = item
        self._bytes += size
        return ""


class _Files:
    """Features in files, one an item: a digest of the rest, then tensors as safetensors writes them."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._safetensors = require("safetensors.torch", used_by="FeatureCache", extra="hf")
        self._folder, self._max_bytes, self.kept = folder, max_bytes, 0
        self._bytes = self._new_bytes = 0  # of all, and of those kept here since the last look
        folder.mkdir(parents=True, exist_ok=True)
        self._look()

    def read(self, key: str) -> _Item | None:
        """An item; None where there is none, or where it is damaged, for it can be computed again."""
        try:
            data = (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None
        if sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
            return None
        item: _Item = self._safetensors.load(data[_DIGEST:])
        return item

    def write(self, key: str, item: _Item) -> str:
        """Keep an item, or say why not: a cache ends no run."""
        data = self._safetensors.save(item)
        if self._new_bytes > self._max_bytes // 64:
            self._look()
        if self._bytes + len(data) > self._max_bytes:
            return f"max_bytes is {self._max_bytes}"
        path = self._folder / key
        beside = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}")
        is_new = not path.exists()
        try:
            # Not synced to the disk: what a crash leaves of it is found by the digest.
            beside.write_bytes(sha256(data).digest() + data)
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            return str(error)
        self.kept += is_new
        self._bytes, self._new_bytes = self._bytes + len(data), self._new_bytes + len(data)
        return ""

    def _look(self) -> None:
        """How much is there, of other processes too; what killed ones have left goes."""
        self._bytes = self._new_bytes = 0
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # of another process, which has just renamed it
                facts = entry.stat()
                if entry.name.startswith(UNFINISHED) and time.time() - facts.st_mtime > _ABANDONED_S:
                    Path(entry).unlink()
                else:
                    self._bytes += facts.st_size


def _name_of(tower: VisionTower) -> str:
    """A hash of the weights, and of what the tower makes of one picture, whatever else decides that."""
    digest = sha256()
    state = tower.state_dict() if isinstance(tower, nn.Module) else {}
    with torch.autocast(next(iter(state.values())).device.type if state else "cpu", enabled=False):
        shown = fingerprint(tower)
    for name, tensor in sorted({**state, "shown": shown}.items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _pool(items: Sequence[_Item], exists: Tensor, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Features and flags of patches, with zeros for frames that do not exist."""
    tokens = torch.cat([item["tokens"] for item in items])
    features = tokens.new_zeros(*exists.shape, *tokens.shape[1:])
    features[exists] = tokens
    if "valid" not in items[0]:
        return features.to(device), None
    valid = torch.zeros(features.shape[:3], dtype=torch.bool)
    valid[exists] = torch.cat([item["valid"] for item in items])
    return features.to(device), valid.to(device)
