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
            keys, values = (_seen_latents(x, seen[row][token], valid) for x in (key, value))
            for head in range(heads):
                if len(keys) == 0:
                    out.append(query.new_zeros(head_dim))
                    continue
                scores = keys[:, head // group] @ query[row, token, head] * factor
                out.append(torch.softmax(scores, dim=0) @ values[:, head // group])
    if not out:
        return query.new_zeros(query.shape)
    return torch.stack(out).reshape(query.shape)


def _seen_latents(pool: Tensor, items: Sequence[int], valid: Tensor | None) -> Tensor:
    """The latents of some items that count, one after the other: [latents kv_heads head_dim]."""
    latents = [pool[item] if valid is None else pool[item][valid[item]] for item in items]
    return torch.cat(latents) if latents else pool.new_zeros(0, *pool.shape[2:])


def naive_norm(x: Tensor, weights: dict[str, Tensor], name: str, *, eps: float | None = None) -> Tensor:
    """Layer norm or RMS norm over the last axis; which one is told by whether there is a bias."""
    scale = weights[f"{name}.weight"]
    if f"{name}.bias" not in weights:
        return x / (x.square().mean(-1, keepdim=True) + (1e-6 if eps is None else eps)).sqrt() * scale
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + (1e-5 if eps is None else eps)).sqrt()
    return centred / spread * scale + weights[f"{name}.bias"]


def naive_feed_forward(x: Tensor, weights: dict[str, Tensor], activation: str, *, name: str = "feed_forward") -> Tensor:
    """Norm, widen, activate, narrow, each written out."""
    x = naive_norm(x, weights, f"{name}.norm")
    hidden = x @ weights[f"{name}.up_proj.weight"].T
    if activation == "swiglu":
        gate = x @ weights[f"{name}.gate_proj.weight"].T
        hidden = gate * torch.sigmoid(gate) * hidden
    elif activation == "gelu":
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    elif activation == "silu":
        hidden = hidden * torch.sigmoid(hidden)
    else:
        hidden = hidden.clamp(min=0) ** (2 if activation == "squared_relu" else 1)
    return hidden @ weights[f"{name}.down_proj.weight"].T


def naive_block(
    weights: dict[str, Tensor],
    text: Tensor,
    media: Tensor,
    seen: Sequence[Sequence[Sequence[int]]],
    *,
    head_dim: int,
    activation: str,
    dense_without_media: bool = True,
    valid: Tensor | None = None,
) -> Tensor:
    """A gated block from its weights alone: which options it has is told by the names that are there."""
    normed = naive_norm(media, weights, "attention.media_norm") if "attention.media_norm.weight" in weights else media
    query = naive_norm(text, weights, "attention.norm") @ weights["attention.q_proj.weight"].T
    key, value = (normed @ weights[f"attention.{name}_proj.weight"].T for name in "kv")
    query, key, value = (x.unflatten(-1, (-1, head_dim)) for x in (query, key, value))
    if "attention.q_norm.weight" in weights:
        query, key = naive_norm(query, weights, "attention.q_norm"), naive_norm(key, weights, "attention.k_norm")
    out = naive_attention(query, key, value, seen, valid=valid).flatten(-2) @ weights["attention.o_proj.weight"].T
    text = text + torch.tanh(weights["attention_gate.gate"]) * out
    dense = torch.tanh(weights["feed_forward_gate.gate"]) * naive_feed_forward(text, weights, activation)
    if not dense_without_media:
        sees = [[float(bool(items)) for items in row] for row in seen]
        dense = dense * torch.tensor(sees, dtype=dense.dtype).reshape(*text.shape[:2], 1)
    return text + dense


def naive_resampler(
    weights: dict[str, Tensor],
    vision: Tensor,
    *,
    num_heads: int,
    depth: int,
    activation: str,
    valid: Tensor | None = None,
) -> Tensor:
    """A resampler from its weights alone, item by item, with the patches that do not count cut out before anything."""
    out = []
    for item, frames in enumerate(vision):
        counted = [[True] * frames.shape[1]] * frames.shape[0] if valid is None else valid[item].tolist()
        patches = [
            _project(frames[frame, patch], weights) + _frame_embedding(weights, frame, clip_length(counted))
            for frame in range(frames.shape[0])
            for patch in range(frames.shape[1])
            if counted[frame][patch]
        ]
        latents = weights["latents"]
        features = torch.stack(patches) if patches else latents[:0]
        for layer in range(depth):
            prefix = f"layers.{layer}."
            own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
            latents = latents + _attend_to_patches(own, latents, features, num_heads)
            latents = latents + naive_feed_forward(latents, own, activation)
        out.append(naive_norm(latents, weights, "final_norm") if "final_norm.weight" in weights else latents)
    return torch.stack(out)


def clip_length(counted: Sequence[Sequence[bool]]) -> int:
    """Frames of a clip, up to the last one that counts."""
    return 1 + max((frame for frame, patches in enumerate(counted) if any(patches)), default=0)


def _project(patch: Tensor, weights: dict[str, Tensor]) -> Tensor:
    return weights["input_proj.weight"] @ patch if "input_proj.weight" in weights else patch


def _frame_embedding(weights: dict[str, Tensor], frame: int, length: int) -> Tensor | float:
    """The learned embedding of a frame; a clip longer than the table walks it from end to end in equal steps."""
    if "frame_embeddings" not in weights:
        return 0.0
    table = weights["frame_embeddings"]
    if length <= len(table):
        return table[frame]
    place = frame * (len(table) - 1) / (length - 1)
    before = min(int(place), len(table) - 1)
    after = min(before + 1, len(table) - 1)
    return table[before] * (1 - (place - before)) + table[after] * (place - before)


def _attend_to_patches(weights: dict[str, Tensor], latents: Tensor, features: Tensor, num_heads: int) -> Tensor:
    own = naive_norm(latents, weights, "latents_norm")
    context = torch.cat([naive_norm(features, weights, "features_norm"), own])
    query, key, value = (
        (x @ weights[f"{name}_proj.weight"].T).unflatten(-1, (num_heads, -1))
        for name, x in (("q", own), ("k", context), ("v", context))
    )
    if "q_norm.weight" in weights:
        query, key = naive_norm(query, weights, "q_norm"), naive_norm(key, weights, "k_norm")
    heads = []
    for head in range(num_heads):
        scores = query[:, head] @ key[:, head].T * query.shape[-1] ** -0.5
        heads.append(torch.softmax(scores, dim=-1) @ value[:, head])
    return torch.cat(heads, dim=-1) @ weights["o_proj.weight"].T
