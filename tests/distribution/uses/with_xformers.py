"""xformers is found, and where it cannot run a reason is given."""

import torch

from flamingo_blocks import available_backends

found = available_backends("cuda" if torch.cuda.is_available() else "cpu", torch.float32)["xformers"]
assert found == "ok" or "install" not in found, found
import xformers.ops.fmha  # noqa: E402, F401 - it imports on any machine
