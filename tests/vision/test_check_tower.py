"""The suite for vision towers passes what is right, and names each fault that is planted."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flamingo_blocks.errors import ConformanceError
from flamingo_blocks.testing import check_tower
from flamingo_blocks.vision import (
    CallableTower,
    ImagePreprocess,
    NaFlexTower,
    PatchTokens,
    TransformersTower,
    VisionTower,
)


class Sound(nn.Module):
    """A tower that is right: patches, a layer that mixes nothing, dropout that eval mode ends."""

    dim, grid = 6, (4, 3)
    preprocess = ImagePreprocess(size=(16, 12))

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.dropout = nn.Dropout()
        self.requires_grad_(False)
        self.eval()

    def tokens(self, pixels):
        return self.dropout(self.patches(pixels.to(self.patches.weight.dtype)).flatten(2).mT)

    def forward(self, pixels):
        return PatchTokens(tokens=self.tokens(pixels))

    def train(self, mode=True):
        return super().train(mode=False)


class NoGrid(Sound):
    grid = None


class WrongDim(Sound):
    dim = 7


class KeepsClassToken(Sound):
    def tokens(self, pixels):
        tokens = super().tokens(pixels)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


class GivesTensor(Sound):
    def forward(self, pixels):
        return self.tokens(pixels)


class Fails(Sound):
    def tokens(self, pixels):
        raise RuntimeError("no kernel for this device")


class OwnSizes(Sound):
    def preprocess(self, image):
        return image.float() / 255


class Augments(Sound):
    def preprocess(self, image):
        pixels = ImagePreprocess(size=(16, 12))(image)
        return pixels + torch.rand(())


class GivesBytes(Sound):
    def preprocess(self, image):
        return image


class NotFinite(Sound):
    def tokens(self, pixels):
        return super().tokens(pixels) / 0


class OtherDtype(Sound):
    def tokens(self, pixels):
        return super().tokens(pixels).double()


class DropsInEval(Sound):
    def tokens(self, pixels):
        return F.dropout(super().tokens(pixels), training=True)


class NormsTheBatch(Sound):
    def tokens(self, pixels):
        tokens = super().tokens(pixels)
        return tokens - tokens.mean(0)


class SumsBefore(Sound):
    """A frame feels the frame before it only, which one frame alone does not show."""

    def tokens(self, pixels):
        tokens = super().tokens(pixels)
        return tokens + tokens[:1]


class SeesNothing(Sound):
    def tokens(self, pixels):
        return super().tokens(torch.ones_like(pixels))


class WritesPixels(Sound):
    def tokens(self, pixels):
        return super().tokens(pixels.mul_(2.0).div_(2.0).sub_(0.1))


class Remembers(Sound):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def tokens(self, pixels):
        tokens = super().tokens(pixels)
        self.mean.mul_(0.5).add_(pixels.mean())
        return tokens


class Thaws(Sound):
    def train(self, mode=True):
        return nn.Module.train(self, mode)


class CarriesGradient(Sound):
    def tokens(self, pixels):
        return super().tokens(pixels.requires_grad_())


class NoGradient(Sound):
    def __init__(self):
        super().__init__()
        self.requires_grad_(True)

    @torch.no_grad()
    def tokens(self, pixels):
        return super().tokens(pixels)


class FloatMask(Sound):
    def forward(self, pixels):
        tokens = self.tokens(pixels)
        return PatchTokens(tokens=tokens, valid=torch.ones(len(tokens), 12))


class TooFewValid(Sound):
    def forward(self, pixels):
        tokens = self.tokens(pixels)
        return PatchTokens(tokens=tokens, valid=(torch.arange(12) < 5).expand(len(tokens), 12))


class ColumnByColumn(Sound):
    def tokens(self, pixels):
        return super().tokens(pixels).unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)


FAULTS = [
    (NoGrid, "members: grid is None, wanted a tuple of two numbers"),
    (WrongDim, "tokens: tokens are 6 wide, but dim is 7"),
    (KeepsClassToken, r"tokens: a frame has 13 tokens, but grid is \(4, 3\), 12 patches; are 1 class"),
    (GivesTensor, "tokens: the tower gives a Tensor, wanted PatchTokens"),
    (Fails, "tokens: RuntimeError: no kernel for this device"),
    (OwnSizes, "preprocess: preprocess gives frames of 3 sizes"),
    (Augments, "preprocess: preprocess gives other pixels at the second call"),
    (GivesBytes, r"preprocess: preprocess gives \[3, 96, 96\] of torch.uint8, wanted floating"),
    (NotFinite, "tokens: tokens are not finite"),
    (OtherDtype, "dtype and device: tokens are torch.float64, but the weights torch.float32"),
    (DropsInEval, "same twice: two calls with the same frames differ in eval mode"),
    (NormsTheBatch, "batch mates: a frame's tokens change by .* with the frames beside it"),
    (SumsBefore, "batch mates: .* change"),
    (SeesNothing, "sees the picture: two different pictures give the same tokens"),
    (WritesPixels, "pixels left alone: the tower writes into the pixels"),
    (Remembers, "no state: a call in eval mode changes mean of the tower"),
    (Thaws, r"frozen stays frozen: no weight of the tower trains, but .train\(\) changes its tokens by"),
    (CarriesGradient, "frozen stays frozen: no weight of the tower trains, but its tokens carry a gradient"),
    (NoGradient, "frozen stays frozen: the tower has trained weights, but its tokens carry no gradient"),
    (FloatMask, r"tokens: valid has shape \[3, 12\] and torch.float32, wanted bool \[3, 12\]"),
    (TooFewValid, "tokens: 5 tokens of a square picture are valid, but grid is"),
]  # fmt: skip


def test_a_sound_tower_passes():
    """A tower that is right passes, in float32 and bfloat16; the report says what it is, and the tower is as before."""
    tower = Sound()
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    report = check_tower(tower, require=["frozen", "row by row"])
    assert (report.dim, report.grid, report.dtype) == (6, (4, 3), torch.float32)
    assert str(report).splitlines()[0] == "4 x 3 patches of width 6, torch.float32"
    assert all(torch.equal(before[name], tensor) for name, tensor in tower.state_dict().items())
    assert check_tower(Sound().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("broken", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_fault_is_found(broken, message, without_shape_checks):
    """Each fault of a tower that is right but for it is named."""
    with pytest.raises(ConformanceError, match=f"^{broken.__name__} fails [12] of the checks:\n(.*\n)?  {message}"):
        check_tower(broken())


def test_what_a_tower_need_not_be_is_told():
    """A tower that trains, or gives its patches column by column, passes unless the user asks otherwise."""
    trained = Sound().requires_grad_(True)
    assert "weights train" in check_tower(trained).tells["frozen"]
    assert check_tower(trained).tells["row by row"] == "ok"
    with pytest.raises(ConformanceError, match=r"fails 1 of the checks:\n  frozen: 294 weights train"):
        check_tower(trained, require=["frozen"])
    assert "noise in the patch of row" in check_tower(ColumnByColumn()).tells["row by row"]
    with pytest.raises(ValueError, match=r"require names \['frosen'\], wanted some of frozen, row by row"):
        check_tower(trained, require=["frosen"])


def test_modes_are_put_back():
    """A tower that was training is training afterwards, each module as it was."""
    tower = Thaws().requires_grad_(True)
    tower.train()
    tower.patches.eval()
    check_tower(tower)
    assert [module.training for module in tower.modules()] == [True, False, True]


@pytest.mark.parametrize("tower", [Sound, Thaws])
def test_the_random_numbers_of_the_caller_are_left_alone(tower):
    """What is drawn in training mode, by a tower that trains or one that fails, is not missing afterwards."""
    tower = tower().requires_grad_(tower is Thaws)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    check_tower(tower.train())
    assert torch.equal(torch.rand(1), expected)


def test_own_pictures_and_bound():
    """Pictures are whatever `preprocess` takes; the bound is the user's."""

    class Rounds(Sound):
        def tokens(self, pixels):
            return super().tokens(pixels) + 1e-3 * len(pixels)

    pictures = [torch.rand(3, side, side) for side in (8, 9, 30)]
    assert check_tower(Sound(), pictures=pictures).dim == 6
    assert check_tower(Rounds(), pictures=pictures, bound=0.1).dim == 6
    with pytest.raises(ConformanceError, match="batch mates"):
        check_tower(Rounds(), pictures=pictures)
    with pytest.raises(ValueError, match="pictures holds 2, wanted three or more: a square one"):
        check_tower(Sound(), pictures=pictures[:2])


def test_the_library_s_own_towers_pass():
    """Every tower of the library passes its own suite."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    flexible = transformers.Siglip2VisionModel(transformers.Siglip2VisionConfig(patch_size=4, num_patches=16, **sizes))
    frames = {"image_size": 32, "patch_size": 8}
    towers: list[VisionTower] = [
        NaFlexTower(flexible),
        NaFlexTower(flexible, layer=0, frozen=False),
        TransformersTower(transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes, **frames)), layer=-2),
        TransformersTower(transformers.ViTModel(transformers.ViTConfig(**sizes, **frames)), image_size=(32, 48)),
        TransformersTower(transformers.Dinov2Model(transformers.Dinov2Config(**sizes, **frames)), fit="pad"),
        CallableTower(nn.Conv2d(3, 4, 4, stride=4), image_size=16),
    ]
    for tower in towers:
        assert check_tower(tower).dim == tower.dim


@pytest.mark.usefixtures("without_shape_checks")
def test_a_bare_encoder_is_told_what_wraps_it():
    """Before anything runs."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=8, patch_size=4
    )
    wanted = r"the tower has no dim, grid, preprocess; a bare encoder has to be wrapped: TransformersTower\(model\)"
    with pytest.raises(ConformanceError, match=wanted):
        check_tower(transformers.CLIPVisionModel(config))
