"""Text and images in transformers' way, to the inputs of the front."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor
from transformers import BatchFeature, ProcessorMixin
from transformers.image_utils import load_image

from flamingo_blocks import models
from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.models.describe_module import build_value, describe_value
from flamingo_blocks.models.processor import END, TAG

if TYPE_CHECKING:
    from flamingo_blocks.hf.modeling import FlamingoForConditionalGeneration

VIDEO_TAG = "<video>"  # marks a clip in a text, until its media tag takes the place
# A dialogue as in the paper's appendix; content is text, or text, images and clips in reading order.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}{{ 'User: ' }}{%- elif message.role == 'assistant' -%}{{ 'Flamingo: ' }}{%- endif -%}
{%- if message.content is string -%}{{ message.content }}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'text' -%}{{ part.text }}
{%- elif part.type == 'video' -%}{{ '<video>' }}
{%- else -%}{{ '<image>' }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Flamingo:' }}{%- endif -%}
"""


class FlamingoProcessor(ProcessorMixin):  # type: ignore[misc]
    """`flamingo_blocks.models.FlamingoProcessor` in transformers' form: named text and images in, a `BatchFeature` out.

    It adds what transformers asks for: saving and loading, chat templates, images by name, path or address. What
    becomes of a row is the work of the processor inside, `processor.rows`, whose rows are lists of text and images.

    Args:
        tokenizer: A transformers tokenizer. It need not know the media tag: ids are given here. Its padding side
            becomes left, as prompts need.
        preprocess: Turns an image into pixels: `tower.preprocess`, or what a saved file holds of one.
        media_token: String of the media tag.
        end_token: String of the end of a chunk.
        media_token_id: Its id; asked from the tokenizer by default.
        end_token_id: Likewise.
        pad_token_id: Likewise.
        end_before_media: As in `models.FlamingoProcessor`.
        end_before_first_media: Likewise.
        chat_template: In place of "User: ... Flamingo: ...".

    Raises:
        ValueError: As `models.FlamingoProcessor`.

    Example:
        >>> import torch
        >>> from tokenizers import Tokenizer, models as kinds
        >>> from transformers import PreTrainedTokenizerFast
        >>> words = Tokenizer(kinds.WordLevel({"[UNK]": 0, "cat": 1}, unk_token="[UNK]"))
        >>> tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[UNK]")
        >>> processor = FlamingoProcessor(tokenizer, lambda image: image, media_token_id=2, end_token_id=3)
        >>> processor(text="<image>cat", images=[torch.zeros(3, 8, 8)]).input_ids
        tensor([[2, 1]])
    """

    def __init__(
        self,
        tokenizer: Any,
        preprocess: Callable[[Any], Tensor] | Mapping[str, Any] | None = None,
        *,
        media_token: str = TAG,
        end_token: str = END,
        media_token_id: int | None = None,
        end_token_id: int | None = None,
        pad_token_id: int | None = None,
        end_before_media: bool = True,
        end_before_first_media: bool = True,
        chat_template: str | None = None,
    ) -> None:
        super().__init__(tokenizer, chat_template=chat_template or CHAT_TEMPLATE.replace(TAG, media_token))
        make = build_value(preprocess, argument="preprocess") if isinstance(preprocess, Mapping) else preprocess
        tokenizer.padding_side = "left"  # pipelines pad batches of prompts as the tokenizer says
        self.rows = models.FlamingoProcessor(
            tokenizer=tokenizer, preprocess=make, media_token=media_token, end_token=end_token,
            media_token_id=media_token_id, end_token_id=end_token_id, pad_token_id=pad_token_id,
            end_before_media=end_before_media, end_before_first_media=end_before_first_media,
        )  # fmt: skip
        self.media_token, self.end_token = media_token, end_token
        self.media_token_id, self.end_token_id = self.rows.special.media_ids[0], self.rows.special.end_of_chunk
        self.pad_token_id = self.rows.pad_token_id
        self.end_before_media, self.end_before_first_media = end_before_media, end_before_first_media
        self.image_token, self.image_token_id = self.media_token, self.media_token_id  # transformers' names

    @classmethod
    def from_model(
        cls, model: "FlamingoForConditionalGeneration", tokenizer: Any, **options: Any
    ) -> "FlamingoProcessor":
        """Make the processor of a model.

        Args:
            model: The model: its tower knows how pixels are made, its config the ids of the tags.
            tokenizer: The language model's.
            **options: Further arguments.

        Returns:
            The processor.
        """
        known = {"media_token_id": model.config.media_token_id, "end_token_id": model.config.end_token_id}
        return cls(tokenizer, getattr(model.flamingo.vision, "preprocess", None), **{**known, **options})

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        *,
        for_training: bool = False,
        padding_side: Literal["left", "right"] | None = None,
        return_tensors: str | None = "pt",
        **options: Any,
    ) -> BatchFeature:
        """Make the inputs of the model.

        Args:
            images: An image, a list of images in the order of their tags, or such a list for each row. An image is
                a PIL image, an array, a tensor, bytes, or the path or address of a file; a list of images inside a
                row's list is a clip.
            text: A text or several, with a media tag for each image.
            videos: Clips, each a list of images or a tensor [frames 3 height width]; their places are marked
                `<video>`. Nested like `images`.
            for_training: Close rows and make labels; otherwise rows are prompts.
            padding_side: By default right for training and left for prompts.
            return_tensors: `"pt"`; nothing else is made.
            **options: `padding` and `add_special_tokens`, which chat templates pass; rows are always padded.

        Returns:
            `input_ids`, `attention_mask`, `pixel_values` where there are images, `frame_valid` where there are clips of
            different lengths, and `labels` for training.

        Raises:
            ValueError: If text is missing, tags and images differ in number, or something else is asked for.
        """
        if text is None and (isinstance(images, str) or (_is_list(images) and images and isinstance(images[0], str))):
            raise ValueError("text is None and images hold strings: the first argument is images; pass text=")
        if text is None or return_tensors not in ("pt", None):
            raise ValueError(f"text is {text!r} and return_tensors {return_tensors!r}; wanted a text, and 'pt'")
        unknown = {name: value for name, value in options.items() if name not in _KNOWN and value}
        if unknown:
            raise ValueError(f"{unknown} given, wanted of the other options only {_KNOWN}")
        texts = _texts(text)
        if options.get("add_special_tokens") is False and self.rows.special.bos is not None:
            texts = [row.removeprefix(self.tokenizer.bos_token) for row in texts]  # begins every row anyway
        pools = {
            self.media_token: _by_row(images, texts, self.media_token),
            VIDEO_TAG: _by_row(videos, texts, VIDEO_TAG),
        }  # fmt: skip
        marks = re.compile("|".join(map(re.escape, pools)))
        found = [[pools[mark][row].pop(0) for mark in marks.findall(one)] for row, one in enumerate(texts)]
        tagged = [marks.sub(lambda _: self.media_token, one) for one in texts]
        batch = self.rows(tagged, found, for_training=for_training, padding_side=padding_side)
        inputs = {
            "input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long(), "pixel_values": batch.pixels,
            "frame_valid": batch.frame_valid, "labels": batch.labels,
        }  # fmt: skip
        return BatchFeature({name: value for name, value in inputs.items() if value is not None})

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = True, **_: Any) -> Any:
        """Text of a row of ids, or of each row of several.

        Args:
            token_ids: Ids of new tokens included.
            skip_special_tokens: Leave out tags, pads, begin and end.
            **_: Options of tokenizers, which do not apply.

        Returns:
            A text, or one for each row.
        """
        several = token_ids.ndim == 2 if isinstance(token_ids, Tensor) else bool(token_ids) and _is_list(token_ids[0])
        read = self.rows.batch_decode if several else self.rows.decode
        return read(token_ids, skip_special_tokens=skip_special_tokens)

    batch_decode = decode
    post_process_image_text_to_text = decode

    @property
    def image_processor(self) -> "ImageFront":
        """What pipelines look for to make batches, and to save."""
        return ImageFront(self)

    @property
    def model_input_names(self) -> list[str]:
        """Names of what a call gives."""
        return ["input_ids", "attention_mask", "pixel_values", "frame_valid"]

    def to_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        """What is saved: every argument but tokenizer and template, which have files of their own.

        Returns:
            Plain values. Of a `preprocess` that is none of this library's, nothing: pass it to `from_pretrained` again.
        """
        names = [name for name in inspect.signature(type(self)).parameters if name not in _IN_FILES_OF_THEIR_OWN]
        preprocess = describe_value(self.rows.preprocess)
        plain = preprocess if isinstance(preprocess, dict) else None
        return {name: getattr(self, name) for name in names} | {
            "preprocess": plain, "processor_class": type(self).__name__,
        }  # fmt: skip

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **kwargs: Any) -> Any:
        """Make a processor of its tokenizer and of what `to_dict` gave; transformers' own looks at positions only.

        Args:
            args: The tokenizer.
            processor_dict: The saved values.
            **kwargs: Values in place of saved ones.

        Returns:
            The processor.
        """
        known = inspect.signature(cls).parameters
        return cls(*args, **{name: value for name, value in {**processor_dict, **kwargs}.items() if name in known})


class ImageFront:
    """The images' side of a processor, where transformers wants one by itself.

    Args:
        processor: The whole.
    """

    model_input_names = ("pixel_values",)

    def __init__(self, processor: FlamingoProcessor) -> None:
        self.processor = processor

    def save_pretrained(self, directory: Any, **_: Any) -> None:
        """Save the whole: there is no half of it."""
        self.processor.save_pretrained(directory)


_KNOWN = ("padding", "add_special_tokens")
_IN_FILES_OF_THEIR_OWN = ("tokenizer", "preprocess", "chat_template")


def _texts(text: Any) -> list[str]:
    texts = [text] if isinstance(text, str) else list(text)
    if others := [type(one).__name__ for one in texts if not isinstance(one, str)]:
        raise ValueError(f"text holds a {others[0]}, wanted a string or several; images= comes before text=")
    return texts


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _by_row(items: Any, texts: list[str], mark: str) -> list[list[Any]]:
    """Items of each row, in whatever nesting they came; as many as the row has marks."""
    counts = [text.count(mark) for text in texts]
    rows = [] if items is None else list(items) if _is_list(items) else [items]
    nested = bool(rows) and all(map(_is_list, rows))
    if nested and mark == VIDEO_TAG:  # a list may be a clip, or a row of clips
        nested = all(_is_clip(item) for row in rows for item in row)
    if not nested:
        if len(rows) != sum(counts):
            raise MediaMaskError(
                f"text has {sum(counts)} marks {mark!r}, but {len(rows)} items were given; wanted as many"
            )
        flat = iter(rows)
        rows = [[next(flat) for _ in range(count)] for count in counts]
    if len(rows) != len(texts):
        raise MediaMaskError(f"items of {len(rows)} rows were given beside {len(texts)} texts; wanted as many")
    for row, (count, own) in enumerate(zip(counts, rows, strict=True)):
        if count != len(own):
            raise MediaMaskError(
                f"row {row} has {count} marks {mark!r} and {len(own)} items; wanted as many, and a clip in a list of "
                "its own inside the row's"
            )
    return [[_read(item) for item in own] for own in rows]


def _is_clip(item: Any) -> bool:
    return _is_list(item) or getattr(item, "ndim", 0) == 4


def _read(item: Any) -> Any:
    """Images as the tower's preprocess takes them: files and addresses are read, clips become lists."""
    if _is_list(item) or getattr(item, "ndim", 0) == 4:
        return [_read(frame) for frame in item]
    return load_image(item) if isinstance(item, str) else item
