"""Models of open_clip, small and with random weights, as towers."""

import pytest
import torch
from torch import nn

from flamingo_blocks.vision import ImagePreprocess, OpenClipTower, VisionTower

pytestmark = pytest.mark.adapters

VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 4, "vocab_size": 8, "width": 16, "heads": 2, "layers": 1}


def clip(*, quick_gelu=False, **vision):
    """A small CLIP whose norms are random, so that a norm too many or too few shows."""
    from open_clip.model import CLIP

    torch.manual_seed(0)
    made = CLIP(embed_dim=16, vision_cfg=VISION | vision, text_cfg=TEXT, quick_gelu=quick_gelu).eval()
    for parameter in made.visual.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, mean=1.0, std=0.2)
    return made


def coca():
    """A small CoCa, which pools by attention."""
    from open_clip.coca_model import CoCa

    torch.manual_seed(0)
    vision = VISION | {"attentional_pool": True, "attn_pooler_heads": 2}
    decoder = TEXT | {"mlp_ratio": 2}
    return CoCa(embed_dim=16, multimodal_cfg=decoder, text_cfg=TEXT, vision_cfg=vision).eval()


def pixels(size=(32, 32)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"pool_type": "avg"}, {"final_ln_after_pool": True}, {"no_ln_pre": True}])
def test_tokens_are_those_that_open_flamingo_takes(options):
    """By default they are the second output of `visual` under `output_tokens=True`, bit for bit."""
    made = clip(**options)
    tower = OpenClipTower(made)
    assert isinstance(tower, VisionTower)
    assert (tower.dim, tower.grid) == (32, (4, 4))
    made.visual.output_tokens = True
    pooled, tokens = made.visual(pixels())
    assert torch.equal(tower(pixels()).tokens, tokens)
    assert pooled.shape == (2, 16)


def test_the_visual_part_alone_will_do():
    """A whole CLIP gives away its visual part; text weights are not in the tower."""
    made = clip()
    assert torch.equal(OpenClipTower(made.visual)(pixels()).tokens, OpenClipTower(made)(pixels()).tokens)
    assert OpenClipTower(made).state_dict().keys() == {f"model.{name}" for name in made.visual.state_dict()}


@pytest.mark.parametrize("layer", [-1, -2, 0])
@pytest.mark.parametrize("final_norm", [True, False])
def test_layers_and_their_norm(layer, final_norm):
    """Any block's output, normed or not, as a loop over the blocks gives it."""
    made = clip()
    tower = OpenClipTower(made, layer=layer, final_norm=final_norm)
    hidden = made.visual._embeds(pixels())
    for block in made.visual.transformer.resblocks[: range(3)[layer] + 1]:
        hidden = block(hidden)
    expected = made.visual.ln_post(hidden) if final_norm else hidden
    torch.testing.assert_close(tower(pixels()).tokens, expected[:, 1:])
    own = OpenClipTower(made, layer=layer)(pixels()).tokens
    assert torch.equal(own, tower(pixels()).tokens) == (final_norm == (layer == -1))


def test_another_image_size_interpolates_positions_as_open_clip_does():
    """The tower at another size is the model that open_clip makes of the weights at that size."""
    from open_clip.model import resize_pos_embed

    made, wide = clip(), clip(image_size=(48, 64))
    state = made.state_dict()
    resize_pos_embed(state, wide)
    wide.load_state_dict(state)
    tower = OpenClipTower(made, image_size=(48, 64))
    assert tower.grid == (6, 8)
    assert torch.equal(tower(pixels((48, 64))).tokens, OpenClipTower(wide)(pixels((48, 64))).tokens)
    assert tower.preprocess(torch.rand(3, 9, 9)).shape == (3, 48, 64)
    with pytest.raises(ValueError, match=r"frames of \[32, 32\], wanted \[48, 64\]"):
        tower(pixels())


def test_resnets_give_their_last_map():
    """The map before attention pooling, at any size; it has no norm."""
    made = clip(layers=(1, 1, 1, 1), width=8, image_size=64).visual
    tower = OpenClipTower(made, image_size=(64, 96))
    assert (tower.dim, tower.grid) == (256, (2, 3))
    hidden = made.stem(pixels((64, 96)))
    for stage in (made.layer1, made.layer2, made.layer3):
        hidden = stage(hidden)
    assert torch.equal(tower(pixels((64, 96))).tokens, made.layer4(hidden).flatten(2).mT)
    earlier = OpenClipTower(made, layer=-2, image_size=(64, 96))
    assert torch.equal(earlier(pixels((64, 96))).tokens, hidden.flatten(2).mT)
    with pytest.raises(ValueError, match="final_norm is True, but this ModifiedResNet has no norm"):
        OpenClipTower(made, final_norm=True)


def test_timm_models_inside_open_clip():
    """SigLIP and others are timm models: their own features, without pooling."""
    made = clip(timm_model_name="test_vit", timm_pool="", timm_proj="linear", image_size=32)
    tower = OpenClipTower(made, image_size=64)
    trunk = made.visual.trunk
    assert tower.grid == (4, 4)
    assert torch.equal(tower(pixels((64, 64))).tokens, trunk.forward_features(pixels((64, 64)))[:, 1:])
    assert OpenClipTower(made, layer=-2, image_size=64).dim == 64


def test_coca_gives_patches_before_its_pooling():
    """Its norm belongs to what is pooled, so patches come without one."""
    made = coca()
    tower = OpenClipTower(made)
    hidden = made.visual.transformer(made.visual._embeds(pixels()))
    assert torch.equal(tower(pixels()).tokens, hidden[:, 1:])
    with pytest.raises(ValueError, match="final_norm is True, but this VisionTransformer has no norm for its patches"):
        OpenClipTower(made, final_norm=True)


@pytest.mark.parametrize("size", [(40, 70), (90, 33)])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_images_are_prepared_as_open_clip_does(size, mode):
    """Size, mean, std, filter and resize mode are those of the model's own `preprocess_cfg`."""
    from open_clip.model import set_model_preprocess_cfg
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    made = clip()
    config = {"size": 32, "mode": "RGB", "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.4, 0.3), "interpolation": "bilinear",
              "resize_mode": mode, "fill_color": 0}  # fmt: skip
    set_model_preprocess_cfg(made, config)
    noise = torch.randint(256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray(noise.numpy())
    expected = image_transform_v2(PreprocessCfg(**config), is_train=False)(image)
    found = OpenClipTower(made).preprocess(image)
    torch.testing.assert_close(found, expected, atol=1.01 / 255 / 0.3, rtol=0)


def test_the_paper_s_way_to_fit_an_image_is_an_option():
    """`fit="pad"` keeps CLIP's mean and std; the default is to crop."""
    own, paper = OpenClipTower(clip()), OpenClipTower(clip(), fit="pad")
    assert own.preprocess.fit == "crop"
    assert paper.preprocess == ImagePreprocess((32, 32), own.preprocess.mean, own.preprocess.std, "pad", halves="even")


def test_a_model_with_the_other_activation_is_refused():
    """Weights trained with QuickGELU do not go into a model that computes GELU, nor the other way round."""
    for built in (True, False):
        made = clip(quick_gelu=built)
        assert OpenClipTower(made, quick_gelu=built).dim == 32
        with pytest.raises(ValueError, match=f"quick_gelu is {not built}, but the blocks of this model compute"):
            OpenClipTower(made, quick_gelu=not built)


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("ViT-B-32", "openai", "'openai' were trained with QuickGELU, .* computes GELU.*'ViT-B-32-quickgelu'"),
        ("ViT-L/14", "openai", "take 'ViT-L-14-quickgelu'"),
        ("ViT-H-14", "dfn5b", "take 'ViT-H-14-quickgelu'"),
        ("ViT-B-16", "dfn2b", "take 'ViT-B-16-quickgelu'"),
    ],
)  # fmt: skip
def test_names_that_do_not_match_their_weights_are_refused(name, tag, message):
    """The error names the model to take; nothing is loaded."""
    with pytest.raises(ValueError, match=message):
        OpenClipTower.from_pretrained(name, tag)
    if name == "ViT-B-16":  # the weights of LAION want the plain model
        with pytest.raises(ValueError, match="'laion2b_s34b_b88k' were trained with GELU, .* computes QuickGELU"):
            OpenClipTower.from_pretrained(name, "laion2b_s34b_b88k", force_quick_gelu=True)


def test_loading_from_a_file(tmp_path):
    """Weights of a file go into the named model."""
    import open_clip

    made = open_clip.create_model("ViT-S-32-alt")
    torch.save(made.state_dict(), tmp_path / "clip.pt")
    tower = OpenClipTower.from_pretrained("ViT-S-32-alt", str(tmp_path / "clip.pt"), image_size=64)
    frames = pixels((64, 64))
    assert torch.equal(tower(frames).tokens, OpenClipTower(made, image_size=64)(frames).tokens)


def test_frozen_in_place_and_takes_the_dtype_of_the_weights():
    """No gradient, eval mode through `.train()`; bfloat16 weights take float32 pixels; meta computes nothing."""
    tower = OpenClipTower(clip().bfloat16())
    nn.Sequential(tower).train()
    assert not any(module.training for module in tower.modules())
    assert not any(parameter.requires_grad for parameter in tower.parameters())
    assert tower(pixels()).tokens.dtype == torch.bfloat16
    assert all(parameter.requires_grad for parameter in OpenClipTower(clip(), frozen=False).parameters())
    assert OpenClipTower(clip().to("meta"), image_size=64)(torch.zeros(1, 3, 64, 64, device="meta")).tokens.is_meta


def test_other_models_are_refused():
    """A module that is no model of open_clip is sent to the tower for any callable."""
    with pytest.raises(ValueError, match=r"Linear without visual and without forward_intermediates.*CallableTower"):
        OpenClipTower(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="feature index|index 7|out of range"):
        OpenClipTower(clip(), layer=7)
