"""Vision transformers of the transformers library, tiny and untrained, as towers."""

import json

import pytest
import torch
from torch import nn

from flamingo_blocks.vision import ImagePreprocess, TransformersTower, VisionTower, encode_frames
from flamingo_blocks.vision.image_preprocess import to_rgb

transformers = pytest.importorskip("transformers")

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
# family -> (class, config class, further sizes, tokens before the patches)
FAMILIES = {
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", {}, 1),
    "vit": ("ViTModel", "ViTConfig", {}, 1),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", {}, 0),
    "deit": ("DeiTModel", "DeiTConfig", {}, 2),
    "dinov2": ("Dinov2Model", "Dinov2Config", {}, 1),
    "dinov2 registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {"num_register_tokens": 3}, 4),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", {"num_register_tokens": 2}, 3),
}


def tiny(family):
    """A small model with random norms, so that a norm too many or too few shows."""
    model_class, config_class, further, _ = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**SIZES, **further)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_the_patches_of_the_last_hidden_state(family):
    """By default the tower gives the model's own last hidden state, without the tokens before the patches."""
    model, pixels = tiny(family), torch.randn(2, 3, 32, 32)
    tower = TransformersTower(model)
    assert isinstance(tower, VisionTower)
    assert (tower.dim, tower.grid) == (16, (4, 4))
    found = tower(pixels)
    assert torch.equal(found.tokens, model(pixels).last_hidden_state[:, FAMILIES[family][3] :])
    assert found.tokens.shape == (2, 16, 16)
    assert found.valid is None


@pytest.mark.parametrize("family", ["clip", "vit", "siglip", "dinov2"])
@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_a_layer_is_counted_from_the_end(family, layer):
    """Layers -1, -2, ... are the model's hidden states of the same number; the norm is the model's final one."""
    model, pixels = tiny(family), torch.randn(2, 3, 32, 32)
    prefix = FAMILIES[family][3]
    hidden = model(pixels, output_hidden_states=True).hidden_states[layer][:, prefix:]
    inner = getattr(model, "vision_model", model)  # transformers 5.0 wraps CLIP and SigLIP once more
    norm = inner.post_layernorm if hasattr(inner, "post_layernorm") else inner.layernorm
    plain = TransformersTower(model, layer=layer, final_norm=False)(pixels).tokens
    normed = TransformersTower(model, layer=layer, final_norm=True)(pixels).tokens
    assert torch.equal(plain, hidden)
    assert torch.equal(normed, norm(hidden))
    assert not torch.allclose(plain, normed, atol=0.1)
    assert torch.equal(TransformersTower(model, layer=layer + 3, final_norm=False)(pixels).tokens, hidden)


def test_no_hook_stays_behind():
    """Also when the model fails in the middle, the chosen block is left without a hook."""
    model = tiny("clip")
    tower = TransformersTower(model, layer=-2)
    tower(torch.randn(1, 3, 32, 32))
    getattr(model, "vision_model", model).encoder.layers[-1].mlp.fc1 = nn.Linear(3, 3)  # fails after the hooked block
    with pytest.raises(RuntimeError):
        tower(torch.randn(1, 3, 32, 32))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_vision_part_is_found():
    """Two-tower models and classifiers give away their vision transformer."""
    config = transformers.CLIPConfig(
        vision_config=SIZES,
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
    )
    clip = transformers.CLIPModel(config).eval()
    pixels = torch.randn(1, 3, 32, 32)
    tower = TransformersTower(clip)
    assert not any("text" in name for name in tower.state_dict())
    assert torch.equal(tower(pixels).tokens, clip.vision_model(pixels).last_hidden_state[:, 1:])
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES)).eval()
    assert torch.equal(TransformersTower(classifier)(pixels).tokens, classifier.vit(pixels).last_hidden_state[:, 1:])


def test_frozen_by_default():
    """The model gets no gradient, and `.train()` leaves it in eval mode; `frozen=False` leaves it alone."""
    tower = TransformersTower(tiny("clip"))
    nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    free = TransformersTower(tiny("clip"), frozen=False).train()
    assert all(module.training for module in free.modules())
    assert all(parameter.requires_grad for parameter in free.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_another_image_size_interpolates_positions(family):
    """A size of its own gives its own grid, which need not be square."""
    tower = TransformersTower(tiny(family), image_size=(48, 40))
    assert tower.grid == (6, 5)
    assert tower(torch.randn(1, 3, 48, 40)).tokens.shape == (1, 30, 16)
    assert tower.preprocess(torch.rand(3, 9, 9)).shape == (3, 48, 40)


# family -> (image processor, what it is told where its own values are not those of published checkpoints)
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PROCESSORS = {
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": 32}),
    "vit": ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
    "siglip": ("SiglipImageProcessor", {"size": {"height": 32, "width": 32}}),
    "deit": ("DeiTImageProcessor", {"size": {"height": 36, "width": 36}, "crop_size": 32, **IMAGENET}),
    "dinov2": ("BitImageProcessor", {"size": {"shortest_edge": 36}, "crop_size": 32, **IMAGENET}),
}


@pytest.mark.parametrize("shape", [(50, 70), (70, 51), (32, 32)])
@pytest.mark.parametrize("family", PROCESSORS)
def test_a_bare_model_s_preprocessing_is_that_of_its_family(family, shape):
    """Without a stored file pixels are those of the published image processor, its sizes in proportion: 256 to 224."""
    image = pytest.importorskip("PIL.Image")
    name, options = PROCESSORS[family]
    processor = (getattr(transformers, f"{name}Pil", None) or getattr(transformers, name))(**options)
    slope = torch.linspace(0, 255, shape[0] * shape[1] * 3).view(*shape, 3).to(torch.uint8)
    picture = image.fromarray(slope.numpy())
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    found = TransformersTower(tiny(family)).preprocess(picture)
    assert (found - expected).abs().max() < 3 / 255 / min(processor.image_std)


def test_the_rim_is_dropped_in_the_family_s_own_way_only():
    """Another `fit` keeps the whole frame; sides of different length lose their rim each in proportion."""
    assert TransformersTower(tiny("deit"), image_size=(448, 224)).preprocess.before_crop == (512, 256)
    for fit in ("pad", "crop"):
        assert TransformersTower(tiny("deit"), fit=fit).preprocess.before_crop is None


def test_the_paper_s_way_to_fit_an_image_is_an_option():
    """`fit="pad"` keeps the family's mean and std; the default is the family's own way."""
    own, paper = TransformersTower(tiny("clip")), TransformersTower(tiny("clip"), fit="pad")
    assert own.preprocess.fit == "crop"
    assert own.preprocess.size == (32, 32)
    assert paper.preprocess.fit == "pad"
    assert paper.preprocess.mean == own.preprocess.mean
    assert TransformersTower(tiny("vit")).preprocess.fit == "stretch"


def test_a_bfloat16_tower_takes_float32_pixels():
    """Pixels take the dtype of the weights."""
    tower = TransformersTower(tiny("clip").bfloat16())
    assert tower(torch.randn(1, 3, 32, 32)).tokens.dtype == torch.bfloat16


@pytest.mark.parametrize("family", ["clip", "vit"])
def test_a_tower_on_the_meta_device_knows_its_shapes(family):
    """A pool without data gives features without data."""
    tower = TransformersTower(tiny(family).to("meta"), layer=-2)
    features, _ = encode_frames(tower, torch.empty(2, 1, 3, 32, 32, device="meta"))
    assert features.shape == (2, 1, 16, 16)


def test_loading_by_name_brings_the_stored_preprocessing(tmp_path):
    """`from_pretrained` reads the weights and the image processor's values from one folder."""
    model = tiny("clip")
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 36}, "do_center_crop": true,'
        ' "crop_size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 2.0]}'
    )
    tower = TransformersTower.from_pretrained(str(tmp_path), layer=-2)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(tower(pixels).tokens, TransformersTower(model, layer=-2)(pixels).tokens)
    assert tower.preprocess == ImagePreprocess(
        (32, 32), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 2.0), fit="crop", shortest_edge_px=36
    )
    padded = TransformersTower.from_pretrained(str(tmp_path), fit="pad", image_size=48)
    assert padded.preprocess == ImagePreprocess((48, 48), mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 2.0), fit="pad")
    assert TransformersTower.from_pretrained(str(tmp_path), preprocess=to_rgb).preprocess is to_rgb


def stored_frame(folder, model, frame, **further):
    """A folder of a model whose image processor makes frames of one size."""
    model.save_pretrained(folder)
    config = {"size": {"height": frame, "width": frame}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 2.0]}
    (folder / "preprocessor_config.json").write_text(json.dumps({**config, **further}))
    return str(folder)


@pytest.mark.parametrize("frame", [16, 32, 48])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_loaded_by_name_takes_what_its_preprocessing_makes(tmp_path, family, frame):
    """Frames have the stored size, also where the model's config says another one, as DINOv2's does."""
    model = tiny(family)
    folder = stored_frame(tmp_path, model, frame)
    for options in ({}, {"fit": "pad"}, {"image_size": None}):
        tower = TransformersTower.from_pretrained(folder, **options)
        assert tower.grid == (frame // 8, frame // 8)
        pixels = tower.preprocess(torch.rand(3, 20, 30))[None]
        expected = TransformersTower(model, image_size=frame)(pixels).tokens
        assert torch.equal(tower(pixels).tokens, expected)
        assert tower.preprocess.mean == (0.1, 0.2, 0.3)
    asked = TransformersTower.from_pretrained(folder, image_size=40)
    assert asked.preprocess.size == (40, 40)
    assert asked.grid == (5, 5)


def test_a_stored_size_that_depends_on_the_image_needs_another_way_to_fit(tmp_path):
    """It is refused; `fit` or `image_size` stand in its place, at the model's own size or the one given."""
    folder = stored_frame(tmp_path, tiny("clip"), 32, size={"shortest_edge": 24})
    with pytest.raises(ValueError, match="size is {'shortest_edge': 24}, wanted"):
        TransformersTower.from_pretrained(folder)
    assert TransformersTower.from_pretrained(folder, fit="pad").preprocess.size == (32, 32)
    assert TransformersTower.from_pretrained(folder, image_size=48).preprocess.size == (48, 48)


def test_stored_frames_that_the_model_cannot_take_are_refused(tmp_path, monkeypatch):
    """A model that does not interpolate its positions is told so when it is loaded, and taken at its own size."""

    class Rigid(transformers.ViTModel):
        def forward(self, pixel_values):
            return super().forward(pixel_values)

    rigid = Rigid(transformers.ViTConfig(**SIZES)).eval()
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: (rigid, {}))
    folder = stored_frame(tmp_path, tiny("vit"), 48)
    with pytest.raises(
        ValueError, match=r"a black frame of 48 x 48 pixels: .*change image_size= to the model's own \[32"
    ):
        TransformersTower.from_pretrained(folder)
    assert TransformersTower.from_pretrained(folder, image_size=32).grid == (4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 3}, "layer is 3, but the model has 3 blocks"),
        ({"layer": -4}, "layer is -4, but the model has 3 blocks"),
    ],
)
def test_unknown_layers_are_refused(options, message):
    """The error says how many blocks there are."""
    with pytest.raises(ValueError, match=message):
        TransformersTower(tiny("clip"), **options)


def test_models_without_patches_are_refused():
    """A model that is no vision transformer is sent to the tower for any callable."""
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])
    with pytest.raises(ValueError, match=r"ResNetModel whose config has no hidden_size, .*CallableTower\(model"):
        TransformersTower(transformers.ResNetModel(config))


def test_models_of_an_unknown_family_must_say_their_prefix():
    """The number of tokens before the patches is never guessed, and a wrong one shows in the first forward."""
    model = tiny("vit")
    model.config.model_type = "newvit"
    with pytest.raises(ValueError, match=r"'newvit', not one of .*num_prefix="):
        TransformersTower(model)
    assert TransformersTower(model, num_prefix=1)(torch.randn(1, 3, 32, 32)).tokens.shape == (1, 16, 16)
    with pytest.raises(ValueError, match="17 patch tokens after num_prefix=0, but its grid is 4 x 4"):
        TransformersTower(model, num_prefix=0)(torch.randn(1, 3, 32, 32))


def test_models_without_a_norm_or_without_one_list_of_blocks_are_refused():
    """What the tower cannot find it names, when it is made."""
    no_norm = tiny("vit")
    del no_norm.layernorm
    with pytest.raises(ValueError, match="final_norm is True, but ViTModel has none"):
        TransformersTower(no_norm, final_norm=True)
    no_blocks = tiny("vit")
    no_blocks.config.num_hidden_layers = 7
    with pytest.raises(ValueError, match=r"ViTModel with 0 lists of 7 blocks among \{'[a-z.]+': 3\}"):
        TransformersTower(no_blocks)


def test_frames_of_another_size_are_refused():
    """The error says both sizes and how to get the right one."""
    with pytest.raises(ValueError, match=r"frames of \[16, 16\], wanted \[32, 32\]"):
        TransformersTower(tiny("clip"))(torch.randn(1, 3, 16, 16))


def test_weights_that_no_file_holds_are_refused(tmp_path):
    """What is missing would be drawn at random; only a pooler, which no patch token passes through, may be."""
    from safetensors.torch import load_file, save_file

    from flamingo_blocks.errors import CheckpointError

    model = transformers.ViTForImageClassification(transformers.ViTConfig(**SIZES))
    model.save_pretrained(tmp_path)
    preprocess = ImagePreprocess((32, 32), (0.5,) * 3, (0.5,) * 3, "stretch")
    tower = TransformersTower.from_pretrained(str(tmp_path), preprocess=preprocess)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(tower(pixels).tokens, model.eval().vit(pixels).last_hidden_state[:, 1:])
    weights = load_file(tmp_path / "model.safetensors")
    del weights["vit.layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights, which would be drawn at random: layernorm\.weight;"):
        TransformersTower.from_pretrained(str(tmp_path), preprocess=preprocess)
