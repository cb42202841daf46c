"""From an image or clip of a document to the tensor that a batch holds of it."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.data.documents import ClipSegment, MediaSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.examples.augment_images import AugmentImages, ImageChange
from flamingo_blocks.data.examples.keyed_draws import KeyedDraws
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, open_image
from flamingo_blocks.data.one_line import one_line


def item_pixels(
    item: MediaSegment, *, preprocess: Callable[..., Tensor] | None, change: ImageChange | None = None
) -> Float[Tensor, "frames 3 height width"]:
    """The pixels of an image or clip.

    Args:
        item: With its data; that of a clip is a sequence of frames.
        preprocess: Turns one image into pixels.
        change: An augmentation, handed to `preprocess` as `augment`.

    Raises:
        ValueError: If there is no `preprocess`, the item has no data, or a clip has no frames.
    """
    if preprocess is None:
        raise ValueError("the row has an image or clip, but preprocess is None; pass preprocess=tower.preprocess")
    if item.data is None:
        raise ValueError(f"the item {item.url!r} is not fetched; give its data")
    frames = list(item.data) if isinstance(item, ClipSegment) else [item.data]
    if not frames:
        raise ValueError("a clip has no frames, wanted one at least; leave it out")
    options = {} if change is None else {"augment": change}
    pixels = [preprocess(frame, **options) for frame in frames]
    return pixels[0][None] if len(pixels) == 1 else torch.stack(pixels)  # most are images, and a stack copies them


def item_features(item: MediaSegment, features: Mapping[str, Tensor]) -> Float[Tensor, "frames patches vision_dim"]:
    """The features of an image or clip that were computed before.

    Args:
        item: Named by its `url`, or by a string as its data.
        features: Features by name.

    Raises:
        ValueError: If they are not there.
    """
    key = item.url if item.data is None else item.data
    if not isinstance(key, str) or key not in features:
        raise ValueError(
            f"the item {key if isinstance(key, str) else type(key).__name__!r} is not among the features; name "
            "items by the keys they were saved under, or leave out features= and pass preprocess="
        )
    return features[key]


@dataclass(frozen=True, kw_only=True)
class ItemReader:
    """Reads the items of documents, and says why one cannot be read.

    Args:
        preprocess: Turns one image into pixels: `tower.preprocess`.
        features: Features computed before, by name, in place of `preprocess`.
        clip_images: Gives the frames of a `ClipSegment` whose data are no frames yet, or a `Dropped`. If it takes
            `place`, it gets a number from [0, 1) drawn for the clip, to say which part of it; a `functools.partial`
            that says `place` or `start_s` itself does not.
        augment: Changes images between their resize and their padding; `preprocess` must take `augment=`.

    Raises:
        ValueError: If `augment` is given and `preprocess` does not take it.
    """

    reasons = ("media_missing", "image_unreadable", "image_pixels", "clip_unreadable")

    preprocess: Callable[..., Tensor] | None = None
    features: Mapping[str, Tensor] | None = None
    clip_images: Callable[..., Sequence[Any] | Dropped] | None = None
    augment: AugmentImages | None = None

    def __post_init__(self) -> None:
        if self.preprocess is not None and self.features is not None:
            raise ValueError("preprocess and features were given; give one of them")
        if self.augment is not None and (self.preprocess is None or not _takes(self.preprocess, "augment")):
            name = "None" if self.preprocess is None else f"a {type(self.preprocess).__name__}"
            raise ValueError(
                f"augment_images was given, but preprocess is {name}, which takes no augment=; pass the preprocess of "
                "a tower, or leave augment_images out and change the images in your own"
            )

    def read_all(self, media: Sequence[MediaSegment], draws: KeyedDraws) -> list[Tensor] | Dropped:
        """The tensors of all items of a sample, or why one of them cannot be read.

        Args:
            media: Images and clips in order.
            draws: Those of the sample.
        """
        items = []
        for number, item in enumerate(media):
            found = self.read(item, draws, number)
            if isinstance(found, Dropped):
                return found
            items.append(found)
        return items

    def read(self, item: MediaSegment, draws: KeyedDraws, number: int) -> Tensor | Dropped:
        """The tensor of an item, or why there is none.

        Args:
            item: An image or clip.
            draws: Those of its sample.
            number: Its number in the sample.

        Raises:
            ValueError: If there is neither `preprocess` nor `features`, or a clip is a file and there is no
                `clip_images`.
        """
        if self.features is not None:
            try:
                return item_features(item, self.features)
            except ValueError as error:
                return Dropped("media_missing", str(error))
        if self.preprocess is None:
            raise ValueError(
                "a document has an image or clip, but preprocess is None; pass preprocess=tower.preprocess"
            )
        is_clip = isinstance(item, ClipSegment)
        if is_clip and self.clip_images is None and isinstance(item.data, bytes | str | Path):
            raise ValueError(
                "a document has the file of a clip, but clip_images is None; pass "
                "clip_images=functools.partial(flamingo_blocks.data.video.clip_images, fps=1.0, count=8)"
            )
        if item.data is None and not (is_clip and self.clip_images is not None):
            return Dropped("media_missing", f"the item {item.url!r} is not fetched")
        try:
            found = self._with_frames(item, draws, number)
            if isinstance(found, Dropped):
                return found
            change = None if self.augment is None else self.augment.draw(draws, number)
            return item_pixels(found, preprocess=self.preprocess, change=change)
        except ImportError:  # a package that is missing is no fault of the image
            raise
        except Exception as error:
            # Readers raise `ValueError` or `OSError` of what they cannot read, decoders what they like. Any other error
            # of an image that can be decoded is one of `preprocess`: it must not pass for thousands of bad images.
            if not isinstance(error, ValueError | OSError) and not _is_broken(item):
                raise
            reason = "clip_unreadable" if is_clip else "image_unreadable"
            return Dropped(reason, one_line(error))

    def _with_frames(self, item: MediaSegment, draws: KeyedDraws, number: int) -> MediaSegment | Dropped:
        """The item as `item_pixels` takes it: a clip by its frames, an image that is not too large to decode."""
        if isinstance(item, ClipSegment):
            if not isinstance(item.data, bytes | str | Path | None):
                return item
            assert self.clip_images is not None  # `read` has refused it
            drawn = _takes(self.clip_images, "place") and not _says_where(self.clip_images)
            place = {"place": draws.uniform("place", number)} if drawn else {}
            frames = self.clip_images(item, **place)
            if isinstance(frames, Dropped):
                return Dropped("clip_unreadable", f"{frames.reason}: {frames.detail}")
            return ClipSegment(data=frames)
        if isinstance(item.data, bytes):
            opened = open_image(item.data)  # the header alone, before memory is filled
            if isinstance(opened, Dropped):
                return opened if opened.reason == "image_pixels" else item
            if opened.width * opened.height > MAX_PIXELS:
                size = f"{opened.width} x {opened.height} pixels"
                return Dropped("image_pixels", f"{size}, wanted {MAX_PIXELS} at most")
        return item


def _is_broken(item: MediaSegment) -> bool:
    """Whether the file of an image cannot be decoded, by whomever."""
    if not isinstance(item.data, bytes):
        return False
    opened = open_image(item.data)
    if isinstance(opened, Dropped):
        return True
    try:
        opened.load()
    except Exception:  # noqa: BLE001 - decoders raise what they like
        return True
    return False


def _says_where(function: Callable[..., Any]) -> bool:
    """Whether it was made to read a certain part of each clip."""
    return isinstance(function, partial) and not function.keywords.keys().isdisjoint(("place", "start_s"))


def _takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function takes an argument of that name."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some functions written in C do not say
        return False
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
