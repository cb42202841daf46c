"""Which device `--device` names, the same way in every command."""

import os

import torch

from flamingo_blocks.errors import FlamingoBlocksError

DEVICE_HELP = "cpu, cuda, cuda:1 or mps"


def device_of(name: str | None, *, error: type[FlamingoBlocksError]) -> torch.device:
    """The device of a name, or of none: a GPU of CUDA where there is one, each rank's own, or the CPU.

    No context is started on a GPU: each takes memory there, and a rank needs none but its own.

    Args:
        name: As it was typed; `cuda` is each rank's own as well.
        error: Raised, with what there is and what to do, where torch cannot make a tensor there.
    """
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    best = own if torch.cuda.is_available() else "cpu"
    cause: Exception | None = None
    try:
        device = torch.device(own if name == "cuda" else best if name is None else name)
        if device.type in ("cpu", "mps") and not device.index:
            return torch.empty(0, device=device).device
        if device.type == "cuda" and (device.index or 0) < torch.cuda.device_count():
            return device
    except (RuntimeError, AssertionError) as found:  # no such word, or none of these devices here
        cause = found
    raise error(
        f"--device is {name!r}, wanted {DEVICE_HELP}; this machine has {', '.join(_devices())}: name one of them, "
        f"or leave --device out for {best}"
    ) from cause


def _devices() -> list[str]:
    """What torch sees here."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
