"""Many candidates behind rows in one pass: their tree of tokens stands beside each row, under a mask."""

from collections.abc import Sequence
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.evaluation.decode.batch_sizes import short_window
from flamingo_blocks.evaluation.decode.query_rows import PlacedRows
from flamingo_blocks.evaluation.decode.token_trie import TokenTrie
from flamingo_blocks.models.abilities import dtype_and_device, remembered
from flamingo_blocks.models.call_language_model import accepts, call_language_model
from flamingo_blocks.models.flamingo import Flamingo
from flamingo_blocks.models.packing import refuse_if_leaking
from flamingo_blocks.models.place_media import place_media
from flamingo_blocks.models.prefill import behind_prompt
from flamingo_blocks.models.prompt import PromptState

_AT_ONCE = 2**24  # scores that are widened to float32 at once


def why_no_trie(flamingo: Flamingo, *, num_tokens: int, prompt: PromptState | None) -> str | None:
    """Why candidates cannot be scored in one pass, as far as it can be told without doing so; None where they can.

    Args:
        flamingo: The model. Whether its language model obeys masks and positions at all is tried on a few tokens, once.
        num_tokens: The longest way from the first token of the prompt to the end of a candidate.
        prompt: What stands before the rows.
    """
    lm = flamingo.lm
    name = type(lm).__name__
    if not accepts(lm, "position_ids"):
        return f"{name} takes no position_ids"
    if prompt is not None and prompt.cache is None:
        return f"{name} keeps no cache that it goes on from"
    if (window := short_window(lm, num_tokens)) is not None:
        return f"{name} has a sliding window of {window} tokens, and {num_tokens} are to be read"
    seen = remembered(flamingo)
    if not seen.documents:
        try:
            with flamingo.attachment.without_media():
                refuse_if_leaking(lm)
        except ValueError as error:
            return str(error)
        seen.documents = True
    return None


@torch.no_grad()
def score_trie(flamingo: Flamingo, rows: PlacedRows, tries: Sequence[TokenTrie]) -> list[list[float]]:
    """Score the candidates of each row by one pass.

        prompt prompt query query | c a t dog      may attend to
        query                     |                what stands before it
                              c   |                prompt, query, c
                              a   |                prompt, query, c, a
                              t   |                prompt, query, c, a, t
                              dog |                prompt, query, dog

    Args:
        flamingo: A model for which `why_no_trie` gives None.
        rows: Rows with pads on their right.
        tries: The candidates of each row.

    Returns:
        Summed log-probabilities of the candidates of each row.
    """
    device, num_rows, width = rows.ids.device, *rows.ids.shape
    before = None if rows.prompt is None else rows.prompt.for_rows(num_rows)
    nodes = max(len(trie.nodes) for trie in tries)
    ids = torch.zeros(num_rows, nodes, dtype=torch.long)
    depths, sees = torch.zeros_like(ids), torch.eye(nodes, dtype=torch.bool).repeat(num_rows, 1, 1)
    for row, trie in enumerate(tries):
        own = len(trie.nodes)
        ids[row, :own], depths[row, :own] = torch.tensor(trie.tokens), torch.tensor(trie.depths)
        sees[row, :own, :own] = trie.sees()
    ids, depths, sees = ids.to(device), depths.to(device), sees.to(device)
    whole = torch.cat([rows.ids, ids], dim=1)
    state = place_media(flamingo, whole, media=rows.media, layout=rows.layout.extend(nodes), prompt=before)
    run_ids, cache = (whole, None) if before is None else behind_prompt(before, whole, kept=False)
    num_real = rows.real.sum(1)
    first = int(num_real.min()) - 1  # no column before it predicts a candidate
    with flamingo.attachment.media(state):
        logits = call_language_model(
            flamingo.lm, run_ids, attention_mask=_mask(rows.real, sees, before, dtype_and_device(flamingo.lm)[0]),
            position_ids=_positions(rows.real, depths, before), cache=cache, use_cache=cache is not None,
            logits_to_keep=width + nodes - first,
        ).logits  # fmt: skip
    return _sums(logits, tries, roots=(num_real - 1 - first).tolist(), nodes_from=width - first)


def _mask(
    real: Bool[Tensor, "batch text"], sees: Bool[Tensor, "batch nodes nodes"], before: PromptState | None,
    dtype: torch.dtype,
) -> Float[Tensor, "batch 1 columns all"]:  # fmt: skip
    """0 where a column may attend, and the smallest number elsewhere; pads see themselves, so no row is empty."""
    batch, text = real.shape
    columns, held = text + sees.shape[1], 0 if before is None else before.attention_mask.shape[1]
    may = torch.zeros(batch, columns, held + columns, dtype=torch.bool, device=real.device)
    own = may[:, :, held:]
    if before is not None:
        may[:, :, :held] = before.attention_mask[:, None]
    own[:, :, :text] = real[:, None]
    own[:, :text, :text].tril_().diagonal(dim1=1, dim2=2).fill_(value=True)
    own[:, text:, text:] = sees
    return may.to(dtype).sub_(1).mul_(torch.finfo(dtype).max)[:, None]  # in place: with many nodes it is large


def _positions(
    real: Bool[Tensor, "batch text"], depths: Int[Tensor, "batch nodes"], before: PromptState | None
) -> Int[Tensor, "batch columns"]:
    """A node stands as far from the root as it does in its candidate."""
    text = (real.long().cumsum(1) - 1).clamp(min=0)
    positions = torch.cat([text, real.sum(1, keepdim=True) + depths], dim=1)
    return positions if before is None else positions + before.attention_mask.sum(1, keepdim=True)


def _sums(
    logits: Float[Tensor, "batch kept vocab"], tries: Sequence[TokenTrie], *, roots: Sequence[int], nodes_from: int
) -> list[list[float]]:
    """Add up the log-probabilities along each candidate; those of the edges are read where their parents stand."""
    rows = [row for row, trie in enumerate(tries) for _ in trie.edges]
    parents, tokens = zip(*(edge for trie in tries for edge in trie.edges), strict=True)
    columns = [roots[row] if parent < 0 else nodes_from + parent for row, parent in zip(rows, parents, strict=True)]
    row, column, token = (torch.tensor(values).to(logits.device) for values in (rows, columns, tokens))
    step = max(1, _AT_ONCE // logits.shape[-1])
    parts = (part for own in logits for part in torch.split(own, step))
    totals = torch.cat([part.float().logsumexp(-1) for part in parts]).view(logits.shape[:2])
    each = iter((logits[row, column, token].float() - totals[row, column]).cpu().double().tolist())
    return [trie.totals(list(islice(each, len(trie.edges)))) for trie in tries]
