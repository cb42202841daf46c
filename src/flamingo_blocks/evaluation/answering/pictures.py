"""Images and clips as pictures of pillow, which other models than ours read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.data import ClipSegment, Dropped, InterleavedDocument, TextSegment
from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.data.one_line import one_line
from flamingo_blocks.evaluation.decode import UnreadableMediaError, cut_frames
from flamingo_blocks.evaluation.shots.rices_features import read_images
from flamingo_blocks.evaluation.shots.same_picture import tensor_bytes
from flamingo_blocks.vision.image_preprocess import read_rgb

_GREY = (128, 128, 128)


def images_of(medium: MediaSegment) -> Sequence[Any] | Dropped:
    """The images of an item as a model is shown them.

    Args:
        medium: An image or a clip.
    """
    return cut_frames(medium) if isinstance(medium, ClipSegment) else read_images(medium)


def with_pictures(segment: MediaSegment) -> MediaSegment:
    """An item whose data are pictures of pillow in RGB: one of an image, a tuple of a clip.

    Args:
        segment: An image or clip.

    Raises:
        UnreadableMediaError: If it cannot be read.
        MissingDependencyError: If `pillow` is missing.
    """
    try:
        images = images_of(segment)
        pictures = () if isinstance(images, Dropped) else tuple(map(_picture, images))
    except ImportError:  # a package that is missing is no fault of the image
        raise
    except Exception as error:  # decoders raise what they like
        raise UnreadableMediaError(f"{_name(segment)} cannot be read: {one_line(error)}") from error
    if isinstance(images, Dropped):
        raise UnreadableMediaError(f"{_name(segment)} cannot be read: {images.detail or images.reason}")
    if isinstance(segment, ClipSegment):
        return replace(segment, data=pictures)
    return replace(segment, data=pictures[0])


def document_with_pictures(document: InterleavedDocument) -> InterleavedDocument:
    """A document whose images and clips are `with_pictures`.

    Args:
        document: Any.
    """
    parts = (part if isinstance(part, TextSegment) else with_pictures(part) for part in document.segments)
    return InterleavedDocument(tuple(parts), document.metadata)


def pictures_of(segment: MediaSegment) -> tuple[Any, ...]:
    """The pictures of an item that is `with_pictures`: one of an image, several of a clip.

    Args:
        segment: An image or clip.
    """
    return tuple(segment.data) if isinstance(segment, ClipSegment) else (segment.data,)


def grey(segment: MediaSegment) -> MediaSegment:
    """An item of the same kind and size that shows nothing but grey.

    Args:
        segment: An image or clip.

    Raises:
        UnreadableMediaError: If it cannot be read, so that its size is not known.
    """
    new = require("PIL.Image", used_by="evaluate_model", extra="vision").new
    shown = pictures_of(with_pictures(segment))
    blank = tuple(new("RGB", picture.size, _GREY) for picture in shown)
    sizes = " ".join(f"{picture.width}x{picture.height}" for picture in shown)
    data = blank if isinstance(segment, ClipSegment) else blank[0]
    return replace(segment, url=f"grey:{sizes}", data=data, metadata={})


def _picture(image: Any) -> Any:
    pillow = require("PIL.Image", used_by="evaluate_model", extra="vision")
    rgb = read_rgb(image)
    pixels = rgb if rgb.dtype == torch.uint8 else (rgb * 255).round().byte()
    height, width = pixels.shape[1:]
    return pillow.frombytes("RGB", (width, height), tensor_bytes(pixels.permute(1, 2, 0)))


def _name(segment: MediaSegment) -> str:
    kind = "the clip" if isinstance(segment, ClipSegment) else "the image"
    return f"{kind} {segment.url}" if segment.url else f"{kind} without a url"
