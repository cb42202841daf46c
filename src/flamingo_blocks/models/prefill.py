"""Run a prompt once, for many queries to go on from: a method of `Flamingo`, kept beside it."""

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.abilities import goes_on_from_cache, refuse_misread_pads
from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.models.check_arguments import check_ids, check_prompt
from flamingo_blocks.models.output_head import proven_head
from flamingo_blocks.models.place_media import place_media
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops.media_layout import MediaLayout

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo


@torch.no_grad()
def prefill(
    self: "Flamingo",
    input_ids: Int[Tensor, "batch text"],
    *,
    prompt: PromptState | None = None,
    pixels: Float[Tensor, "items frames 3 height width"] | None = None,
    features: Float[Tensor, "items frames patches vision_dim"] | None = None,
    media: MediaState | Float[Tensor, "items latents dim"] | None = None,
    frame_valid: Bool[Tensor, "items frames"] | None = None,
    patch_valid: Bool[Tensor, "items frames patches"] | None = None,
    layout: MediaLayout | None = None,
    attention_mask: Tensor | None = None,
) -> PromptState:
    """Run text and media once, to be continued by many queries.

    Chunks of a long prompt and chat turns are repeated prefills: pass the last result as `prompt`. No gradient
    flows into a prompt.

    Args:
        input_ids: The new tokens.
        prompt: What was run before; it is not changed.
        pixels: Media of the new tokens.
        features: Likewise.
        media: Likewise.
        frame_valid: Frames that exist.
        patch_valid: Patches that count.
        layout: The layout of the whole text, prompt included; read off the media tags by default.
        attention_mask: 1 at real tokens of the new text.

    Returns:
        The prompt with the new tokens.

    Raises:
        TypeError: If ids or media are no tensors, or `prompt` is no `PromptState`.
        ValueError: If there is no text, the prompt has several rows and not as many as `input_ids`, tags and items
            differ in number, or as `forward`.
        RuntimeError: If the model was detached.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> shot = torch.tensor([[1, flamingo.media_token_id, 5]])
        >>> prompt = flamingo.prefill(shot, pixels=torch.zeros(1, 1, 3, 8, 8))
        >>> flamingo(torch.tensor([[6, 7], [8, 9]]), prompt=prompt).logits.shape  # two queries behind the one prompt
        torch.Size([2, 2, 34])
    """
    check_ids(input_ids, some=prompt is None)
    check_prompt(prompt)
    if prompt is not None:
        prompt = prompt.for_rows(input_ids.shape[0])
        if input_ids.shape[1] == 0:
            return prompt
    state = place_media(
        self, input_ids, pixels=pixels, features=features, media=media, frame_valid=frame_valid,
        patch_valid=patch_valid, layout=layout, attention_mask=attention_mask, prompt=prompt,
    )  # fmt: skip
    mask = None if attention_mask is None else attention_mask.bool()
    return run_prompt(self, input_ids, self.attachment.project(state), mask, prompt)


def run_prompt(
    flamingo: "Flamingo", input_ids: Tensor, state: MediaState, new: Tensor | None, prompt: PromptState | None
) -> PromptState:
    """Run new tokens behind a prompt; the state's layout covers both, `new` is True at the real ones of them."""
    run_ids, whole_ids, cache = input_ids, input_ids, None
    mask = torch.ones_like(input_ids, dtype=torch.bool) if new is None else new
    if prompt is not None:
        mask = prompt.extended_mask(new, input_ids.shape[1])
        run_ids, cache = behind_prompt(prompt, input_ids, kept=True)
        whole_ids = torch.cat([prompt.input_ids, input_ids], dim=1)
    refuse_misread_pads(flamingo, mask)
    use_cache = goes_on_from_cache(flamingo)
    # Rows may end in pads. Their last real columns are picked before the head: which ones they are is known to the
    # device alone, and the logits of all columns would be large.
    head = None if new is None else proven_head(flamingo)
    last = None if new is None else last_real_column(new)
    picked: Any = nullcontext()
    if head is not None and last is not None:
        picked = head.shown([], columns=last.clamp(min=0) + run_ids.shape[1] - input_ids.shape[1])
    with flamingo.attachment.media(state), picked:
        output = call_language_model(
            flamingo.lm, run_ids, attention_mask=mask, cache=cache, use_cache=use_cache,
            logits_to_keep=_columns_to_keep(input_ids, new, picked=head is not None),
        )  # fmt: skip
    logits = output.logits
    if last is not None and head is None:
        logits = logits.gather(1, last.clamp(min=0)[:, None, None].expand(-1, 1, logits.shape[2]))
    if last is not None and prompt is not None:
        logits = torch.where((last < 0)[:, None, None], prompt.logits, logits)
    return PromptState(whole_ids, mask, state, output.cache, logits)


def behind_prompt(prompt: PromptState, input_ids: Tensor, *, kept: bool) -> tuple[Tensor, Any | None]:
    """What to run behind a prompt: the new tokens with its cache, or all of them for want of a cache.

    `kept`: whether anybody needs the cache of the new tokens, or gradients through them, when the call has ended.
    """
    if prompt.cache is None:
        return torch.cat([prompt.input_ids, input_ids], dim=1), None
    room = input_ids.shape[1]
    return input_ids, prompt.fork_cache(room=room) if kept else prompt.lend_cache(room=room)


def last_real_column(real: Bool[Tensor, "batch text"]) -> Int[Tensor, " batch"]:
    """The column of each row's last real token; -1 where there is none."""
    columns = torch.arange(real.shape[1], device=real.device)
    return torch.where(real, columns, -1).amax(1)


def _columns_to_keep(input_ids: Tensor, new: Tensor | None, *, picked: bool) -> int:
    """How many of the last logits the model is asked for, 0 for all: it must not cut off the columns to be picked."""
    if picked:
        return 0
    return 1 if new is None else input_ids.shape[1]
