"""The forward pass of the Hugging Face front."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.utils import ModelOutput

from flamingo_blocks.hf.generation import with_frames
from flamingo_blocks.lm import MediaState
from flamingo_blocks.models.abilities import refuse_misread_pads
from flamingo_blocks.models.call_language_model import accepts
from flamingo_blocks.models.check_arguments import check_ids
from flamingo_blocks.models.place_media import place_media
from flamingo_blocks.ops.media_layout import MediaLayout

if TYPE_CHECKING:
    from flamingo_blocks.hf.modeling import FlamingoForConditionalGeneration


@dataclass
class FlamingoCausalLMOutput(ModelOutput):  # type: ignore[misc]
    """What a forward pass gives, in transformers' form.

    Args:
        loss: Mean cross-entropy over the labels, when there were any.
        logits: Scores over the vocabulary, new tokens last. `None` beside the loss of a model in training mode.
        past_key_values: The language model's cache.
        media: The media and their layout, to be passed on together with `past_key_values`.
        hidden_states: The language model's, when asked for.
        attentions: Likewise.

    Example:
        >>> import torch
        >>> output = FlamingoCausalLMOutput(loss=torch.tensor(0.5), logits=torch.zeros(1, 4, 52))
        >>> output.logits.shape, output["loss"], output.to_tuple()[0]  # in transformers' three forms
        (torch.Size([1, 4, 52]), tensor(0.5000), tensor(0.5000))
    """

    loss: Any = None
    logits: Any = None
    past_key_values: Any = None
    media: Any = None
    hidden_states: Any = None
    attentions: Any = None


# Arguments of transformers' models beside those of media: the caller is theirs.
def forward(  # noqa: PLR0913
    self: "FlamingoForConditionalGeneration",
    input_ids: Tensor | None = None,
    *,
    pixel_values: Tensor | None = None,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    past_key_values: Any | None = None,
    labels: Tensor | None = None,
    features: Tensor | None = None,
    media: MediaState | Tensor | None = None,
    frame_valid: Tensor | None = None,
    patch_valid: Tensor | None = None,
    layout: MediaLayout | None = None,
    document: Tensor | None = None,
    return_logits: bool | None = None,
    num_items_in_batch: Tensor | int | None = None,
    return_dict: bool | None = None,
    **keywords: Any,
) -> FlamingoCausalLMOutput | tuple[Any, ...]:
    """Run the model on text and its media.

    Args:
        input_ids: Token ids, with one media tag for each item.
        pixel_values: The media pool [items frames 3 height width]; images may leave out `frames`.
        attention_mask: 1 at real tokens, cached ones included.
        position_ids: Positions; derived from `attention_mask` where the language model takes them.
        past_key_values: The language model's cache; `media` must then be that of the output it came with.
        labels: Token ids to predict, as in Hugging Face.
        features: As in `Flamingo.forward`.
        media: Likewise.
        frame_valid: Likewise.
        patch_valid: Likewise.
        layout: Likewise.
        document: Likewise.
        return_logits: Whether logits stand beside a loss; by default in eval mode only, for they are large.
        num_items_in_batch: Labels in the whole step, by which `Trainer` wants the sum of losses divided.
        return_dict: False for a tuple.
        **keywords: For the language model: `use_cache`, `output_hidden_states`, `logits_to_keep`, ...

    Returns:
        Loss and logits, and what else was asked for.

    Raises:
        ValueError: As `Flamingo.forward`; also if `inputs_embeds` are given, a cache without its media, or beside
            `labels` or `document` anything for the language model but `use_cache`.
    """
    if input_ids is None or keywords.get("inputs_embeds") is not None:
        raise ValueError("input_ids is None or inputs_embeds were given; media tags are read off input_ids")
    given = {
        "pixels": with_frames(pixel_values), "features": features, "media": media, "frame_valid": frame_valid,
        "patch_valid": patch_valid, "layout": layout, "document": document, "attention_mask": attention_mask,
    }  # fmt: skip
    keywords = {name: value for name, value in keywords.items() if value is not None}
    if labels is not None or document is not None:
        _refuse_beside_labels({**keywords, "past_key_values": past_key_values, "position_ids": position_ids})
        output = _loss(self, input_ids, labels, given, return_logits, num_items_in_batch)
    else:
        output = _logits(self, input_ids, given, position_ids, past_key_values, keywords)
    return output.to_tuple() if return_dict is False else output


def _refuse_beside_labels(given: dict[str, Any]) -> None:
    """Refuse what is not passed on where a loss is made for a few tokens at a time, or rows hold several documents."""
    unused = [
        name
        for name, value in given.items()
        if name != "use_cache" and not (value is None or (isinstance(value, int) and not value))
    ]
    if unused:
        raise ValueError(
            f"{', '.join(sorted(unused))} given together with labels or document, where they are not used; leave them "
            "out, or call without labels and document, and take the loss of the logits yourself"
        )


def _loss(
    model: "FlamingoForConditionalGeneration",
    input_ids: Tensor,
    labels: Tensor | None,
    given: dict[str, Any],
    return_logits: bool | None,
    num_items_in_batch: Tensor | int | None,
) -> FlamingoCausalLMOutput:
    if return_logits is None:
        return_logits = labels is None or not model.training
    output = model.flamingo(input_ids, **given, labels=labels, return_logits=return_logits)
    loss = output.loss
    if loss is not None and num_items_in_batch is not None:
        loss = loss * output.num_labels / num_items_in_batch
    return FlamingoCausalLMOutput(loss=loss, logits=output.logits)


def _logits(
    model: "FlamingoForConditionalGeneration",
    input_ids: Tensor,
    given: dict[str, Any],
    position_ids: Tensor | None,
    cache: Any,
    keywords: dict[str, Any],
) -> FlamingoCausalLMOutput:
    check_ids(input_ids)
    lm, mask = model.flamingo.lm, given["attention_mask"]
    past = 0 if cache is None else int(cache.get_seq_length())
    if past and not (isinstance(given["media"], MediaState) and given["media"].layout is not None):
        raise ValueError(
            f"past_key_values holds {past} tokens, but media is not given; pass media=output.media of the call "
            "that gave the cache"
        )
    if not past:
        refuse_misread_pads(model.flamingo, mask)
    # Behind a cache the mask is that of the whole text, and the layout is that of the media.
    state = place_media(model.flamingo, input_ids, **(given | {"attention_mask": None} if past else given))
    if cache is not None or keywords.get("use_cache"):
        state = model.flamingo.attachment.project(state)
    if position_ids is None and mask is not None:
        position_ids = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
    if position_ids is not None and accepts(lm, "position_ids"):
        keywords["position_ids"] = position_ids
    with model.flamingo.attachment.media(state):
        output = lm(input_ids, attention_mask=mask, past_key_values=cache, **keywords)
    cache = getattr(output, "past_key_values", None)
    return FlamingoCausalLMOutput(
        logits=output.logits,
        past_key_values=cache,
        media=None if cache is None else state,
        hidden_states=getattr(output, "hidden_states", None),
        attentions=getattr(output, "attentions", None),
    )
