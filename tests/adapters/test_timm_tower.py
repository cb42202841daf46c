"""Models of timm, of every shape of features and with random weights, as towers."""

import pytest
import torch
from torch import nn

from flamingo_blocks.vision import ImagePreprocess, TimmTower, VisionTower

pytestmark = [
    pytest.mark.adapters,
    pytest.mark.filterwarnings("ignore::UserWarning:timm"),  # its interpolation is warned about by torch
]


def model(name, **options):
    """A model of timm with random norms, so that a norm too many or too few shows."""
    import timm

    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=0, **options).eval()
    for parameter in made.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    return made


def pixels(tower, n=2):
    return torch.randn(n, 3, *tower.image_size, generator=torch.Generator().manual_seed(1))


# name, options, tokens before the patches
TRANSFORMERS = [
    ("test_vit", {}, 1),  # class token
    ("vit_tiny_patch16_224", {"img_size": 64}, 1),
    ("vit_base_patch16_siglip_224", {"img_size": 32, "depth": 2}, 0),  # attention pooling
    ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "depth": 2}, 5),  # class and registers
    ("vit_small_patch16_dinov3", {"img_size": 64, "depth": 2}, 5),  # rotary positions
    ("deit_tiny_distilled_patch16_224", {"img_size": 64, "depth": 2}, 2),
]


@pytest.mark.parametrize(("name", "options", "prefix"), TRANSFORMERS)
def test_patch_tokens_of_transformers(name, options, prefix):
    """Tokens are the model's own features without class and register tokens, one for each place of the grid."""
    made = model(name, **options)
    tower = TimmTower(made)
    assert isinstance(tower, VisionTower)
    assert made.num_prefix_tokens == prefix
    frames = pixels(tower)
    tokens = tower(frames).tokens
    assert torch.equal(tokens, made.forward_features(frames)[:, prefix:])
    assert tokens.shape == (2, tower.grid[0] * tower.grid[1], tower.dim)


MAPS = [
    ("test_nfnet", {}),
    ("test_resnet", {}),
    ("test_convnext", {}),
    ("test_efficientnet", {}),
    ("test_mambaout", {}),  # channels last
    ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 2}),  # channels last
]


@pytest.mark.parametrize(("name", "options"), MAPS)
def test_last_feature_map_of_nets_without_tokens(name, options):
    """A feature map gives its places row by row, whichever axis its channels are on."""
    made = model(name, **options)
    tower = TimmTower(made, image_size=(64, 96))
    assert tower.grid == (2, 3)
    frames = pixels(tower)
    found = made.forward_features(frames)
    last = getattr(made, "output_fmt", "NCHW") == "NHWC"
    tokens = tower(frames).tokens
    for row in range(2):
        for column in range(3):
            place = found[:, row, column] if last else found[:, :, row, column]
            assert torch.equal(tokens[:, 3 * row + column], place)


def test_the_nfnet_of_the_paper():
    """NFNet-F0, for real, at the paper's 320 pixels: 100 tokens of 3072 values, after the last activation."""
    made = model("dm_nfnet_f0")
    tower = TimmTower(made, image_size=320, fit="pad")
    assert (tower.dim, tower.grid) == (3072, (10, 10))
    frame = tower.preprocess(torch.randint(256, (3, 40, 60), dtype=torch.uint8))
    assert (frame[:, :40] == 0).all()  # the bar above a wide image is the mean
    tokens = tower(frame[None]).tokens
    assert torch.equal(tokens, made.forward_features(frame[None]).flatten(2).mT)
    assert tokens.isfinite().all()


@pytest.mark.parametrize("size", range(7))
def test_every_nfnet_gives_the_tokens_that_the_page_promises(size):
    """All NFNets, the paper's F6 among them, give 100 tokens of 3072 values at 320 pixels; on meta, so in no time."""
    with torch.device("meta"):
        made = model(f"dm_nfnet_f{size}")
    tower = TimmTower(made, image_size=320, fit="pad")
    assert (tower.dim, tower.grid) == (3072, (10, 10))
    assert tower(torch.zeros(1, 3, 320, 320, device="meta")).tokens.shape == (1, 100, 3072)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_reg4_dinov2", "test_nfnet", "test_resnet"])
@pytest.mark.parametrize("layer", [-1, -2, 1])
def test_a_layer_is_counted_as_timm_counts(name, layer):
    """Layers are those of `forward_intermediates`; only the last is normed by default."""
    sizes = {"img_size": 28, "depth": 3} if "dino" in name else {}
    made = model(name, **sizes)
    tower = TimmTower(made, layer=layer, final_norm=False)
    frames = pixels(tower)
    found = made.forward_intermediates(frames, intermediates_only=True)[layer]
    assert torch.equal(tower(frames).tokens, found.flatten(2).mT)
    assert tower.dim == found.shape[1]
    own = TimmTower(made, layer=layer)(frames).tokens
    assert torch.equal(own, tower(frames).tokens) == (layer != -1 or name == "test_resnet")


def test_the_final_norm_of_an_earlier_layer():
    """`final_norm=True` norms any layer; a net without such a norm says so."""
    made = model("test_vit")
    tower = TimmTower(made, layer=-2, final_norm=True)
    frames = pixels(tower)
    plain = TimmTower(made, layer=-2)(frames).tokens
    torch.testing.assert_close(tower(frames).tokens, made.norm(plain))
    with pytest.raises(ValueError, match="final_norm is True, but NormFreeNet has no norm"):
        TimmTower(model("test_nfnet"), final_norm=True)


@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"])
def test_another_image_size_interpolates_positions(name):
    """A size of its own gives its own grid, the same as timm makes of the model."""
    sizes = {} if name == "test_vit" else {"img_size": 56 if "14" in name else 64, "depth": 2}
    side = 14 if "14" in name else 16
    tower = TimmTower(model(name, **sizes), image_size=(6 * side, 4 * side))
    other = model(name, **sizes)
    other.set_input_size(img_size=(6 * side, 4 * side))
    frames = pixels(tower)
    assert tower.grid == (6, 4)
    assert torch.equal(tower(frames).tokens, other.forward_features(frames)[:, other.num_prefix_tokens :])
    with pytest.raises(ValueError, match=r"frames of \[32, 32\], wanted \["):
        tower(torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [("test_vit", {}, (60, 90)), ("dm_nfnet_f0", {}, (90, 61)), ("dm_nfnet_f0", {"image_size": (64, 96)}, (40, 40)),
     ("vit_tiny_patch16_224", {"image_size": (64, 96)}, (90, 90)), ("test_resnet", {}, (33, 200))],
)  # fmt: skip
def test_images_are_prepared_as_timm_does_for_evaluation(name, options, size):
    """Size, crop, mean, std and filter are those that timm's own transform takes from the model."""
    import timm
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    made = timm.create_model(name, num_classes=0)
    tower = TimmTower(made, **options)
    config = resolve_model_data_config(made) | {"input_size": (3, *tower.image_size)}
    noise = torch.randint(256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(noise.numpy())
    level = 1 / 255 / min(config["std"])
    torch.testing.assert_close(tower.preprocess(image), create_transform(**config)(image), atol=1.01 * level, rtol=0)


def test_the_paper_s_way_to_fit_an_image_is_an_option():
    """`fit="pad"` keeps the model's mean and std, and shows all of the image."""
    tower = TimmTower(model("test_nfnet"), fit="pad", image_size=64)
    assert tower.preprocess == ImagePreprocess((64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, fit="pad")


def test_frozen_by_default():
    """The model gets no gradient, and `.train()` leaves it in eval mode; `frozen=False` leaves it alone."""
    tower = TimmTower(model("test_resnet"))
    nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    made = model("test_resnet").train()
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    free = TimmTower(made, frozen=False)
    assert made.training
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())
    assert all(module.training for module in free.train().modules())
    assert all(parameter.requires_grad for parameter in free.parameters())


def test_weights_on_the_meta_device_and_in_bfloat16():
    """Nothing is computed on meta; float32 pixels take the dtype of the weights."""
    tower = TimmTower(model("test_vit").to("meta"), image_size=64)
    assert tower(torch.zeros(1, 3, 64, 64, device="meta")).tokens.shape == (1, 16, 64)
    assert TimmTower(model("test_vit").bfloat16())(torch.zeros(1, 3, 160, 160)).tokens.dtype == torch.bfloat16


def test_loading_by_name_brings_weights_and_preprocessing(tmp_path):
    """`from_pretrained` takes whatever name timm does, a folder included."""
    import timm
    from timm.models import save_for_hf

    made = model("test_vit")
    made.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "crop_mode": "squash", "crop_pct": 1.0}
    save_for_hf(made, tmp_path, model_config={"mean": (0.1, 0.2, 0.3), "crop_mode": "squash", "crop_pct": 1.0})
    tower = TimmTower.from_pretrained(f"local-dir:{tmp_path}", layer=-2)
    frames = pixels(tower)
    assert torch.equal(tower(frames).tokens, TimmTower(made, layer=-2)(frames).tokens)
    assert tower.preprocess.mean == (0.1, 0.2, 0.3)
    assert tower.preprocess.fit == "stretch"
    assert TimmTower.from_pretrained("test_vit", pretrained=False).dim == timm.create_model("test_vit").num_features


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch32_clip_224.openai", "vit_huge_patch14_clip_224.dfn5b", "timm/vit_base_patch16_clip_224.openai"],
)  # fmt: skip
def test_weights_trained_with_quick_gelu_need_a_model_with_it(name):
    """The error names the model to take instead; nothing is loaded."""
    with pytest.raises(ValueError, match=r"trained with QuickGELU.*computes GELU.*take vit_.*_clip_quickgelu_224\."):
        TimmTower.from_pretrained(name)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("test_vit", {"layer": 30}, "feature index 30 is out of range"),
        ("test_vit", {"num_prefix": 0}, "101 patch tokens after num_prefix=0, but the grid is 10 x 10"),
        ("test_nfnet", {"image_size": (0, 4)}, "does not get through a black frame of 0 x 4 pixels"),
        ("crossvit_9_240", {}, "forward_features gives a list"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(name, options, message):
    """The error says what the model did and what to change."""
    with pytest.raises(ValueError, match=message):
        TimmTower(model(name), **options)


def test_models_without_features_are_refused():
    """A module that is no model of timm is sent to the tower for any callable."""
    with pytest.raises(ValueError, match=r"Linear without forward_features, .*CallableTower\(model"):
        TimmTower(nn.Linear(2, 2))
