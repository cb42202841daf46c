"""What a Flamingo refuses before it computes anything."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.errors import MediaMaskError, ShapeError
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops._host_reads import may_read, on_host
from flamingo_blocks.ops.next_token_loss import IGNORED, check_label_kind

_FRAMES_OF, _PATCHES_OF = ("pixels", "features"), ("features",)
_IDLE = {  # why flags say nothing beside a kind of media, and what to do
    "pixels": "the tower itself tells which patches of pixels count; leave it out",
    "media": "media tokens have no frames and patches any more; leave it out, or give MediaState(media=, valid=)",
    None: "leave it out",
}


def refuse_where(wrong: Tensor, message: Callable[[], str]) -> None:
    """Refuse pads and documents without waiting for them: at once on the CPU, by an assertion of the device on a GPU.

    Args:
        wrong: One truth value.
        message: Makes the text of the error; called on the CPU only.

    Raises:
        MediaMaskError: If the value is true and on the CPU.
    """
    if wrong.is_cuda:
        torch._assert_async(~wrong)
    elif wrong.device.type == "cpu" and on_host(wrong):
        raise MediaMaskError(message())


def check_token_id(lm: nn.Module, num_new_tokens: int, token_id: int | None, *, name: str) -> None:
    """A token of ours must have a row, where the model tells how many its table has.

    Raises:
        ValueError: If it has none.
    """
    known = _table_size(lm)
    if token_id is None or known is None:
        return
    if not 0 <= token_id < known + num_new_tokens:
        raise ValueError(
            f"{name} is {token_id}, but the table has {known} ids and num_new_tokens is "
            f"{num_new_tokens}; new ids follow the table, so raise num_new_tokens to have it"
        )


def refuse_other_names(arguments: Mapping[str, object]) -> None:
    """Pixels have another name in Hugging Face, and another shape.

    Raises:
        TypeError: If they were given by that name.
    """
    if "pixel_values" in arguments:
        raise TypeError("pixel_values was given; here it is pixels=, of shape [items frames 3 height width]")


def check_ids(input_ids: object, *, some: bool = False) -> None:
    """Text comes as ids.

    Args:
        input_ids: What was given.
        some: Whether there must be a column.

    Raises:
        TypeError: If they are no tensor.
        ValueError: If they are no integers [batch text], or negative; that is seen on the CPU alone.
    """
    if not isinstance(input_ids, Tensor):
        raise TypeError(
            f"input_ids is a {type(input_ids).__name__}, wanted a tensor of ids [batch text]: torch.tensor([ids])"
        )
    if input_ids.ndim != 2 or input_ids.is_floating_point():
        raise ShapeError(f"input_ids is {input_ids.dtype} of shape {tuple(input_ids.shape)}, wanted ids [batch text]")
    if may_read(input_ids) and input_ids.numel() and (least := on_host(input_ids.min())) < 0:
        raise ValueError(
            f"input_ids hold {least}, wanted ids of 0 or more; only labels have {IGNORED} where nothing counts: "
            "give pads an id of the vocabulary, and 0 in attention_mask"
        )
    if some and input_ids.shape[1] == 0:
        raise ShapeError(
            f"input_ids has shape {tuple(input_ids.shape)}, so there is no text to go on from; give one token or more"
        )


def refuse_unknown_ids(input_ids: Tensor, lm: nn.Module, num_new_tokens: int) -> None:
    """Text has ids that the model knows, where it tells how many its table has.

    Args:
        input_ids: Checked by `check_ids`.
        lm: The language model.
        num_new_tokens: Rows behind its table.

    Raises:
        ValueError: If an id lies beyond; that is seen on the CPU alone.
    """
    known = _table_size(lm) if may_read(input_ids) and input_ids.numel() else None
    if known is not None and (largest := on_host(input_ids.max())) >= known + num_new_tokens:
        raise ValueError(
            f"input_ids hold {largest}, but the model knows ids 0 to {known + num_new_tokens - 1}: {known} of its "
            f"table and {num_new_tokens} new ones; is the tokenizer that of this language model?"
        )


def _table_size(lm: nn.Module) -> int | None:
    """How many ids the model has an embedding for, where it tells."""
    get = getattr(lm, "get_input_embeddings", None)
    table = get() if callable(get) else None
    return table.num_embeddings if isinstance(table, nn.Embedding) else None


def check_prompt(prompt: object) -> None:
    """A prompt has been run already.

    Raises:
        TypeError: If it is anything else, such as the ids of one.
    """
    if prompt is not None and not isinstance(prompt, PromptState):
        raise TypeError(
            f"prompt is a {type(prompt).__name__}, wanted a PromptState: flamingo.prefill(input_ids, ...) gives one"
        )


def check_labels(labels: object, input_ids: Tensor) -> None:
    """Labels are ids, one a token.

    Raises:
        TypeError: If they are no tensor.
        ValueError: If they have another shape, or are no integers.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels is a {type(labels).__name__}, wanted a tensor of ids of the shape of input_ids")
    if labels.shape != input_ids.shape:
        raise ShapeError(
            f"labels has shape {tuple(labels.shape)}, wanted {tuple(input_ids.shape)} as input_ids: not shifted, -100 "
            "where nothing counts"
        )
    check_label_kind(labels)


def check_mask(attention_mask: Tensor | None, input_ids: Tensor) -> None:
    """A mask says of each new token whether it is one.

    Raises:
        ValueError: If it has another shape.
    """
    if attention_mask is not None and attention_mask.shape != input_ids.shape:
        raise ShapeError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, wanted {tuple(input_ids.shape)} as input_ids: "
            "1 at real tokens, 0 at pads, of the new tokens alone behind a prompt"
        )


def check_media(media: Mapping[str, object]) -> None:
    """Media come as one tensor of one kind.

    Args:
        media: What was given, by the names of the kinds.

    Raises:
        TypeError: If one is no tensor.
        ValueError: If there are several.
    """
    given = {name: value for name, value in media.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} were given; wanted one of pixels, features and media")
    for name, value in given.items():
        if not isinstance(value, Tensor) and not (name == "media" and isinstance(value, MediaState)):
            raise TypeError(
                f"{name} is a {type(value).__name__}, wanted a tensor; stack images as clips of one frame: "
                "torch.stack([tower.preprocess(image) for image in images])[:, None]"
            )


def refuse_idle_flags(media: Mapping[str, object], *, frame_valid: Tensor | None, patch_valid: Tensor | None) -> None:
    """Flags of frames and patches stand beside the frames and patches that they are about.

    Args:
        media: What was given, by the names of the kinds.
        frame_valid: Frames that exist, of pixels or features.
        patch_valid: Patches that count, of features; the tower tells those of pixels.

    Raises:
        ValueError: If one would be passed over.
    """
    kind = next((name for name, value in media.items() if value is not None), None)
    for name, flags, kinds in (("frame_valid", frame_valid, _FRAMES_OF), ("patch_valid", patch_valid, _PATCHES_OF)):
        if flags is not None and kind not in kinds:
            beside = "without media" if kind is None else f"beside {kind}"
            raise ValueError(f"{name} was given {beside}, wanted beside {' or '.join(kinds)}: {_IDLE[kind]}")


def check_flags(features: Tensor, *, frame_valid: Tensor | None, patch_valid: Tensor | None) -> None:
    """Flags beside features have one value a frame, or a patch.

    Raises:
        ValueError: If they have another shape or dtype.
    """
    flags = (("frame_valid", frame_valid, "items frames"), ("patch_valid", patch_valid, "items frames patches"))
    for name, given, axes in flags:
        wanted = features.shape[: len(axes.split())]
        if given is not None and (given.dtype != torch.bool or given.shape != wanted):
            raise ShapeError(
                f"{name} has shape {list(given.shape)} and dtype {given.dtype}, wanted bool {list(wanted)} ({axes}) "
                f"beside features, True for {axes.split()[-1]} that exist"
            )


def refuse_pairs(
    input_ids: Tensor,
    document: Tensor | None,
    labels: Tensor | None,
    prompt: PromptState | None,
    logits_to_keep: int,
    *,
    with_logits: bool,
) -> None:
    """Arguments of `forward` that exclude each other.

    Raises:
        TypeError: If ids or labels are no tensors, or `prompt` is no `PromptState`.
        ValueError: If two of them were given, or labels of another shape, or that are no integers.
    """
    check_ids(input_ids)
    check_prompt(prompt)
    if labels is not None and logits_to_keep:
        raise ValueError(f"labels need all logits, but logits_to_keep is {logits_to_keep}; leave one of them out")
    if labels is not None:
        check_labels(labels, input_ids)
    if labels is None and not with_logits:
        raise ValueError("return_logits is False and labels is None, so nothing would be returned; give one of them")
    if prompt is not None and input_ids.shape[1] == 0:
        raise ValueError("input_ids has no column; the scores of what follows a prompt are prompt.logits")
    if document is not None and prompt is not None:
        raise MediaMaskError("document and prompt exclude each other: a prompt is one document; leave one of them out")


def refuse_right_pads(attention_mask: Tensor | None) -> None:
    """New tokens must follow real ones.

    Raises:
        ValueError: If a row ends in a pad.
    """
    if attention_mask is None or attention_mask.ndim != 2:
        return  # `check_mask` says more of another shape
    if attention_mask.shape[1] and not bool(attention_mask[:, -1].all()):
        row = int((attention_mask[:, -1] == 0).nonzero()[0])
        raise MediaMaskError(
            f"attention_mask of row {row} ends in a pad; pad on the left, so that new tokens follow real ones"
        )


def check_candidates(candidates: Sequence[Sequence[int]], media_token_id: int) -> None:
    """Candidates are lists of token ids, text and nothing else.

    Raises:
        ValueError: If there is none, or one has no token or holds the media tag.
        TypeError: If they are a tensor, or one is no list.
    """
    given: Any = candidates
    if isinstance(given, Tensor):
        raise TypeError("candidates is a Tensor, wanted lists of token ids: candidates.tolist(), without pads")
    if not candidates:
        raise ValueError("candidates is empty; give at least one list of token ids")
    for index, candidate in enumerate(given):
        if isinstance(candidate, str) or not isinstance(candidate, Sequence):
            raise TypeError(f"candidate {index} is {candidate!r}, wanted a list of token ids")
        if not len(candidate):
            raise ValueError(f"candidate {index} has no token; give each candidate one token or more")
        if media_token_id in candidate:
            raise ValueError(f"candidate {index} holds the media tag (id {media_token_id}); candidates are text")


def check_candidate_ids(candidates: Sequence[Sequence[int]], vocab: int) -> None:
    """Each token of a candidate has a logit.

    Args:
        candidates: Lists of token ids.
        vocab: How many logits there are.

    Raises:
        TypeError: If a candidate holds what is no id.
        ValueError: If it holds an id that the model does not predict.
    """
    for index, candidate in enumerate(candidates):
        for token in candidate:
            if isinstance(token, float | str):
                raise TypeError(f"candidate {index} holds {token!r}, wanted token ids")
            if not 0 <= token < vocab:
                raise ValueError(
                    f"candidate {index} holds token id {int(token)}, but the model predicts ids 0 to {vocab - 1}"
                )
