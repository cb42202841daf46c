"""The media of a call: encoded, and placed in its text."""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.check_arguments import (
    check_mask,
    check_media,
    check_prompt,
    refuse_idle_flags,
    refuse_unknown_ids,
)
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops._layout_checks import check_documents
from flamingo_blocks.ops.media_layout import MediaLayout

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo


def make_layout(
    self: "Flamingo",
    input_ids: Int[Tensor, "batch text"],
    *,
    attention_mask: Tensor | None = None,
    document: Int[Tensor, "batch text"] | None = None,
    prompt: PromptState | None = None,
) -> MediaLayout:
    """Say which token sees which item, by the media tags: the layout that a call makes when none is given.

    Make it once to look at it, to change it, or to `prepare` it away from the step; pass it as `layout`.

    Args:
        input_ids: Token ids; the new ones alone behind a prompt.
        attention_mask: 1 at real tokens, as in `forward`.
        document: Which document each token of a packed row belongs to; no token sees an item of another one.
        prompt: Text and media run before, with as many rows as `input_ids`; the layout covers both texts.

    Returns:
        The layout, on the device of the ids, with the model's `scope` and `document_end_id`.

    Raises:
        TypeError: If `prompt` is no `PromptState`.
        ValueError: If mask or documents have another shape than the ids, the prompt has another number of rows, or a
            tag stands on a pad.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> image = flamingo.media_token_id
        >>> flamingo.make_layout(torch.tensor([[1, image, 5, image, 6]])).last
        tensor([[-1,  0,  0,  1,  1]])
    """
    check_prompt(prompt)
    is_media = input_ids == self.media_token_id
    check_mask(attention_mask, input_ids)
    valid = None if attention_mask is None else attention_mask.bool()
    if prompt is None:
        layout = MediaLayout.from_tokens(is_media, scope=self.scope, document=document, valid=valid)
    else:
        assert prompt.state.layout is not None
        layout = prompt.state.layout.append(is_media, scope=self.scope, valid=valid, num_items=prompt.state.num_items)
        input_ids = torch.cat([prompt.input_ids, input_ids], dim=1)
        valid = prompt.extended_mask(attention_mask, is_media.shape[1])
    if self.document_end_id is None:
        return layout
    new = is_media.shape[1]
    return _forget(layout, input_ids == self.media_token_id, input_ids == self.document_end_id, valid, new)


def _forget(layout: MediaLayout, is_media: Tensor, ends: Tensor, valid: Tensor | None, new: int) -> MediaLayout:
    """The layout in which new tokens behind an end see nothing, up to the next tag; the end itself still sees."""
    if valid is not None:
        ends = ends & valid  # pads may have the same id
    columns = torch.arange(ends.shape[1], device=ends.device)
    last_end, last_tag = (torch.where(marks, columns, -1).cummax(1).values for marks in (ends, is_media))
    over = F.pad(last_end, (1, -1), value=-1) > last_tag
    if valid is not None:  # a pad repeats the last real token before it
        over = over.gather(1, torch.where(valid, columns, 0).cummax(1).values)
    over = over & (columns >= ends.shape[1] - new)
    return replace(layout, first=layout.first.masked_fill(over, 0), last=layout.last.masked_fill(over, -1), plan=None)


def place_media(
    flamingo: "Flamingo",
    input_ids: Tensor,
    *,
    pixels: Float[Tensor, "items frames 3 height width"] | None = None,
    features: Float[Tensor, "items frames patches vision_dim"] | None = None,
    media: MediaState | Float[Tensor, "items latents dim"] | None = None,
    frame_valid: Bool[Tensor, "items frames"] | None = None,
    patch_valid: Bool[Tensor, "items frames patches"] | None = None,
    layout: MediaLayout | None = None,
    document: Int[Tensor, "batch text"] | None = None,
    attention_mask: Tensor | None = None,
    prompt: PromptState | None = None,
) -> MediaState:
    """Encode the media of a text and say which of its tokens sees which; the arguments are those of `forward`.

    Args:
        flamingo: The model.
        input_ids: The new tokens, checked by the caller with `check_ids`.
        pixels: Their media.
        features: Likewise.
        media: Likewise.
        frame_valid: Frames that exist.
        patch_valid: Patches that count.
        layout: The layout of the whole text; read off the media tags by default.
        document: Which document each token belongs to.
        attention_mask: 1 at real tokens.
        prompt: What was run before, with as many rows as `input_ids`; its media stand before the new ones.

    Returns:
        Media and layout of the whole text.

    Raises:
        TypeError: If media are no tensors.
        ValueError: If ids are not known, tags and items differ in number, several kinds of media or two layouts are
            given, or flags of frames or patches beside none.
        RuntimeError: If the model was detached.
    """
    if not flamingo.attachment.attached:
        raise RuntimeError("this Flamingo was detached; make another one around the language model to go on")
    refuse_unknown_ids(input_ids, flamingo.lm, 0 if flamingo.token_rows is None else flamingo.token_rows.num_tokens)
    check_media({"pixels": pixels, "features": features, "media": media})
    if isinstance(media, MediaState) and media.layout is not None:
        if layout is not None and layout is not media.layout:
            raise MediaMaskError("layout was given, and media has a layout of its own; give one of them")
        layout = media.layout
    if layout is None:
        pools = (media.media if isinstance(media, MediaState) else media, pixels, features)
        _compare_counts(flamingo, input_ids, sum(pool.shape[0] for pool in pools if pool is not None))
        layout = make_layout(flamingo, input_ids, attention_mask=attention_mask, document=document, prompt=prompt)
    else:
        check_mask(attention_mask, input_ids)
        check_documents(document, input_ids)
    if media is None:
        new = flamingo._encode(
            pixels=pixels, features=features, frame_valid=frame_valid, patch_valid=patch_valid,
            layout=layout if prompt is None else None,
        )  # fmt: skip
    else:
        refuse_idle_flags({"media": media}, frame_valid=frame_valid, patch_valid=patch_valid)
        new = MediaState(media=media) if isinstance(media, Tensor) else media
    if prompt is None:
        return new.with_layout(layout)
    return prompt.state.append(new.media, layout, valid=new.valid)


def _compare_counts(flamingo: "Flamingo", input_ids: Tensor, items: int) -> None:
    """Every tag needs an item and every item a tag."""
    tags = int((input_ids == flamingo.media_token_id).sum())
    if tags != items:
        raise MediaMaskError(
            f"input_ids hold {tags} media tags (id {flamingo.media_token_id}), but {items} items were given; "
            "give one item a tag, in the order of the text, or pass layout= to share items"
        )
