"""What any language model must do with blocks attached."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.testing._language_model_subject import Subject, Wrong, difference


@torch.no_grad()
def _same_twice(subject: Subject) -> None:
    ids = subject.texts()
    first, second = (call_language_model(subject.lm, ids).logits for _ in range(2))
    if not torch.equal(first, second):
        raise Wrong("two calls with the same text, in eval mode, differ: nothing else can be told of such a model")


@torch.no_grad()
def _attach_and_detach(subject: Subject) -> None:
    lm, ids = subject.lm, subject.texts()
    before, logits = _trace(lm), call_language_model(lm, ids).logits
    with subject.flamingo() as flamingo:
        if list(lm.state_dict()) != before[0]:
            raise Wrong("attached blocks changed the keys of the state dict")
        flamingo(ids, media=subject.items(3))
    if _trace(lm) != before:
        raise Wrong("after detach the model has other keys, modules or hooks than before attach")
    if not torch.equal(call_language_model(lm, ids).logits, logits):
        raise Wrong("after detach the logits are not those from before attach, bit for bit")


@torch.no_grad()
def _closed_gates(subject: Subject) -> None:
    ids = subject.texts()
    bare = call_language_model(subject.lm, ids).logits
    with subject.flamingo(closed=True) as flamingo:
        logits = flamingo(ids, media=subject.items(3)).logits
    if not torch.equal(logits, bare):
        error = difference(logits, bare)
        raise Wrong(f"blocks with closed gates change the logits by {error:.1e} of their size, wanted no bit of change")
    if logits.dtype != bare.dtype:
        raise Wrong(f"blocks with closed gates change the dtype of the logits from {bare.dtype} to {logits.dtype}")


@torch.no_grad()
def _every_block_is_felt(subject: Subject) -> None:
    with subject.flamingo() as flamingo:
        ids, items = subject.texts(), subject.items(3)
        logits = flamingo(ids, media=items).logits
        blocks: dict[str, Any] = dict(flamingo.blocks.items())
        for name, block in blocks.items():
            gates = [block.attention_gate.gate, block.feed_forward_gate.gate]
            before = [gate.clone() for gate in gates]
            for gate in gates:
                gate.zero_()
            subject.differ(flamingo(ids, media=items).logits, logits, f"with the block before layer {name} closed")
            for gate, value in zip(gates, before, strict=True):
                gate.copy_(value)


@torch.no_grad()
def _media_reach_what_follows(subject: Subject) -> None:
    with subject.flamingo() as flamingo:
        ids, items = subject.texts(), subject.items(3)
        logits = flamingo(ids, media=items).logits
        changed = torch.cat([items[:1], subject.items(2, seed=1)])  # the second item of row 0, and that of row 1
        after = flamingo(ids, media=changed).logits
        subject.same(after[0, :4], logits[0, :4], "with another image at token 4, the tokens before it")
        subject.same(after[1, :3], logits[1, :3], "with another image at token 3, the tokens before it")
        subject.differ(after[0, 4:5], logits[0, 4:5], "with another image at token 4, this token")
        subject.differ(after[1, 3:], logits[1, 3:], "with another image at token 3, it and what follows")


@torch.no_grad()
def _text_never_moves_earlier_logits(subject: Subject) -> None:
    with subject.flamingo() as flamingo:
        ids, items = subject.texts(), subject.items(3)
        other = subject.texts(seed=1)
        logits = flamingo(ids, media=items).logits
        for column in (1, 5):
            mixed = torch.cat([ids[:, :column], other[:, column:]], 1)
            after = flamingo(mixed, media=items).logits
            subject.same(after[:, :column], logits[:, :column], f"with other words from {column} on, those before")
            subject.differ(after[:, column:], logits[:, column:], f"with other words from token {column} on, these")


@torch.no_grad()
def _rows_are_apart(subject: Subject) -> None:
    with subject.flamingo() as flamingo:
        ids, items = subject.texts(), subject.items(3)
        logits = flamingo(ids, media=items).logits
        for row, pool in ((0, items[:2]), (1, items[2:])):
            alone = flamingo(ids[row : row + 1], media=pool).logits
            subject.same(logits[row : row + 1], alone, f"row {row} in a batch, against the row alone")


@torch.no_grad()
def _right_pads(subject: Subject) -> None:
    with subject.flamingo() as flamingo:
        ids, items = subject.texts(), subject.items(3)
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        logits = flamingo(ids, media=items, attention_mask=mask).logits
        alone = flamingo(ids[1:, :5], media=items[2:]).logits
        subject.same(logits[1:, :5], alone, "a row with three pads on its right, against the row alone")


def _trace(lm: nn.Module) -> tuple[list[str], list[tuple[str, type, int]]]:
    """Keys of the state dict; names and classes of the modules, and how many hooks each has."""
    tables = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_state_dict_hooks")
    modules = [
        (name, type(module), sum(len(getattr(module, table)) for table in tables))
        for name, module in lm.named_modules()
    ]
    return list(lm.state_dict()), modules


MUST: dict[str, Callable[[Subject], None]] = {
    "the same logits twice": _same_twice,
    "attach and detach": _attach_and_detach,
    "closed gates": _closed_gates,
    "every block is felt": _every_block_is_felt,
    "media reach what follows them": _media_reach_what_follows,
    "causality": _text_never_moves_earlier_logits,
    "rows are apart": _rows_are_apart,
    "right pads": _right_pads,
}
