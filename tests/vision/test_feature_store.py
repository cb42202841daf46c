"""Features computed once: kept in files, given back as they were, refused beside another tower."""

import json
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.data import FlamingoExample, ImageSegment, collate
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
from flamingo_blocks.vision import (
    CallableTower,
    FeatureStore,
    ImagePreprocess,
    NaFlexTower,
    TransformersTower,
    encode_frames,
    save_features,
)
from flamingo_blocks.vision.feature_store import _shards

transformers = pytest.importorskip("transformers")
pytest.importorskip("safetensors")

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def clip(*, seed=0, act="quick_gelu", **options):
    """A small CLIP with weights large enough that its blocks matter."""
    torch.manual_seed(seed)
    config = transformers.CLIPVisionConfig(**SIZES, image_size=32, patch_size=8, hidden_act=act)
    model = transformers.CLIPVisionModel(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return TransformersTower(model, **options)


def picture(seed, height=40, width=60):
    return torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_features_are_those_of_the_tower(tmp_path):
    """Images and clips come back under their keys as the tower encodes them, from several files, in any order."""
    tower = clip()
    items = [("cat", picture(0)), ("clip", [picture(1), picture(2), picture(3)]), ("dog", picture(4))]
    store = save_features(tmp_path, iter(items), tower=tower, frames_per_call=2, shard_bytes=3000)
    assert list(store) == ["cat", "clip", "dog"]
    assert len(list(tmp_path.glob("features-*.safetensors"))) == 2
    assert (store.dim, store.grid) == (16, (4, 4))
    for key, item in reversed(items):
        frames = torch.stack([tower.preprocess(frame) for frame in (item if isinstance(item, list) else [item])])
        features, _ = encode_frames(tower, frames[None])
        torch.testing.assert_close(store[key], features[0])
    with pytest.raises(KeyError):
        store["bird"]


@given(
    frames=st.lists(st.integers(1, 5), min_size=1, max_size=20),
    shard_bytes=st.integers(1, 400),
)
def test_a_file_is_full_with_the_item_that_reaches_its_size(frames, shard_bytes):
    """Items keep their order; every file but the last reaches the size, and none did without its last item."""
    features = {str(place): torch.zeros(number, 1, 8) for place, number in enumerate(frames)}
    shards = list(_shards(features.items(), None, shard_bytes))
    assert [key for shard in shards for key in shard] == list(features)
    for shard in shards:
        sizes = [tensor.nbytes for tensor in shard.values()]
        assert sum(sizes[:-1]) < shard_bytes
        assert sum(sizes) >= shard_bytes or shard is shards[-1]


def test_each_item_is_counted_once(monkeypatch):
    """Saving is linear in the number of items, however many share a file."""
    counted = []
    nbytes = torch.Tensor.nbytes
    monkeypatch.setattr(
        torch.Tensor, "nbytes", property(lambda tensor: counted.append(tensor) or nbytes.__get__(tensor))
    )
    features = [(str(place), torch.zeros(1, 1, 8)) for place in range(50)]
    (shard,) = _shards(features, None, 2**30)
    assert len(shard) == len(counted) == 50


def test_a_store_travels_to_the_workers_of_a_loader(tmp_path):
    """It can be pickled after it was read from."""
    store = save_features(tmp_path, [("cat", picture(0))], tower=clip())
    features = store["cat"]
    assert torch.equal(pickle.loads(pickle.dumps(store))["cat"], features)  # noqa: S301 - our own bytes


def test_features_in_half_precision(tmp_path):
    """They may be stored in another dtype."""
    tower = clip()
    store = save_features(tmp_path, [("cat", picture(0))], tower=tower, dtype=torch.bfloat16)
    assert store["cat"].dtype == torch.bfloat16
    FeatureStore(tmp_path, tower=tower)


OTHERS = {
    "weights": {"seed": 1},
    "layer": {"layer": -2},
    "norm": {"final_norm": True},
    "activation": {"act": "gelu"},
    "fit": {"fit": "pad"},
    "mean": {"preprocess": ImagePreprocess((32, 32), (0.4, 0.5, 0.5), (0.3, 0.3, 0.3), "crop")},
}


@pytest.mark.parametrize("difference", OTHERS)
def test_another_tower_is_refused(tmp_path, difference):
    """A tower that differs in anything that changes features is refused; the message says what the features are of."""
    save_features(tmp_path, [("cat", picture(0))], tower=clip())
    with pytest.raises(CheckpointError, match="computes other features than .* apart .* TransformersTower with Image"):
        FeatureStore(tmp_path, tower=clip(**OTHERS[difference]))


def test_the_same_tower_is_taken(tmp_path):
    """The same weights are the same tower, in bfloat16 and behind another adapter too."""
    save_features(tmp_path, [("cat", picture(0))], tower=clip())
    FeatureStore(tmp_path, tower=clip())
    halved = clip()
    halved.bfloat16()
    FeatureStore(tmp_path, tower=halved)
    same = clip()
    wrapped = CallableTower(
        same.model, image_size=32, output="last_hidden_state", num_prefix=1, preprocess=same.preprocess
    )
    FeatureStore(tmp_path).check(wrapped)


def test_a_tower_of_other_shapes_is_refused(tmp_path):
    """Another grid or width is said with both shapes."""
    save_features(tmp_path, [("cat", picture(0))], tower=clip())
    with pytest.raises(CheckpointError, match=r"features of shape \[36, 16\] of the test picture, .* have \[16, 16\]"):
        FeatureStore(tmp_path, tower=clip(image_size=48))


def test_features_go_through_processor_and_model(tmp_path):
    """Rows that name images by key give the logits that the images themselves give."""
    flamingo = build_tiny_flamingo()
    tower = flamingo.vision
    pictures = {"red": torch.rand(3, 8, 8), "blue": torch.rand(3, 8, 8)}
    store = save_features(tmp_path, pictures.items(), tower=tower)

    class Letters:
        def encode(self, text):
            return [ord(letter) % 16 + 3 for letter in text]

        def decode(self, ids):
            return "?" * len(ids)

    ids = {"media_token_id": flamingo.media_token_id, "end_token_id": 2, "pad_token_id": 0}
    by_pixels = FlamingoProcessor(tokenizer=Letters(), preprocess=tower.preprocess, **ids)
    by_key = FlamingoProcessor(tokenizer=Letters(), features=store, **ids)
    expected = flamingo(**by_pixels([["a", pictures["red"], "b"], [pictures["blue"], "cd"]]).model_inputs()).logits
    batch = by_key([["a", ImageSegment(url="red"), "b"], [ImageSegment(url="blue"), "cd"]])
    assert batch.pixels is None
    torch.testing.assert_close(flamingo(**batch.model_inputs()).logits, expected)
    tagged = by_key(["a<image>b", "<image>cd"], media=[["red"], ["blue"]])
    assert torch.equal(tagged.features, batch.features)
    with pytest.raises(ValueError, match="row 0: the item 'green' is not among the features"):
        by_key(["<image>"], media=[["green"]])
    with pytest.raises(ValueError, match="row 0: the item 'Tensor' is not among the features"):
        by_key([[pictures["red"]]])


def test_features_of_variable_resolution(tmp_path):
    """Patches that do not exist are not stored; a batch of them has a mask."""
    torch.manual_seed(0)
    config = transformers.Siglip2VisionConfig(patch_size=4, num_patches=16, **SIZES)
    tower = NaFlexTower(transformers.Siglip2VisionModel(config))
    store = save_features(tmp_path, [("wide", picture(0, 10, 70)), ("tall", picture(1, 70, 20))], tower=tower)
    sizes = [tower.preprocess.size_of(10, 70), tower.preprocess.size_of(70, 20)]
    patches = [height * width // 16 for height, width in sizes]
    assert [store[key].shape[1] for key in ("wide", "tall")] == patches
    examples = [FlamingoExample([9], tags=[0], features=[store[key]]) for key in ("wide", "tall")]
    batch = collate(examples, pad_id=0)
    assert batch.patch_valid.sum(2).flatten().tolist() == patches
    assert FeatureStore(tmp_path, tower=tower).dim == 16


@pytest.mark.parametrize(
    ("items", "dtype", "message"),
    [
        ([("cat", picture(0)), ("cat", picture(1))], None, "the key 'cat' comes twice"),
        ([("cat", picture(0)), ("clip", [])], None, "the clip 'clip' has frames of 0 sizes"),
        ([("cat", torch.full((3, 4, 4), 0.5))], torch.float16, "the features of 'cat' are not finite in torch.float16"),
    ],
)
def test_items_that_cannot_be_kept_are_refused(tmp_path, items, dtype, message):
    """The error names the key, nothing of the failed save stays, and what was saved before is as it was."""
    before = save_features(tmp_path, [("cat", picture(0))], tower=clip())
    files = sorted(tmp_path.iterdir())
    loud = CallableTower(nn.Conv2d(3, 4, 4, stride=4), image_size=8)
    loud.encoder.weight.data.fill_(1e6)
    with pytest.raises(ValueError, match=message):
        save_features(tmp_path, items, tower=loud, dtype=dtype, shard_bytes=1)
    assert sorted(tmp_path.iterdir()) == files
    assert torch.equal(FeatureStore(tmp_path, tower=clip())["cat"], before["cat"])
    with pytest.raises(ValueError, match=message):
        save_features(tmp_path / "new", items, tower=loud, dtype=dtype, shard_bytes=1)
    with pytest.raises(CheckpointError, match="features.json is missing"):
        FeatureStore(tmp_path / "new")


def test_features_are_replaced_beside_their_readers(tmp_path):
    """A second save leaves no file of the first, and what a reader holds of the first stays what it was."""
    items = [(f"image {number}", picture(number)) for number in range(3)]
    reader = save_features(tmp_path, items, tower=clip(), shard_bytes=1)
    held = reader["image 0"]
    expected = held.clone()
    other = save_features(tmp_path, items[:1], tower=clip(seed=1))
    assert torch.equal(held, expected) and torch.equal(reader["image 0"], expected)
    assert not torch.allclose(other["image 0"], expected)
    assert len(list(tmp_path.iterdir())) == 3  # index, fingerprint, one shard
    with pytest.raises(CheckpointError, match="missing or damaged: .* open the store again"):
        reader["image 2"]
    FeatureStore(tmp_path, tower=clip(seed=1))


def test_damaged_folders_are_refused(tmp_path):
    """A missing file, an index that is none, another format: each says which."""
    save_features(tmp_path, [("cat", picture(0))], tower=clip())
    store, index = FeatureStore(tmp_path), tmp_path / "features.json"
    (shard,), (fingerprint,) = tmp_path.glob("features-*.safetensors"), tmp_path.glob("tower-*.safetensors")
    shard.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=rf"{shard.name} is missing or damaged"):
        store["cat"]
    fingerprint.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=rf"{fingerprint.name} is missing or damaged"):
        FeatureStore(tmp_path, tower=clip())
    fingerprint.unlink()
    with pytest.raises(CheckpointError, match=rf"{fingerprint.name} is missing or damaged"):
        FeatureStore(tmp_path, tower=clip())
    whole = json.loads(index.read_text())
    for changed in ({"tower": 3}, {"shards": []}, {"tower": {"dim": 16, "grid": [4]}}):
        index.write_text(json.dumps(whole | changed))
        with pytest.raises(CheckpointError, match="features.json is damaged"):
            FeatureStore(tmp_path)
    for key in ("tower", "shards", "fingerprint"):
        index.write_text(json.dumps({name: value for name, value in whole.items() if name != key}))
        with pytest.raises(CheckpointError, match=f"features.json is damaged: KeyError.'{key}'.*save the features"):
            FeatureStore(tmp_path)
    index.write_text(json.dumps(whole | {"format_version": 7}))
    with pytest.raises(CheckpointError, match="format version 7, this library reads 1"):
        FeatureStore(tmp_path)
    index.write_text("{")
    with pytest.raises(CheckpointError, match="features.json is damaged"):
        FeatureStore(tmp_path)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("items", "came"),
    [
        ({"cat": picture(0)}, "the string 'cat' at place 0"),
        ([("cat", picture(0)), picture(1)], "a Tensor at place 1"),
        ([(picture(0), "cat")], "a tuple of Tensor, str at place 0"),
        ([("cat", picture(0), 3)], "a tuple of str, Tensor, int at place 0"),
    ],
)
def test_items_are_pairs_of_key_and_image(tmp_path, items, came):
    """The error says what came instead, and where."""
    with pytest.raises(
        TypeError, match=rf"items gives {came}, wanted pairs of key and image: \[\('cat', image\), .*dict"
    ):
        save_features(tmp_path, items, tower=CallableTower(nn.Conv2d(3, 4, 4, stride=4), image_size=8))
    assert not list(tmp_path.iterdir())
