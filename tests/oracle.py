"""What each token sees and reads, said again in plain Python loops: the tests believe this file, not the library.

Nothing here imports `flamingo_blocks`. It is slow on purpose: each rule of the layout is one sentence and one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Token:
    """One column of a row: `text`, `tag` (with the number of items under it) or `pad`."""

    kind: str
    items: int = 0
    document: int = 0

    def __repr__(self) -> str:
        mark = {"text": "t", "pad": "."}.get(self.kind, f"M{self.items}")
        return f"{mark}@{self.document}" if self.document else mark


Row = tuple[Token, ...]


def slots_of_tags(row: Row) -> dict[int, list[int]]:
    """Map the position of each tag to the slots of the row's items that lie under it, in order."""
    slots: dict[int, list[int]] = {}
    used = 0
    for position, token in enumerate(row):
        if token.kind == "tag":
            slots[position] = list(range(used, used + token.items))
            used += token.items
    return slots


def seen_slots(row: Row, *, scope: str, direction: str, grouped: bool) -> list[list[int]]:
    """Give the slots that each column of the row sees, in order."""
    return [_seen_by(row, position, scope, direction, grouped) for position in range(len(row))]


def _seen_by(row: Row, position: int, scope: str, direction: str, grouped: bool) -> list[int]:
    if row[position].kind == "pad":
        earlier = [other for other in range(position) if row[other].kind != "pad"]
        return _seen_by(row, earlier[-1], scope, direction, grouped) if earlier else []
    slots = slots_of_tags(row)
    tags = [tag for tag in slots if row[tag].document == row[position].document]
    if direction == "next":
        ahead = [tag for tag in tags if tag >= position]
        return slots[ahead[0]] if ahead else []
    behind = [tag for tag in tags if tag <= position]
    if scope == "last":
        behind = _last_group(behind) if grouped else behind[-1:]
    return [slot for tag in behind for slot in slots[tag]]


def _last_group(tags: list[int]) -> list[int]:
    """Keep the tags at the end of the list that stand side by side."""
    group = tags[-1:]
    for tag in reversed(tags[:-1]):
        if tag != group[0] - 1:
            break
        group.insert(0, tag)
    return group


def naive_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Sequence[Sequence[Sequence[int]]],
    *,
    valid: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attend token by token and head by head; `seen[row][token]` lists pool ids, an id twice counts twice.

    A token with nothing to attend to gets zeros. Gradients come from autograd.
    """
    batch, text, heads, head_dim = query.shape
    group = heads // key.shape[2]
    factor = head_dim**-0.5 if scale is None else scale
    out = []
    for row in range(batch):
        for token in range(text):
            places = [
                (item, latent)
                for item in seen[row][token]
                for latent in range(key.shape[1])
                if valid is None or bool(valid[item, latent])
            ]
            for head in range(heads):
                if not places:
                    out.append(query.new_zeros(head_dim))
                    continue
                keys = torch.stack([key[item, latent, head // group] for item, latent in places])
                values = torch.stack([value[item, latent, head // group] for item, latent in places])
                weights = torch.softmax(keys @ query[row, token, head] * factor, dim=0)
                out.append(weights @ values)
    if not out:
        return query.new_zeros(query.shape)
    return torch.stack(out).reshape(query.shape)
