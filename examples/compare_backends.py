"""Run every attention backend that this machine has on one layout, and compare them.

Run `python examples/compare_backends.py`. It prints each backend's greatest difference from the reference, which is a
loop in plain torch, in output and in gradients; or why the backend is refused here. On a CPU, among others:

    reference  0.0e+00  0.0e+00
"""

import torch
from torch import Tensor

from flamingo_blocks import MediaLayout, available_backends, media_attention


def attend(tensors: list[Tensor], layout: MediaLayout, backend: str) -> tuple[Tensor, list[Tensor]]:
    """Output and gradients of one backend."""
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    out = media_attention(*tensors, layout, backend=backend)
    return out.detach(), list(torch.autograd.grad(out.square().sum(), tensors))


def main() -> None:
    """Compare all of them on text with three images, and a row without any."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    is_media = torch.rand(2, 24, device=device) < 0.1
    is_media[0, [3, 9, 10]], is_media[1] = True, False
    layout = MediaLayout.from_tokens(is_media)
    sizes = (2, 24), (layout.num_items, 16), (layout.num_items, 16)
    tensors = [torch.randn(*size, 4, 32, device=device, dtype=dtype) for size in sizes]
    expected, expected_gradients = attend(tensors, layout, "reference")
    usable = available_backends(device, dtype, head_dim=32, num_heads=4, layout=layout)
    for name, reason in usable.items():
        if reason != "ok":
            print(f"{name:<10} refused: {reason}")
            continue
        out, gradients = attend(tensors, layout, name)
        pairs = zip(gradients, expected_gradients, strict=True)
        apart = max((ours - theirs).abs().max().item() for ours, theirs in pairs)
        print(f"{name:<10} {(out - expected).abs().max().item():.1e}  {apart:.1e}")


if __name__ == "__main__":
    main()
