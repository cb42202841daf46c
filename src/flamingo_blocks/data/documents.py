"""The one record that flows through the data steps: text, images and clips in reading order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flamingo_blocks.errors import MediaMaskError


@dataclass(frozen=True)
class TextSegment:
    """A run of text between media.

    Example:
        >>> InterleavedDocument((TextSegment("Look: "), ImageSegment(url="cat.jpg"), TextSegment("a cat."))).text
        'Look: a cat.'
    """

    text: str


@dataclass(frozen=True)
class ImageSegment:
    """An image at its place in the text.

    Args:
        url: Where the image is, when it is not fetched yet.
        data: The image itself: the bytes of a file, or a picture that a tower's `preprocess` takes.
        alt: What the page says instead of the image; it never enters the text.
        metadata: What else is known, kept as it is.

    Raises:
        ValueError: If `url` is no text, as where bytes are given in its place.

    Example:
        >>> image = ImageSegment(url="https://a.org/cat.jpg", alt="our cat")
        >>> document = InterleavedDocument.from_parts([image, "A cat."])
        >>> document.text, document.media[0].alt  # what the page says instead stays with the image
        ('A cat.', 'our cat')
    """

    url: str | None = None
    data: Any = None
    alt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url, "ImageSegment")


@dataclass(frozen=True)
class ClipSegment:
    """A clip at its place in the text.

    Args:
        url: Where the clip is, when it is not fetched yet.
        data: The clip itself: the bytes of a file, or a sequence of frames, each an image.
        alt: What the page says instead of the clip.
        metadata: What else is known, kept as it is.

    Raises:
        ValueError: If `url` is no text, as where bytes are given in its place.

    Example:
        >>> clip = ClipSegment(url="https://a.org/jump.mp4", metadata={"start_s": 3.0, "end_s": 9.0})
        >>> InterleavedDocument.from_parts([clip, "A jump."]).media[0].metadata["end_s"]
        9.0
    """

    url: str | None = None
    data: Any = None
    alt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_url(self.url, "ClipSegment")


TAG = "<image>"
MediaSegment = ImageSegment | ClipSegment
Segment = TextSegment | MediaSegment


@dataclass(frozen=True)
class InterleavedDocument:
    """Text, images and clips in reading order.

    Every data step takes documents and gives documents. It is plain values: no tokens, no tensors of a model.

    Args:
        segments: The parts in order.
        metadata: What is known of the document, such as its URL; kept as it is.

    Example:
        >>> document = InterleavedDocument.from_parts(["My ", "cat: ", ImageSegment(url="https://ex.com/cat.jpg")])
        >>> document.merged().text
        'My cat: '
        >>> len(document.media)
        1
    """

    segments: tuple[Segment, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_parts(cls, parts: Iterable[Any], *, metadata: Mapping[str, Any] | None = None) -> "InterleavedDocument":
        """Make a document of texts, images and clips.

        Args:
            parts: A string is text, a list or tuple of images or an array with four axes a clip, a segment itself, and
                anything else an image.
            metadata: What is known of the document.

        Raises:
            ValueError: If `parts` is one string, or a part is a number or a mapping.
        """
        if isinstance(parts, str | bytes):
            raise ValueError(f"parts is the {type(parts).__name__} {parts[:40]!r}, wanted a list; give [it]")  # noqa: TRY004
        return cls(tuple(_segment(part) for part in parts), {} if metadata is None else metadata)

    @classmethod
    def from_tagged(cls, text: str, media: Sequence[Any], *, media_token: str = TAG) -> "InterleavedDocument":
        """Make a document of a text with tags and the media that belong to them, in order.

        Args:
            text: Text in which `media_token` stands where an item belongs.
            media: The items, as in `from_parts`.
            media_token: The tag.

        Raises:
            ValueError: If tags and items differ in number.

        Example:
            >>> InterleavedDocument.from_tagged("a <image> b", ["cat.jpg"]).segments[2]
            TextSegment(text=' b')
        """
        texts = text.split(media_token)
        if len(texts) - 1 != len(media):
            raise MediaMaskError(
                f"text has {len(texts) - 1} tags {media_token!r} for {len(media)} images or clips; "
                "every item needs a tag and every tag an item"
            )
        segments: list[Segment] = [TextSegment(texts[0])]
        for item, following in zip(media, texts[1:], strict=True):
            segments += [_media_segment(item), TextSegment(following)]
        return cls(tuple(segments)).merged()

    @property
    def media(self) -> tuple[MediaSegment, ...]:
        """Images and clips in order."""
        return tuple(segment for segment in self.segments if not isinstance(segment, TextSegment))

    @property
    def text(self) -> str:
        """The text alone."""
        return "".join(segment.text for segment in self.segments if isinstance(segment, TextSegment))

    def merged(self) -> "InterleavedDocument":
        """The same document without empty texts and without two texts side by side."""
        segments: list[Segment] = []
        for segment in self.segments:
            if isinstance(segment, TextSegment) and segments and isinstance(segments[-1], TextSegment):
                segments[-1] = TextSegment(segments[-1].text + segment.text)
            elif not isinstance(segment, TextSegment) or segment.text:
                segments.append(segment)
        return replace(self, segments=tuple(segments))


def _check_url(url: Any, name: str) -> None:
    if url is not None and not isinstance(url, str):
        told = f"{len(url)} bytes" if isinstance(url, bytes) else f"a {type(url).__name__}"
        raise ValueError(f"url of {name} is {told}, wanted a text; give what the item holds as data=")


def _segment(part: Any) -> Segment:
    if part is None or isinstance(part, int | float | Mapping):
        raise ValueError(f"a part is {part!r}, wanted a string, an image, a list of images, or a segment")
    if isinstance(part, TextSegment):
        return part
    return TextSegment(part) if isinstance(part, str) else _media_segment(part)


def _media_segment(part: Any) -> MediaSegment:
    if isinstance(part, ImageSegment | ClipSegment):
        return part
    if isinstance(part, list | tuple):
        return ClipSegment(data=tuple(part))
    return ClipSegment(data=part) if getattr(part, "ndim", None) == 4 else ImageSegment(data=part)
