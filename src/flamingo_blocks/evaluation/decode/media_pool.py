"""Images and clips of a task, each encoded once, for all prompts that show it."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.examples.keyed_draws import KeyedDraws
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode.cut_frames import cut_frames
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.models.flamingo import Flamingo

_DRAWS = KeyedDraws("evaluation")  # of a clip that no reader of ours cuts: the same each time


class UnreadableMediaError(EvaluationError):
    """An image or clip cannot be read; the message names it and says what the decoder said.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> try:
        ...     MediaPool(build_tiny_flamingo()).tokens([ImageSegment(url="cat.jpg", data=b"<html>")])
        ... except UnreadableMediaError as error:
        ...     print(str(error).partition(": ")[0])
        the image cat.jpg cannot be read
    """


@dataclass(frozen=True)
class _Blank:
    """Pixels or features of zeros: the mean colour, behind a tower's `preprocess`."""

    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class _Tokens:
    """The media tokens of one item; `holds` keeps what the key was made of alive."""

    media: Tensor
    valid: Tensor | None
    holds: Any


class MediaPool:
    """Encodes each image and clip once, and hands out its media tokens to every prompt that shows it.

    An item is known by its `url` and the path of its file, or where it has neither by the object that its `data` is.
    What was encoded stays within a budget; what has not been asked for longest goes first, and is encoded again when it
    comes back.

    Args:
        flamingo: The model, whose tower, resampler and projection encode.
        reader: Reads an item into pixels or features; by default through the `preprocess` of the tower, clips by
            `cut_frames`.
        memory_bytes: Most bytes of media tokens that are kept. A Flamingo of 3B makes 128 KiB of an image.
        max_frames: Most frames that are encoded at once; less where the device has no memory for them.
        device: Where tokens are kept; where they were made by default.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> pool = MediaPool(build_tiny_flamingo())
        >>> cat, dog = (ImageSegment(url=name, data=torch.zeros(3, 8, 8)) for name in ("cat", "dog"))
        >>> pool.tokens([cat, dog, cat]).media.shape, pool.encoded
        (torch.Size([3, 4, 16]), 2)
    """

    def __init__(
        self,
        flamingo: Flamingo,
        reader: ItemReader | None = None,
        *,
        memory_bytes: int = 2**30,
        max_frames: int = 64,
        device: torch.device | str | None = None,
    ) -> None:
        preprocess = getattr(flamingo.vision, "preprocess", None)
        self.flamingo = flamingo
        self.reader = ItemReader(preprocess=preprocess, clip_images=cut_frames) if reader is None else reader
        self.memory_bytes, self.max_frames, self.device = memory_bytes, max_frames, device
        self._encoded = 0
        self._kept: OrderedDict[Any, _Tokens] = OrderedDict()
        self._kept_bytes = 0
        self._trouble: dict[Any, tuple[str, Any]] = {}

    @property
    def encoded(self) -> int:
        """How many items were encoded so far; those that were encoded again count again."""
        return self._encoded

    def tokens(self, segments: Sequence[MediaSegment]) -> MediaState:
        """The media tokens of some items, in order, to be handed on as `media`.

        Args:
            segments: Images and clips; one may come several times.

        Returns:
            The tokens `[items latents dim]`, on the device of the model; an empty pool of no items is encoded anew.

        Raises:
            UnreadableMediaError: If one cannot be read.
        """
        if not segments:
            with torch.no_grad():
                return self.flamingo.encode_media()
        found = self._get(segments)
        for segment in segments:
            if (told := self._trouble.get(media_key(segment))) is not None:
                raise UnreadableMediaError(f"{_name(segment)} cannot be read: {told[0]}")
        items = [found[media_key(segment)] for segment in segments]
        device = next(self.flamingo.lm.parameters()).device
        media, valid = _stacked(items)
        return MediaState(media=media.to(device), valid=None if valid is None else valid.to(device))

    def unreadable(self, segments: Iterable[MediaSegment]) -> dict[str, str]:
        """Which items cannot be read; the others are encoded, so that nothing is read twice.

        Args:
            segments: Images and clips.

        Returns:
            What the reader said of each that cannot be read, by its name; empty where all can.
        """
        told: dict[str, str] = {}
        waiting = list(segments)
        for start in range(0, len(waiting), self.max_frames):
            piece = waiting[start : start + self.max_frames]
            self._get(piece)
            told |= {_name(one): self._trouble[media_key(one)][0] for one in piece if media_key(one) in self._trouble}
        return told

    def readable(self, segments: Iterable[MediaSegment]) -> bool:
        """Whether all of some items can be read; they are encoded, as by `unreadable`.

        Args:
            segments: Images and clips.
        """
        return not self.unreadable(segments)

    def blank(self, segment: MediaSegment) -> MediaSegment:
        """An item of the same kind and shape that shows nothing: zeros behind `preprocess`, its mean colour.

        Args:
            segment: An image or clip.

        Raises:
            UnreadableMediaError: If it cannot be read, so that its shape is not known.
        """
        read = self._read(segment)
        if isinstance(read, Dropped):
            raise UnreadableMediaError(f"{_name(segment)} cannot be read: {read.detail or read.reason}")
        shape = "x".join(map(str, read.shape))
        return replace(segment, url=f"blank:{shape}", data=_Blank(tuple(read.shape), read.dtype), metadata={})

    def _get(self, segments: Sequence[MediaSegment]) -> dict[Any, _Tokens]:
        """The tokens of all items that can be read; what is new is encoded, and kept as far as there is room."""
        found: dict[Any, _Tokens] = {}
        new: dict[Any, MediaSegment] = {}
        for segment in segments:
            key = media_key(segment)
            if key in self._kept:
                self._kept.move_to_end(key)
                found[key] = self._kept[key]
            elif key not in self._trouble:
                new.setdefault(key, segment)
        waiting: dict[Any, Tensor] = {}
        for key, segment in new.items():
            read = self._read(segment)
            if isinstance(read, Dropped):
                self._trouble[key] = (read.detail or read.reason, segment.data)
                continue
            waiting[key] = read
            if sum(len(item) for item in waiting.values()) >= self.max_frames:
                found |= self._encode(waiting, new)
                waiting = {}
        found |= self._encode(waiting, new)
        return found

    def _read(self, segment: MediaSegment) -> Tensor | Dropped:
        if isinstance(segment.data, _Blank):
            return torch.zeros(segment.data.shape, dtype=segment.data.dtype)
        if isinstance(segment, ImageSegment) and isinstance(segment.data, str | Path) and self.reader.features is None:
            try:  # the reader looks into bytes before it fills memory
                segment = replace(segment, data=Path(segment.data).read_bytes())
            except OSError as error:
                return Dropped("image_unreadable", f"{type(error).__name__}: {error}")
        return self.reader.read(segment, _DRAWS, 0)

    def _encode(self, items: dict[Any, Tensor], segments: dict[Any, MediaSegment]) -> dict[Any, _Tokens]:
        """Encode items, those of one shape together."""
        made: dict[Any, _Tokens] = {}
        for shape in dict.fromkeys(tuple(item.shape) for item in items.values()):
            keys = [key for key, item in items.items() if tuple(item.shape) == shape]
            media, valid = self._run(torch.stack([items[key] for key in keys]))
            for row, key in enumerate(keys):
                own = None if valid is None else valid[row].clone()
                made[key] = _Tokens(media[row].clone(), own, segments[key].data)
        self._encoded += len(made)
        for key, tokens in made.items():
            self._keep(key, tokens)
        return made

    @torch.no_grad()
    def _run(self, items: Tensor) -> tuple[Tensor, Tensor | None]:
        kind = "pixels" if self.reader.features is None else "features"
        device = next(self.flamingo.lm.parameters()).device
        try:
            with eval_mode(self.flamingo):
                state = self.flamingo.encode_media(**{kind: items.to(device)})  # type: ignore[arg-type]
        except torch.OutOfMemoryError:
            if len(items) == 1:
                raise
        else:
            valid = state.valid
            home = state.media.device if self.device is None else self.device
            return state.media.to(home), None if valid is None else valid.to(home)
        parts = [self._run(part) for part in items.tensor_split(2)]
        valid = None if parts[0][1] is None else torch.cat([part[1] for part in parts if part[1] is not None])
        return torch.cat([part[0] for part in parts]), valid

    def _keep(self, key: Any, tokens: _Tokens) -> None:
        self._kept[key] = tokens
        self._kept_bytes += tokens.media.nbytes
        while self._kept_bytes > self.memory_bytes:
            _, gone = self._kept.popitem(last=False)
            self._kept_bytes -= gone.media.nbytes


def media_key(segment: MediaSegment) -> Any:
    """What an item is known by: its `url` and the path of its file, or the object that it is where it has neither.

    Two tasks may call their own pictures by one name, such as `1.png`, so a name stands for a picture in memory alone.
    """
    path = str(segment.data) if isinstance(segment.data, str | Path) else None
    return id(segment.data) if segment.url is None and path is None else (segment.url, path)


def _name(segment: MediaSegment) -> str:
    kind = "the image" if isinstance(segment, ImageSegment) else "the clip"
    named = segment.url or (segment.data if isinstance(segment.data, str | Path) else None)
    return f"{kind} {named!s}" if named is not None else f"{kind} without a url"


def _stacked(items: Sequence[_Tokens]) -> tuple[Tensor, Tensor | None]:
    """Items as one tensor; shorter ones, which only a model without a resampler makes, are padded."""
    longest = max(len(item.media) for item in items)
    if all(item.valid is None and len(item.media) == longest for item in items):
        return torch.stack([item.media for item in items]), None
    media = items[0].media.new_zeros(len(items), longest, items[0].media.shape[-1])
    valid = torch.zeros(len(items), longest, dtype=torch.bool, device=media.device)
    for row, item in enumerate(items):
        media[row, : len(item.media)] = item.media
        valid[row, : len(item.media)] = True if item.valid is None else item.valid
    return media, valid
