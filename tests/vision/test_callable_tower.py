"""Any callable becomes a tower: tokens, maps, tuples and objects."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flamingo_blocks.vision import CallableTower, PatchTokens, VisionTower


def patches(pixels):
    """Mean colours of 4-pixel squares, as a map."""
    return nn.functional.avg_pool2d(pixels, 4)


def tokens(pixels):
    return patches(pixels).flatten(2).mT


def with_class_token(pixels):
    found = tokens(pixels)
    return torch.cat([torch.full_like(found[:, :1], 7.0), found], 1)


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        (patches, {}),
        (lambda pixels: patches(pixels).permute(0, 2, 3, 1), {"channels_last": True}),
        (tokens, {"grid": (3, 2)}),
        (with_class_token, {"grid": (3, 2), "num_prefix": 1}),
        (lambda pixels: (pixels.mean(), patches(pixels)), {"output": 1}),
        (lambda pixels: {"pooled": pixels.mean(), "map": patches(pixels)}, {"output": "map"}),
        (lambda pixels: SimpleNamespace(pooled=pixels.mean(), map=patches(pixels)), {"output": "map"}),
        (lambda pixels: SimpleNamespace(maps=[patches(pixels)]), {"output": lambda raw: raw.maps[-1]}),
        (lambda pixels: PatchTokens(tokens=tokens(pixels)), {"grid": (3, 2)}),
    ],
    ids=["map", "channels last", "tokens", "class token", "tuple", "mapping", "object", "function", "patch tokens"],
)
def test_every_form_of_output_gives_the_same_tokens(encoder, options):
    """Patches come row by row of the grid, whatever form the encoder gives them in."""
    pixels = torch.rand(2, 3, 12, 8)
    tower = CallableTower(encoder, image_size=(12, 8), **options)
    assert isinstance(tower, VisionTower)
    assert (tower.dim, tower.grid) == (3, (3, 2))
    assert torch.equal(tower(pixels).tokens, tokens(pixels))
    assert tower(pixels).valid is None


def test_patch_masks_pass_through():
    """An encoder of variable resolution says itself which patches exist."""
    mask = torch.tensor([[True, False, True, True]])
    tower = CallableTower(lambda pixels: PatchTokens(tokens=tokens(pixels), valid=mask), image_size=8)
    assert torch.equal(tower(torch.rand(1, 3, 8, 8)).valid, mask)


def test_a_frozen_encoder_stays_in_eval_mode_and_gets_no_gradient():
    """`.train()` of the model around it changes nothing in a frozen tower."""
    encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.Dropout())
    tower = CallableTower(encoder, image_size=8)
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    model = nn.Sequential(tower).train()
    model(torch.rand(2, 3, 8, 8))
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert all(torch.equal(before[name], value) for name, value in tower.state_dict().items())


def test_an_unfrozen_encoder_trains_and_is_left_as_it_was():
    """Making the tower neither changes the modes of its modules nor their running statistics."""
    encoder = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.Dropout().eval())
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tower = CallableTower(encoder, image_size=8, frozen=False)
    assert [module.training for module in tower.modules()] == [True, True, True, True, False]
    assert all(parameter.requires_grad for parameter in tower.parameters())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert not tower.eval().training
    assert tower.train().encoder[2].training


def test_pixels_take_the_dtype_of_the_weights():
    """A bfloat16 encoder takes float32 pixels."""
    tower = CallableTower(nn.Conv2d(3, 8, 4, stride=4).bfloat16(), image_size=8)
    assert tower(torch.rand(2, 3, 8, 8)).tokens.dtype == torch.bfloat16


def test_a_tower_on_the_meta_device_knows_its_sizes():
    """No weight is needed to learn width and grid."""
    tower = CallableTower(nn.Conv2d(3, 8, 4, stride=4, device="meta"), image_size=(8, 12))
    assert (tower.dim, tower.grid) == (8, (2, 3))


def test_preprocess_fits_the_image_size():
    """The default preprocessing makes frames of the tower's size, unless another one is given."""
    tower = CallableTower(patches, image_size=(8, 12))
    assert tower.preprocess(torch.rand(3, 5, 5)).shape == (3, 8, 12)
    assert CallableTower(patches, image_size=8, preprocess=len).preprocess is len


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        (with_class_token, {}, "gives 5 patch tokens after num_prefix=0, wanted a square.*1 prefix tokens would leave"),
        (tokens, {"grid": (3, 2)}, "4 patch tokens .* wanted a grid of 3 x 2"),
        (patches, {"grid": (3, 2)}, r"grid is \(3, 2\), but the encoder gives a map of 2 x 2"),
        (patches, {"dim": 5}, "dim is 5, but the encoder gives features of width 3"),
        (lambda pixels: (pixels, pixels), {}, "gives a tuple of length 2, wanted a tensor"),
        (lambda pixels: {"pooled": pixels}, {}, r"gives a dict with the fields \['pooled'\]"),
        (lambda pixels: pixels.mean((2, 3)), {}, r"tensor of shape \[1, 3\], wanted \[n patches dim\]"),
    ],
)
def test_unfit_encoders_are_refused_when_the_tower_is_made(encoder, options, message):
    """The error names what the encoder gave and the argument that mends it."""
    with pytest.raises(ValueError, match=message):
        CallableTower(encoder, image_size=8, **options)


def test_unfit_pixels_are_refused():
    """A single frame without its batch axis is told apart from a batch."""
    with pytest.raises(ValueError, match=r"pixels has shape \[3, 8, 8\]"):
        inspect.unwrap(CallableTower.forward)(CallableTower(patches, image_size=8), torch.rand(3, 8, 8))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_map_whose_channels_stand_elsewhere_is_refused(channels_last):
    """A square image has no grid of 4 x 16 places, where 4 x 4 places of width 16 are as likely."""

    def encoder(pixels):
        found = nn.functional.avg_pool2d(pixels, 4).repeat(1, 6, 1, 1)[:, :16]
        return found if channels_last else found.permute(0, 2, 3, 1)

    with pytest.raises(ValueError, match=f"pass channels_last={not channels_last}, or grid=") as said:
        CallableTower(encoder, image_size=16, channels_last=channels_last)
    assert "otherwise one of 4 x 4; pass" in str(said.value)
    assert CallableTower(encoder, image_size=16, channels_last=not channels_last).grid == (4, 4)
    rows, columns = (16, 4) if channels_last else (4, 16)
    assert CallableTower(encoder, image_size=16, channels_last=channels_last, grid=(rows, columns)).dim == 4


@pytest.mark.parametrize(("patch", "size"), [((8, 2), 16), ((16, 16), (20, 40)), ((1, 8), (4, 64))])
def test_patches_need_not_be_square(patch, size):
    """What fits no better the other way round is taken as it is."""
    CallableTower(nn.Conv2d(3, 5, patch, stride=patch), image_size=size)
