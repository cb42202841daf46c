"""A tower around any encoder: a function or module that gives patch tokens or a feature map."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.vision.image_preprocess import ImagePreprocess
from flamingo_blocks.vision.tower import (
    FreezableTower,
    PatchTokens,
    cast_like_weights,
    check_frame_size,
    check_pixels,
    frame_size,
    probe_features,
)


class CallableTower(FreezableTower):
    """Make a vision tower of any callable.

    Use it for an encoder that no adapter knows: a convolutional net, a model of your own, a function. The encoder is
    run once on black pixels when the tower is made, to learn and check the width and the grid of its output.

    Args:
        encoder: Takes pixels `[n 3 height width]`; gives patch tokens `[n patches dim]`, a map `[n dim rows columns]`,
            `PatchTokens`, or a tuple, mapping or object that holds one of them. A module is frozen in place.
        image_size: Height and width of the frames, in pixels, or one number for both.
        output: Where the features are in what the encoder gives: an index, a key or attribute name, or a function.
        num_prefix: Tokens before the patches (class, registers) to drop. Only token outputs have them.
        channels_last: Say so when maps are `[n rows columns dim]`.
        dim: Width of the features, to check; found by the first run when None.
        grid: Rows and columns of patches; needed for tokens of a grid that is not square, and for maps of patches so
            far from square that their channels seem to stand elsewhere.
        preprocess: Turns one image into pixels `[3 height width]`; by default an `ImagePreprocess` that pads to
            `image_size` and keeps values between 0 and 1. Give the encoder's own mean and std here.
        frozen: Stop gradients to the encoder and keep it in eval mode, also through `.train()`.

    Raises:
        ValueError: If `image_size` is no size, or the encoder's output is of no such shape, differs from `dim` or
            `grid`, or looks as if its channels stood elsewhere.

    Example:
        >>> import torch
        >>> tower = CallableTower(torch.nn.Conv2d(3, 8, kernel_size=4, stride=4), image_size=16)
        >>> tower.dim, tower.grid
        (8, (4, 4))
        >>> tower(torch.zeros(2, 3, 16, 16)).tokens.shape
        torch.Size([2, 16, 8])
    """

    def __init__(
        self,
        encoder: Callable[[Tensor], Any],
        *,
        image_size: int | tuple[int, int],
        output: int | str | Callable[[Any], Any] | None = None,
        num_prefix: int = 0,
        channels_last: bool = False,
        dim: int | None = None,
        grid: tuple[int, int] | None = None,
        preprocess: Callable[[Any], Tensor] | None = None,
        frozen: bool = True,
    ) -> None:
        super().__init__()
        size = self.image_size = frame_size(image_size)
        self.encoder = encoder
        self.output = output
        self.num_prefix = num_prefix
        self.channels_last = channels_last
        self.preprocess = ImagePreprocess(size=size) if preprocess is None else preprocess
        self._start(encoder, frozen=frozen)
        shown = probe_features(self, size, self._features, fix="image_size= or output=")
        found = shown.tokens if isinstance(shown, PatchTokens) else shown  # maps still as maps
        self.dim = _checked_dim(found, dim)
        if found.ndim == 4 and grid is None:
            _refuse_exchanged_axes(found, size, channels_last=channels_last)
        self.grid = _checked_grid(found, grid, num_prefix)

    def forward(self, pixels: Float[Tensor, "n 3 height width"]) -> PatchTokens:
        """Encode frames.

        Args:
            pixels: Frames as `preprocess` makes them; cast to the dtype of the encoder's weights.

        Returns:
            The patch tokens, without prefix tokens.

        Raises:
            ValueError: If `pixels` is no batch of RGB frames of `image_size`; a `preprocess` with `variable_size` may
                give any size.
        """
        if getattr(self.preprocess, "variable_size", False):
            check_pixels(pixels)
        else:
            check_frame_size(pixels, self.image_size)
        found = self._features(pixels)
        if isinstance(found, PatchTokens):
            return found
        return PatchTokens(tokens=found.flatten(1, -2))

    def _features(self, pixels: Tensor) -> Tensor | PatchTokens:
        """Patch tokens, or a map with its channels last."""
        found = _pick(self.encoder(cast_like_weights(pixels, self.encoder)), self.output)
        if isinstance(found, PatchTokens):
            return found
        if found.ndim == 3:
            return found[:, self.num_prefix :]
        if found.ndim == 4:
            return found if self.channels_last else rearrange(found, "n dim rows columns -> n rows columns dim")
        raise ShapeError(
            f"the encoder gave a tensor of shape {list(found.shape)}, wanted [n patches dim] or [n dim rows columns]; "
            "choose the features before pooling with output="
        )


def _pick(raw: Any, output: int | str | Callable[[Any], Any] | None) -> Tensor | PatchTokens:
    """Take the features out of what the encoder gave."""
    if output is None:
        found = raw
    elif callable(output):
        found = output(raw)
    else:
        try:
            found = raw[output] if isinstance(output, int) or isinstance(raw, Mapping) else getattr(raw, output)
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise ValueError(
                f"output is {output!r}, but the encoder gives {_words(raw)}; name what is there"
            ) from error
    if isinstance(found, Tensor | PatchTokens):
        return found
    raise ValueError(
        f"with output={output!r} the encoder gives {_words(found)}, wanted a tensor of features; "
        "choose one by output= (an index, a name or a function)"
    )


def _words(found: Any) -> str:
    """What a value is, and what is in it."""
    if isinstance(found, Tensor):
        return f"a tensor of shape {list(found.shape)}"
    fields = list(found) if isinstance(found, Mapping) else list(getattr(found, "__dict__", ()))
    parts = f" of length {len(found)}" if isinstance(found, tuple | list) else f" with the fields {fields}"
    return f"a {type(found).__name__}{parts}"


def _refuse_exchanged_axes(found: Tensor, size: tuple[int, int], *, channels_last: bool) -> None:
    """Refuse a map whose rows and columns contradict the frames, while they would not with its channels elsewhere."""

    def fits(rows: int, columns: int) -> bool:  # patches are square, but for what rounding leaves
        wide, tall = rows * size[1] / size[0], columns * size[0] / size[1]
        return abs(wide - columns) < 1 or abs(tall - rows) < 1

    rows, columns, dim = found.shape[1:]
    other = (columns, dim) if channels_last else (dim, rows)
    if not fits(rows, columns) and fits(*other):
        raise ShapeError(
            f"with channels_last={channels_last} the encoder gives a map of {rows} x {columns} places of width {dim} "
            f"for frames of {size[0]} x {size[1]} pixels, otherwise one of {other[0]} x {other[1]}; pass "
            f"channels_last={not channels_last}, or grid=({rows}, {columns}) if it is right"
        )


def _checked_dim(found: Tensor, dim: int | None) -> int:
    if dim is not None and found.shape[-1] != dim:
        raise ShapeError(
            f"dim is {dim}, but the encoder gives features of width {found.shape[-1]} (output of shape "
            f"{list(found.shape)}); drop dim=, choose another output=, or set channels_last="
        )
    return found.shape[-1]


def _checked_grid(found: Tensor, grid: tuple[int, int] | None, num_prefix: int) -> tuple[int, int]:
    """Grid of a map, or of tokens: as given, or the square they make."""
    if found.ndim == 4:
        rows, columns = found.shape[1:3]
        if grid is not None and grid != (rows, columns):
            raise ShapeError(f"grid is {grid}, but the encoder gives a map of {rows} x {columns}; drop grid=")
        return rows, columns
    patches = found.shape[1]
    side = math.isqrt(patches)
    rows, columns = (side, side) if grid is None else grid
    if rows * columns == patches > 0:
        return rows, columns
    wanted = "a square grid" if grid is None else f"a grid of {rows} x {columns}"
    squares = [extra for extra in range(1, 9) if math.isqrt(max(patches - extra, 0)) ** 2 == patches - extra > 0]
    hint = f"; {num_prefix + squares[0]} prefix tokens would leave a square" if squares else ""
    raise ShapeError(
        f"the encoder gives {patches} patch tokens after num_prefix={num_prefix}, wanted {wanted}; "
        f"pass num_prefix= or grid={hint}"
    )
