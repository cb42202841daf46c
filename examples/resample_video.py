"""Make a fixed number of tokens of clips of any length, and of images, with one resampler.

Run `python examples/resample_video.py`. It prints how many patches go in and how many tokens come out, and that the
frames which pad a clip change nothing:

    an image: 49 patches -> 8 tokens
    8 frames: 392 patches -> 8 tokens
    30 frames: 1470 patches -> 8 tokens
    padded and not: the same
"""

import torch

from flamingo_blocks import PerceiverResampler


@torch.no_grad()
def main() -> None:
    """Resample an image and two clips, and a clip that is padded."""
    torch.manual_seed(0)
    resampler = PerceiverResampler(vision_dim=64, dim=32, num_latents=8, depth=2, num_heads=4, head_dim=8, max_frames=8)
    for frames in (1, 8, 30):  # longer than `max_frames`: the embeddings of time are interpolated
        clip = torch.randn(1, frames, 49, 64)  # items frames patches vision_dim
        tokens = resampler(clip)  # items latents dim
        name = "an image" if frames == 1 else f"{frames} frames"
        print(f"{name}: {frames * 49} patches -> {tokens.shape[1]} tokens")

    clip = torch.randn(1, 8, 49, 64)
    valid = torch.ones(1, 8, 49, dtype=torch.bool)
    valid[:, 5:] = False  # the clip has five frames; three are padding
    difference = (resampler(clip, valid) - resampler(clip[:, :5])).abs().max()
    print("padded and not:", "the same" if difference < 1e-5 else f"apart by {difference}")


if __name__ == "__main__":
    main()
