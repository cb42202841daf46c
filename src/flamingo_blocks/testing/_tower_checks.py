"""What a vision tower must do, and what it may tell."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flamingo_blocks.models.check_parts import wrapper_of
from flamingo_blocks.testing._tower_subject import TowerSubject, Wrong, apart


def _members(subject: TowerSubject) -> None:
    tower = subject.tower
    missing = [name for name in ("dim", "grid", "preprocess", "forward", "__call__") if not hasattr(tower, name)]
    if missing:
        raise Wrong(
            f"the tower has no {', '.join(missing)}; a bare encoder has to be wrapped: {wrapper_of(tower)}, or see "
            "flamingo_blocks.vision.VisionTower"
        )
    if not isinstance(tower.dim, int) or tower.dim < 1:
        raise Wrong(f"dim is {tower.dim!r}, wanted a number of 1 or more")
    sides = tower.grid if isinstance(tower.grid, tuple) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise Wrong(f"grid is {tower.grid!r}, wanted a tuple of two numbers, rows and columns of patches")


def _preprocess(subject: TowerSubject) -> None:
    frames = [subject.tower.preprocess(picture) for picture in subject.pictures]
    for frame in frames:
        if not isinstance(frame, Tensor) or frame.ndim != 3 or frame.shape[0] != 3 or not frame.is_floating_point():
            what = f"{list(frame.shape)} of {frame.dtype}" if isinstance(frame, Tensor) else type(frame).__name__
            raise Wrong(f"preprocess gives {what}, wanted floating [3 height width]")
        if not frame.isfinite().all():
            raise Wrong("preprocess gives values that are not finite")
    sizes = {tuple(frame.shape[1:]) for frame in frames}
    if len(sizes) > 1 and not subject.is_variable:
        raise Wrong(
            f"preprocess gives frames of {len(sizes)} sizes, {sorted(sizes)}, which make no batch; give one size, or "
            "mark the preprocessing by an attribute variable_size = True"
        )
    again = subject.tower.preprocess(subject.pictures[0])
    if not torch.equal(again, frames[0]):
        raise Wrong("preprocess gives other pixels at the second call; leave augmentation to the data steps")


def _tokens(subject: TowerSubject) -> None:
    tower, frames = subject.tower, subject.frames()
    found = subject.run(subject.batch())
    tokens, valid = found.tokens, found.valid
    if tokens.ndim != 3 or len(tokens) != len(frames):
        raise Wrong(f"tokens have shape {list(tokens.shape)} for {len(frames)} frames, wanted [n patches dim]")
    if tokens.shape[2] != tower.dim:
        raise Wrong(f"tokens are {tokens.shape[2]} wide, but dim is {tower.dim}")
    patches = tower.grid[0] * tower.grid[1]
    if valid is None and tokens.shape[1] != patches:
        extra = tokens.shape[1] - patches
        hint = f"; are {extra} class or register tokens among them?" if 0 < extra < 9 else ""
        raise Wrong(f"a frame has {tokens.shape[1]} tokens, but grid is {tower.grid}, {patches} patches{hint}")
    if valid is not None:
        if valid.dtype != torch.bool or valid.shape != tokens.shape[:2]:
            raise Wrong(f"valid has shape {list(valid.shape)} and {valid.dtype}, wanted bool {list(tokens.shape[:2])}")
        if int(valid[0].sum()) != patches:
            raise Wrong(f"{int(valid[0].sum())} tokens of a square picture are valid, but grid is {tower.grid}")
        if not valid.any(1).all():
            raise Wrong("a frame has no valid token at all")
    if not tokens.isfinite().all():
        raise Wrong("tokens are not finite, those of patches that do not exist included")


def _dtype_and_device(subject: TowerSubject) -> None:
    tokens, weight = subject.tokens(), subject.weight
    if subject.weights and tokens.dtype != weight.dtype:
        raise Wrong(f"tokens are {tokens.dtype}, but the weights {weight.dtype}; cast pixels to the weights' dtype")
    if tokens.device != weight.device:
        raise Wrong(f"tokens are on {tokens.device}, but the weights on {weight.device}")


def _deterministic(subject: TowerSubject) -> None:
    if not torch.equal(subject.tokens(), subject.tokens()):
        raise Wrong("two calls with the same frames differ in eval mode; is there dropout that eval() does not reach?")


def _batch_mates(subject: TowerSubject) -> None:
    together = subject.run(subject.batch())
    frames = subject.frames()
    for index, frame in enumerate(frames):
        alone = subject.run(frame[None])
        mine, others = (
            _existing(alone.tokens[0], alone.valid, 0),
            _existing(together.tokens[index], together.valid, index),
        )
        subject.same(others, mine, lambda by: f"a frame's tokens change by {by} with the frames beside it")
    order = list(range(len(frames)))[::-1]
    turned = subject.tokens(subject.batch([frames[index] for index in order]))
    subject.same(turned[order], subject.tokens(), lambda by: f"the order of the frames changes tokens by {by}")


def _sees(subject: TowerSubject) -> None:
    tokens = subject.tokens()
    if apart(tokens[1], tokens[0]) <= subject.bound:
        raise Wrong("two different pictures give the same tokens")


def _input_left_alone(subject: TowerSubject) -> None:
    pixels = subject.batch()
    before = pixels.clone()
    subject.run(pixels)
    if not torch.equal(pixels.nan_to_num(7.0), before.nan_to_num(7.0)):
        raise Wrong("the tower writes into the pixels that it is given")


def _no_state(subject: TowerSubject) -> None:
    if not isinstance(subject.tower, nn.Module):
        return
    before = copy.deepcopy(subject.tower.state_dict())
    subject.run(subject.batch())
    for name, tensor in subject.tower.state_dict().items():
        if name not in before or not torch.equal(tensor, before[name]):
            raise Wrong(f"a call in eval mode changes {name} of the tower")


def _frozen_stays_frozen(subject: TowerSubject) -> None:
    """A tower without trained weights is the same after `.train()`; a tower that trains has gradients."""
    tower = subject.tower
    if not subject.weights:
        return
    trains = any(weight.requires_grad for weight in subject.weights)
    modes = [(module, module.training) for module in tower.modules()]
    state, wanted = copy.deepcopy(tower.state_dict()), subject.tokens()
    try:
        tower.train()
        with torch.enable_grad():
            found = tower(subject.batch())
        if trains != found.tokens.requires_grad:
            raise Wrong(
                "the tower has trained weights, but its tokens carry no gradient; is there a no_grad inside?"
                if trains
                else "no weight of the tower trains, but its tokens carry a gradient"
            )
        if trains:
            return
        tokens = found.tokens if found.valid is None else found.tokens.masked_fill(~found.valid[..., None], 0.0)
        subject.same(
            tokens, wanted, lambda by: f"no weight of the tower trains, but .train() changes its tokens by {by}; "
            "keep it in eval mode: def train(self, mode=True): return super().train(False)",
        )  # fmt: skip
        moved = [name for name, tensor in tower.state_dict().items() if not torch.equal(tensor, state[name])]
        if moved:
            raise Wrong(f"no weight of the tower trains, but a call after .train() moves {moved[0]}")
    finally:
        tower.load_state_dict(state)
        for module, mode in modes:
            module.training = mode


def _is_frozen(subject: TowerSubject) -> None:
    number = sum(weight.numel() for weight in subject.weights if weight.requires_grad)
    if number:
        raise Wrong(f"{number} weights train; tower.requires_grad_(False).eval() freezes them")


def _row_by_row(subject: TowerSubject) -> None:
    """Noise in the pixels of one patch changes that patch's token most."""
    frame = subject.frames()[0]
    rows, columns = subject.tower.grid
    height, width = frame.shape[1] // rows, frame.shape[2] // columns
    before = subject.tokens(frame[None])[0]
    for row, column in {(0, 0), (0, columns - 1), (rows - 1, 0), (rows // 2, columns // 3)}:
        noisy = frame.clone()
        patch = noisy[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
        patch += 3 * torch.randn(patch.shape, generator=torch.Generator().manual_seed(0)).to(patch)
        change = (subject.tokens(noisy[None])[0] - before).cpu().double().norm(dim=1)
        found = divmod(int(change[: rows * columns].argmax()), columns)
        if max(abs(found[0] - row), abs(found[1] - column)) > 1:
            raise Wrong(
                f"noise in the patch of row {row} and column {column} changes the token of row {found[0]} and column "
                f"{found[1]} most"
            )


def _existing(tokens: Tensor, valid: Tensor | None, index: int) -> Tensor:
    return tokens if valid is None else tokens[valid[index]]


Check = Callable[[TowerSubject], None]
BASIS: dict[str, Check] = {
    "members": _members,
    "preprocess": _preprocess,
    "tokens": _tokens,
    "same twice": _deterministic,
}
MUST: dict[str, Check] = {
    "dtype and device": _dtype_and_device,
    "batch mates": _batch_mates,
    "sees the picture": _sees,
    "pixels left alone": _input_left_alone,
    "no state": _no_state,
    "frozen stays frozen": _frozen_stays_frozen,
}
TELLS: dict[str, Check] = {"frozen": _is_frozen, "row by row": _row_by_row}
