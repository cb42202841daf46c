"""The digits are loaded, a curve is drawn, pictures are made; the training of the demo has tests of its own."""

from pathlib import Path

import flamingo_blocks.cli.demo  # noqa: F401
from flamingo_blocks._optional import require
from flamingo_blocks.demo.images import load_digits_images
from flamingo_blocks.demo.report import plot_curves

training, test = load_digits_images(seed=0)
assert len(test.labels) == 500, len(test.labels)
plot_curves({"5.unseen.closed": {"0": 0.2, "1": 0.3}}, Path("curve.png"))
assert Path("curve.png").stat().st_size > 1000
for package in ("sklearn", "matplotlib", "PIL", "tqdm", "safetensors"):
    require(package, used_by="flamingo-blocks demo", extra="demo")
