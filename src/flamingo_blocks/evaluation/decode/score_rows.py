"""How likely candidates are behind rows, by the ways that every language model can go."""

from collections.abc import Sequence

import torch

from flamingo_blocks.evaluation.decode.query_rows import PlacedRows
from flamingo_blocks.models.flamingo import Flamingo

Candidates = tuple[tuple[int, ...], ...]


def score_copies(flamingo: Flamingo, rows: PlacedRows, candidates: Candidates) -> list[list[float]]:
    """Score candidates behind copies of what the language model keeps of each row.

    Args:
        flamingo: The model.
        rows: Rows with pads on their left.
        candidates: Token ids of each candidate, the same for all rows.
    """
    scores: list[list[float]] = flamingo.score(candidates=candidates, **rows.arguments()).log_probs.double().tolist()
    return scores


@torch.no_grad()
def score_whole(flamingo: Flamingo, row: PlacedRows, candidates: Sequence[tuple[int, ...]]) -> list[float]:
    """Score candidates one after the other, each in a whole text of its own that nothing is kept of.

    Args:
        flamingo: The model.
        row: One row, without a prompt and without pads.
        candidates: Token ids of each candidate.
    """
    found = []
    for candidate in candidates:
        ids = torch.cat([row.ids, torch.tensor([candidate], device=row.ids.device)], dim=1)
        layout = row.layout.extend(len(candidate))
        logits = flamingo(ids, media=row.media, layout=layout, logits_to_keep=len(candidate) + 1).logits
        chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, -len(candidate) :, None])
        found.append(float(chosen.double().sum()))
    return found
