"""The frames of a clip, decoded."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of a clip, as many as there are.

    `decode_clip` makes it. A clip that is shorter than what was asked for has fewer frames; `collate` pads them and
    names those that exist.

    Args:
        frames: Pixels of the frames in the order of time, 0 to 255, upright.
        times_s: The moment that was asked for, of each frame, in seconds from the first frame of the file.
        shown_s: Since when the frame has been shown at that moment.
        duration_s: Length of the whole clip, where the file tells it or it was counted.
        truncated: Whether the file is damaged: frames of later moments may be missing.

    Example:
        >>> clip = Clip(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), (0.0, 1.0), (0.0, 0.96))
        >>> len(clip)
        2
    """

    frames: UInt8[Tensor, "frames 3 height width"]
    times_s: tuple[float, ...]
    shown_s: tuple[float, ...]
    duration_s: float | None = None
    truncated: bool = False

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.times_s)

    def padded(self, count: int) -> tuple[UInt8[Tensor, "count 3 height width"], Bool[Tensor, " count"]]:
        """The frames filled up to a fixed number by zeros, and which of them exist.

        Args:
            count: Frames to give, at least as many as there are.

        Raises:
            ValueError: If the clip has more.

        Example:
            >>> clip = Clip(torch.ones(2, 3, 4, 4, dtype=torch.uint8), (0.0, 1.0), (0.0, 0.96))
            >>> clip.padded(3)[1]
            tensor([ True,  True, False])
        """
        if count < len(self):
            raise ValueError(f"count is {count}, and the clip has {len(self)} frames; ask for fewer when decoding")
        zeros = self.frames.new_zeros(count - len(self), *self.frames.shape[1:])
        return torch.cat([self.frames, zeros]), torch.arange(count) < len(self)
