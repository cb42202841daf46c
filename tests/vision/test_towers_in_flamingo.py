"""A whole model behind a tower of variable resolution: images of any shape in, the same logits after saving."""

import pytest
import torch

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.models import FlamingoProcessor, PaperLanguageModel, every_layer
from flamingo_blocks.vision import FeatureStore, NaFlexPreprocess, NaFlexTower, save_features

transformers = pytest.importorskip("transformers")

IDS = {"media_token_id": 30, "end_token_id": 31, "pad_token_id": 0}


class Letters:
    """A tokenizer of single letters."""

    def encode(self, text):
        return [ord(letter) % 26 + 1 for letter in text]

    def decode(self, ids):
        return "?" * len(ids)


def flamingo():
    """A small model with open gates behind a small SigLIP 2."""
    torch.manual_seed(0)
    config = transformers.Siglip2VisionConfig(
        patch_size=4, num_patches=16, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2
    )
    lm = PaperLanguageModel(vocab_size=32, dim=16, depth=2, num_heads=2)
    tower = NaFlexTower(
        transformers.Siglip2VisionModel(config), preprocess=NaFlexPreprocess(4, 16, mean=(0.4,) * 3, std=(0.3,) * 3)
    )
    model = Flamingo(
        lm=lm,
        vision=tower,
        resampler=PerceiverResampler(vision_dim=16, dim=16, num_latents=3, depth=1, num_heads=2, head_dim=8),
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=16, num_heads=2)),
        media_token_id=IDS["media_token_id"],
        end_token_id=IDS["end_token_id"],
    )
    for block in model.blocks.values():
        torch.nn.init.ones_(block.attention_gate.gate)
    return model.eval()


def rows():
    """Rows with a wide image, a tall one and a clip."""
    generator = torch.Generator().manual_seed(1)
    wide, tall, square = (torch.rand(3, *size, generator=generator) for size in ((10, 60), (50, 12), (20, 20)))
    return [["a", wide, "cat", tall, "dog"], [[square, square.flip(1)], "clip"], ["none"]]


def test_images_of_different_shapes_in_one_batch():
    """Rows together give what each row gives alone, and a loss whose gradients are finite."""
    model = flamingo()
    processor = FlamingoProcessor(tokenizer=Letters(), preprocess=model.vision.preprocess, **IDS)
    together = processor(rows(), padding_side="right")
    assert together.pixels.isnan().any()
    logits = model(**together.model_inputs()).logits
    for index, row in enumerate(rows()):
        alone = model(**processor([row]).model_inputs()).logits[0]
        torch.testing.assert_close(logits[index, : len(alone)], alone, atol=1e-5, rtol=1e-5)
    model(**processor(rows(), for_training=True).model_inputs()).loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.trained_parameters().values())


def test_saving_and_loading(tmp_path):
    """The tower is built again from the saved folder, preprocessing included."""
    pytest.importorskip("safetensors")
    model = flamingo()
    model.save_pretrained(tmp_path, frozen="include")
    loaded = Flamingo.from_pretrained(tmp_path)
    assert loaded.vision.preprocess == model.vision.preprocess
    inputs = FlamingoProcessor(tokenizer=Letters(), preprocess=loaded.vision.preprocess, **IDS)(rows()).model_inputs()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_kept_features_give_the_same_logits(tmp_path):
    """A model fed with features from files, without its tower, computes what it computes from the images."""
    pytest.importorskip("safetensors")
    model = flamingo()
    media = [item for row in rows() for item in row if not isinstance(item, str)]
    save_features(tmp_path, [(f"item {k}", item) for k, item in enumerate(media)], tower=model.vision)
    store = FeatureStore(tmp_path, tower=model.vision)
    named = ["a<image>cat<image>dog", "<image>clip", "none"]
    by_key = FlamingoProcessor(tokenizer=Letters(), features=store, **IDS)
    batch = by_key(named, media=[["item 0", "item 1"], ["item 2"], []])
    by_pixels = FlamingoProcessor(tokenizer=Letters(), preprocess=model.vision.preprocess, **IDS)
    expected = model(**by_pixels(rows()).model_inputs()).logits
    model.vision = None
    found = model(**batch.model_inputs()).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
