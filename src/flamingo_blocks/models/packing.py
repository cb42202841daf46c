"""Several documents in one row: the mask and positions that keep them apart, and the proof that the model obeys."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.errors import MediaMaskError
from flamingo_blocks.lm.text_config import text_config
from flamingo_blocks.models.abilities import dtype_and_device, relative_error, remembered, rounding_error
from flamingo_blocks.models.call_language_model import accepts, call_language_model
from flamingo_blocks.models.check_arguments import refuse_where
from flamingo_blocks.models.eval_mode import eval_mode
from flamingo_blocks.ops._host_reads import on_host
from flamingo_blocks.ops._visible_ranges import run_start_columns

if TYPE_CHECKING:
    from flamingo_blocks.models.flamingo import Flamingo


def packed_mask(
    document: Int[Tensor, "batch text"], valid: Bool[Tensor, "batch text"] | None, dtype: torch.dtype
) -> Float[Tensor, "batch 1 text text"]:
    """Block-diagonal causal mask, 0 where a token may attend and the smallest number elsewhere."""
    text = document.shape[1]
    start = run_start_columns(document)
    columns = torch.arange(text, device=document.device)
    allowed = (columns[:, None] >= columns) & (columns >= start[..., None])  # batch text text
    if valid is not None:
        allowed = allowed & (valid[:, None] | (columns[:, None] == columns))  # a pad may see itself, so no row is empty
    mask = torch.zeros(allowed.shape, dtype=dtype, device=document.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]


def packed_positions(
    document: Int[Tensor, "batch text"], valid: Bool[Tensor, "batch text"] | None = None
) -> Int[Tensor, "batch text"]:
    """Positions that start at 0 in each document; pads take none."""
    start = run_start_columns(document)
    if valid is None:
        return torch.arange(document.shape[1], device=document.device) - start
    before = valid.long().cumsum(1) - valid.long()  # real tokens left of each column
    return before - before.gather(1, start)


def keep_apart(flamingo: "Flamingo", document: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mask and positions for packed rows, once the language model has been seen to obey them.

    Raises:
        ValueError: If it does not.
    """
    valid = None if attention_mask is None else attention_mask.bool()
    positions = packed_positions(document, valid)
    refuse_long_documents(flamingo.lm, positions)
    seen = remembered(flamingo)
    if not seen.documents:
        with flamingo.attachment.without_media():
            refuse_if_leaking(flamingo.lm)
        seen.documents = True
    return packed_mask(document, valid, dtype_and_device(flamingo.lm)[0]), positions


_ADVICE = "give each document a row of its own"


def refuse_long_documents(lm: nn.Module, positions: Int[Tensor, "batch text"]) -> None:
    """Check that no sliding window of the model is shorter than the longest document.

    Args:
        lm: The language model.
        positions: Those of `packed_positions`.

    Raises:
        ValueError: If one is.
    """
    window = getattr(text_config(lm), "sliding_window", None)
    if window is None or positions.shape[1] <= window:
        return
    refuse_where(
        (positions >= window).any(),
        lambda: (
            f"a packed document has {on_host(positions.max()) + 1} tokens, but {type(lm).__name__} has a sliding "
            f"window of {window} tokens, which a mask for packed documents would replace; {_ADVICE}"
        ),
    )


@torch.no_grad()
def refuse_if_leaking(lm: nn.Module) -> None:
    """Run two short documents packed and alone, and compare; for the bare model, inside `without_media()`.

    Raises:
        ValueError: If the model takes no mask of that kind, or its logits in the packed row differ from those alone.
    """
    if not accepts(lm, "attention_mask"):
        raise MediaMaskError(f"document was given, but {type(lm).__name__}.forward takes no attention_mask; {_ADVICE}")
    dtype, device = dtype_and_device(lm)
    try:
        with eval_mode(lm):  # dropout would look like a leak
            error = _leak(lm, dtype, device)
    except Exception as problem:  # whatever a model does with a mask that it was not made for
        raise MediaMaskError(
            f"document was given, but {type(lm).__name__} cannot run under a mask [batch 1 text text]: "
            f"{type(problem).__name__}: {problem}; {_ADVICE}"
        ) from problem
    bound = rounding_error(dtype)
    if error > bound:
        raise MediaMaskError(
            f"document was given, but {type(lm).__name__} does not keep packed documents apart: its logits change by "
            f"{error:.1e} of their size (bound {bound:.0e}); {_ADVICE}"
        )


def _leak(lm: nn.Module, dtype: torch.dtype, device: torch.device) -> float:
    """How far the logits of two packed documents are from those of each alone, relative to their size."""
    ids = torch.tensor([[2, 1, 3, 3, 1, 1, 2]], device=device)
    document = torch.tensor([[0, 0, 0, 1, 1, 1, 1]], device=device)
    packed = call_language_model(
        lm, ids, attention_mask=packed_mask(document, None, dtype), position_ids=packed_positions(document)
    ).logits
    alone = torch.cat([call_language_model(lm, part).logits for part in (ids[:, :3], ids[:, 3:])], dim=1)
    return float(relative_error(packed, alone))
