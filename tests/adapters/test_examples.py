"""What the documentation shows of timm and open_clip runs, and their towers pass the suite for towers."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest
import torch

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models import PaperLanguageModel, every_layer
from flamingo_blocks.testing import check_tower
from flamingo_blocks.vision import FeatureStore, NaFlexTower, OpenClipTower, TimmTower, encode_frames, save_features

pytestmark = pytest.mark.adapters

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bring-your-encoder.md"
FENCE = re.compile(r"^```(?:python|\{\.python \.adapters\})\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def test_all_blocks_of_the_page_run(tmp_path, monkeypatch):
    """The page on encoders runs from top to bottom, with the blocks that need timm and open_clip."""
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    assert text.count("{.python .adapters}") >= 3
    namespace: dict[str, object] = {"__name__": "__main__"}
    torch.manual_seed(0)
    for match in FENCE.finditer(text):
        above = text[: match.start("code")].count("\n")
        exec(compile("\n" * above + match["code"], str(PAGE), "exec"), namespace)


@pytest.mark.parametrize("tower", [TimmTower, OpenClipTower])
def test_docstring_examples_print_what_they_say(tower):
    """Examples that other environments skip run here."""
    text = inspect.getdoc(tower).replace("# doctest: +SKIP", "")
    names = dict(vars(importlib.import_module(tower.__module__)))
    example = doctest.DocTestParser().get_doctest(text, names, tower.__name__, None, 0)
    report: list[str] = []
    assert len(example.examples) >= 4
    assert doctest.DocTestRunner().run(example, out=report.append).failed == 0, "".join(report)


TIMM = [
    ("test_vit", {"layer": -2}),
    ("test_nfnet", {"image_size": 64, "fit": "pad"}),
    ("test_resnet", {"image_size": (64, 96)}),
    ("test_convnext", {}),
    ("vit_small_patch16_dinov3", {"image_size": 64}),
]


@pytest.mark.parametrize(("name", "options"), TIMM)
def test_towers_of_timm_pass_the_suite(name, options):
    """The suite for any tower has nothing to say against them."""
    import timm

    torch.manual_seed(0)
    tower = TimmTower(timm.create_model(name, num_classes=0), **options)
    assert check_tower(tower, require=["frozen"]).grid == tower.grid


@pytest.mark.parametrize(("name", "options"), [("ViT-S-32-alt", {}), ("RN50", {"image_size": 64, "layer": -2})])
def test_towers_of_open_clip_pass_the_suite(name, options):
    """The suite for any tower has nothing to say against them."""
    import open_clip

    torch.manual_seed(0)
    tower = OpenClipTower(open_clip.create_model(name), **options)
    assert check_tower(tower, require=["frozen"]).dim == tower.dim


def test_naflex_is_transformers_own_processor_and_model():
    """Images of different shapes in one batch give what `Siglip2ImageProcessor` and the model give."""
    from transformers import Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

    torch.manual_seed(0)
    config = Siglip2VisionConfig(
        patch_size=4, num_patches=16, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=3
    )
    model = Siglip2VisionModel(config).eval()
    tower = NaFlexTower(model, max_num_patches=20)
    sizes = [(10, 40), (40, 13), (7, 7), (123, 45)]
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes]
    inputs = Siglip2ImageProcessor(patch_size=4, max_num_patches=20)(images, return_tensors="pt")
    examples = [FlamingoExample([9], tags=[0], pixels=[tower.preprocess(image)[None]]) for image in images]
    features, valid = encode_frames(tower, collate(examples, pad_id=0, variable_size=True).pixels)
    exists = inputs["pixel_attention_mask"].bool()
    assert torch.equal(valid[:, 0], exists)
    torch.testing.assert_close(features[:, 0][exists], model(**inputs).last_hidden_state[exists], atol=1e-5, rtol=1e-5)


def test_a_tower_of_timm_is_known_by_its_features(tmp_path):
    """Features are taken beside the same model, and refused beside another layer of it."""
    import timm

    torch.manual_seed(0)
    made = timm.create_model("test_vit", num_classes=0)
    save_features(tmp_path, [("cat", torch.rand(3, 30, 50))], tower=TimmTower(made))
    assert FeatureStore(tmp_path, tower=TimmTower(made)).dim == 64
    with pytest.raises(ValueError, match="computes other features"):
        FeatureStore(tmp_path, tower=TimmTower(made, layer=-2))


@pytest.mark.parametrize("kind", ["timm", "open_clip"])
def test_a_whole_model_behind_them(tmp_path, kind):
    """A Flamingo trains behind the tower, saves a reference to it, and loads beside the same weights only."""
    import open_clip
    import timm

    def tower(seed):
        torch.manual_seed(seed)
        if kind == "timm":
            return TimmTower(timm.create_model("test_nfnet", num_classes=0), image_size=64, fit="pad")
        return OpenClipTower(open_clip.create_model("ViT-S-32-alt").visual, image_size=64)

    vision = tower(0)
    lm = PaperLanguageModel(vocab_size=32, dim=16, depth=2, num_heads=2)
    flamingo = Flamingo(
        lm=lm,
        vision=vision,
        resampler=PerceiverResampler(vision_dim=vision.dim, dim=16, num_latents=3, depth=1, num_heads=2, head_dim=8),
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2)),
        media_token_id=30,
    )
    ids = torch.tensor([[1, 30, 5, 6], [2, 3, 30, 4]])
    pixels = torch.stack([vision.preprocess(torch.rand(3, 40, 70)) for _ in range(2)])[:, None]
    flamingo(ids, pixels=pixels, labels=ids).loss.backward()
    assert not any(parameter.grad is not None for parameter in vision.parameters())
    assert all(parameter.grad is not None for parameter in flamingo.trained_parameters().values())
    flamingo.eval().save_pretrained(tmp_path)
    logits = flamingo(ids, pixels=pixels).logits
    lm = flamingo.detach()
    with pytest.raises(CheckpointError, match="vision is not the one this model was trained with"):
        Flamingo.from_pretrained(tmp_path, lm=lm, vision=tower(1))
    loaded = Flamingo.from_pretrained(tmp_path, lm=lm, vision=tower(0))
    assert torch.equal(loaded(ids, pixels=pixels).logits, logits)
