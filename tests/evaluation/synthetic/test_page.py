"""The pictures of the page about drawn tasks are what the code draws."""

import importlib.util
from pathlib import Path

import pytest
import torch

from flamingo_blocks.vision.image_preprocess import read_rgb

DOCS = Path(__file__).parents[3] / "docs"
pytest.importorskip("PIL", reason="needs the extra vision")


def test_the_pictures_of_the_page_are_those_of_this_code():
    """Each file has the very pixels that its script draws now."""
    spec = importlib.util.spec_from_file_location("draw_synthetic", DOCS / "draw_synthetic.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    drawn = dict(script.pictures())
    assert {path.name for path in script.FOLDER.iterdir()} == set(drawn)
    for name, pixels in drawn.items():
        assert torch.equal(read_rgb(script.FOLDER / name), pixels)
