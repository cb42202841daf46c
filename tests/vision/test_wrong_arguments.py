"""What the towers and the feature store say about arguments that are none."""

import pytest
import torch
from torch import nn

from flamingo_blocks.vision import CallableTower, PatchTokens, TransformersTower, save_features

pytestmark = pytest.mark.usefixtures("without_shape_checks")


def tower(encoder=None, *, image_size=8, **options):
    """A small convolution."""
    encoder = nn.Conv2d(3, 4, 4, stride=4) if encoder is None else encoder
    return CallableTower(encoder, image_size=image_size, **options)


def clip():
    """A CLIP of two layers."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        image_size=8, patch_size=4, hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=2
    )
    return transformers.CLIPVisionModel(config)


def test_a_callable_tower_takes_frames_of_its_size():
    """Its grid would be that of other frames."""
    with pytest.raises(ValueError, match=r"pixels has frames of \[8, 12\], wanted \[8, 8\]; make them by tower"):
        tower()(torch.zeros(1, 3, 8, 12))
    assert tower(image_size=(8, 12), grid=(2, 3))(torch.zeros(1, 3, 8, 12)).tokens.shape == (1, 6, 4)


def test_frames_of_any_size_are_taken_where_the_preprocessing_gives_them():
    """It says so by `variable_size`."""

    class AnySize:
        variable_size = True

        def __call__(self, image):
            return torch.as_tensor(image)

    found = tower(preprocess=AnySize())(torch.zeros(1, 3, 8, 12))
    assert isinstance(found, PatchTokens)
    assert found.tokens.shape == (1, 6, 4)


@pytest.mark.parametrize("size", [0, -8, 8.0, "8", (8,), (8, 0), None])
def test_a_callable_tower_has_a_size(size):
    """A number of pixels, or two."""
    with pytest.raises(ValueError, match="image_size is .*, wanted a number of pixels, 1 or more"):
        tower(image_size=size)


@pytest.mark.parametrize(
    ("encoder", "output", "message"),
    [
        (lambda x: {"z": x}, "y", r"output is 'y', but the encoder gives a dict with the fields \['z'\]"),
        (lambda x: (x, x), 2, "output is 2, but the encoder gives a tuple of length 2"),
        (lambda x: (x, x), "y", "output is 'y', but the encoder gives a tuple of length 2"),
        (lambda x: x, "y", r"output is 'y', but the encoder gives a tensor of shape \[1, 3, 8, 8\]"),
    ],
)
def test_an_output_that_is_not_there_is_told(encoder, output, message):
    """With what is there."""
    with pytest.raises(ValueError, match=message):
        tower(encoder, output=output)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layer": "last"}, TypeError, "layer is 'last', wanted a whole number; use -1 for the last one"),
        ({"layer": 1.5}, TypeError, "layer is 1.5, wanted a whole number"),
        ({"image_size": 0}, ValueError, "image_size is 0, wanted a number of pixels"),
        ({"image_size": (8, 8, 8)}, ValueError, r"image_size is \(8, 8, 8\), wanted"),
    ],
)
def test_options_of_a_tower_of_transformers_are_checked(options, error, message):
    """When it is made."""
    with pytest.raises(error, match=message):
        TransformersTower(clip(), **options)


def test_a_name_is_no_model():
    """The message says how to load one."""
    with pytest.raises(TypeError, match=r"model is 'name', wanted a model.*TransformersTower.from_pretrained\(name\)"):
        TransformersTower("name")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, "bfloat16"])
def test_features_are_stored_as_floats(dtype, tmp_path):
    """Integers would cut them off; nothing is written."""
    with pytest.raises(ValueError, match=f"dtype is '?{dtype}'?, wanted a dtype of floats, such as torch.bfloat16"):
        save_features(tmp_path / "store", [("cat", torch.rand(3, 8, 8))], tower=tower(), dtype=dtype)
    assert not (tmp_path / "store").exists()


def test_an_image_that_cannot_be_read_is_named_by_its_key(tmp_path):
    """One of a million has to be found."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    items = [("cat", torch.rand(3, 8, 8)), ("dog", broken)]

    def read(image):
        if not isinstance(image, torch.Tensor):
            raise OSError("cannot identify image file")
        return image

    with pytest.raises(
        ValueError, match="prepare the image of 'dog': OSError: cannot identify image file; leave"
    ) as seen:
        save_features(tmp_path / "store", items, tower=tower(preprocess=read))
    assert isinstance(seen.value.__cause__, OSError)
