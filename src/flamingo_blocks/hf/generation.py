"""`generate` of the Hugging Face front: the language model's own, with the media encoded once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flamingo_blocks.lm import MediaState
from flamingo_blocks.models.check_arguments import check_ids
from flamingo_blocks.models.place_media import place_media
from flamingo_blocks.models.wider_vocabulary import wider_vocabulary
from flamingo_blocks.ops.media_layout import MediaLayout

if TYPE_CHECKING:
    from flamingo_blocks.hf.modeling import FlamingoForConditionalGeneration


@torch.no_grad()
def generate(
    self: "FlamingoForConditionalGeneration",
    inputs: Tensor | None = None,
    generation_config: Any | None = None,
    *,
    input_ids: Tensor | None = None,
    pixel_values: Tensor | None = None,
    attention_mask: Tensor | None = None,
    features: Tensor | None = None,
    media: MediaState | Tensor | None = None,
    frame_valid: Tensor | None = None,
    patch_valid: Tensor | None = None,
    layout: MediaLayout | None = None,
    **arguments: Any,
) -> Any:
    """Continue texts: `model.generate(**processor(text=..., images=..., return_tensors="pt"))`.

    It is the language model's own `generate`, so all that transformers offers is there: greedy, sampling, beams,
    streamers, constraints, logits processors, assisted decoding. Each item is encoded and projected once, before the
    first step.

    Args:
        inputs: Prompts, padded on the left.
        generation_config: As in transformers; `model.generation_config` by default.
        input_ids: The prompts by name.
        pixel_values: The media pool, as in `forward`.
        attention_mask: 1 at real tokens.
        features: As in `Flamingo.generate`.
        media: Likewise.
        frame_valid: Likewise.
        patch_valid: Likewise.
        layout: Likewise.
        **arguments: `max_new_tokens`, `num_beams`, `streamer`, ..., and `prompt` and `return_prompt` of
            `Flamingo.generate`. An `assistant_model` may be a language model, or a front that sees the same images.

    Returns:
        Token ids as the language model's `generate` gives them, prompt included.

    Raises:
        ValueError: As `Flamingo.generate`; also if no prompt or two are given, or `prompt` beside an assistant that
            is a front itself.
    """
    ids = input_ids if inputs is None else inputs
    if ids is None or (inputs is not None and input_ids is not None):
        raise ValueError("inputs and input_ids are two names of the prompts; give one of them")
    given: dict[str, Any] = {
        "pixels": with_frames(pixel_values), "features": features, "media": media, "frame_valid": frame_valid,
        "patch_valid": patch_valid, "layout": layout, "attention_mask": attention_mask,
    }  # fmt: skip
    if generation_config is not None:
        arguments["generation_config"] = generation_config
    if arguments.get("prompt") is not None and hasattr(arguments.get("assistant_model"), "flamingo"):
        raise ValueError(
            "prompt is given, but assistant_model is a Flamingo of its own, which has not seen the prompt's media; "
            "give the whole text without prompt=, or leave the assistant out"
        )
    with _sighted(arguments.pop("assistant_model", None), ids, given) as assistant:
        if assistant is not None:
            arguments["assistant_model"] = assistant
        return self.flamingo.generate(ids, **given, **arguments)


def with_frames(pixel_values: Tensor | None) -> Tensor | None:
    """Make clips of one frame of images.

    Args:
        pixel_values: Images [items 3 height width], clips [items frames 3 height width], or none.

    Returns:
        Clips, or none.
    """
    return pixel_values[:, None] if pixel_values is not None and pixel_values.ndim == 4 else pixel_values


@contextmanager
def _sighted(assistant: Any, input_ids: Tensor, given: dict[str, Any]) -> Iterator[Any]:
    """The language model that guesses ahead: inside the context of its own media, where it is a Flamingo's."""
    flamingo = getattr(assistant, "flamingo", None)
    if flamingo is None:
        yield assistant
        return
    check_ids(input_ids)
    state = flamingo.attachment.project(place_media(flamingo, input_ids, **given))
    num_new = 0 if flamingo.token_rows is None else flamingo.token_rows.num_predicted
    # Both models are compared by the size of their vocabulary.
    with wider_vocabulary(flamingo.lm, num_new), flamingo.attachment.media(state):
        yield flamingo.lm
