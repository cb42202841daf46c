"""Features computed once: the same loss and gradients bit for bit, whatever is kept where."""

import copy
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.data import FlamingoExample, collate
from flamingo_blocks.models import Flamingo, build_tiny_flamingo
from flamingo_blocks.nn import TanhGate
from flamingo_blocks.training import flamingo_loss
from flamingo_blocks.training.finetune import FeatureCache, train_only
from flamingo_blocks.vision import CallableTower, PatchTokens, VisionTower
from tests.data.build.killed_builds import Points, forked
from tests.processes import run_together

PICTURES = torch.randn(6, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0))  # clips of three frames
TAG = 32


def make_model() -> Flamingo:
    model = build_tiny_flamingo().train()
    for gate in (module for module in model.modules() if isinstance(module, TanhGate)):
        nn.init.constant_(gate.gate, 0.5)
    return model


def make_batch(clips, pictures=PICTURES, **options):
    """A row a clip, of a picture and a number of frames; a row without media at the end."""
    rows = [
        FlamingoExample([1, TAG, 5 + number, 6], tags=[1], pixels=[pictures[number, :frames]], labels=[1, TAG, 5, 6])
        for number, frames in clips
    ]
    return collate([*rows, FlamingoExample([1, 7], labels=[1, 7])], pad_id=0, **options)


def calls_of(tower):
    """How many frames the tower is given, call by call."""
    seen = []
    tower.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def step(model, batch):
    """Loss and gradients."""
    model.zero_grad()
    loss = flamingo_loss(model, batch)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.trained_parameters().values())]


def same(some, others):
    return len(some) == len(others) and all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


pools = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=4)
SHARED = make_model()


@settings(max_examples=40)
@given(batches=st.lists(pools, min_size=1, max_size=2), in_files=st.booleans())
def test_loss_and_gradients_are_those_without_it(batches, in_files, tmp_path_factory):
    """Bit for bit, for images and clips, in any order and however often; the tower sees each of them once."""
    model = copy.deepcopy(SHARED)
    cached = FeatureCache(model.vision, tmp_path_factory.mktemp("cache") if in_files else None)
    seen = calls_of(model.vision)
    expected = [step(model, make_batch(clips)) for clips in batches]
    seen.clear()
    for clips, wanted in zip(batches, expected, strict=True):
        assert same(step(model, cached(make_batch(clips))), wanted)
    items = [item for clips in batches for item in clips]
    assert sum(seen) == sum(frames for _, frames in set(items))
    assert (cached.hits, cached.misses) == (len(items) - len(set(items)), len(set(items)))
    assert cached.hit_rate == pytest.approx(cached.hits / max(1, len(items)))


class Ragged(nn.Module):
    """A tower that tells which patches exist: those that are not NaN throughout."""

    dim, grid = 16, (2, 2)
    preprocess = staticmethod(lambda image: torch.as_tensor(image)[:, :8, :8] / 255)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.requires_grad_(False).eval()

    def train(self, mode=True):
        return super().train(False)

    def forward(self, pixels):
        valid = ~pixels[:, 0, ::4, ::4].isnan().flatten(1)
        return PatchTokens(tokens=self.patches(pixels.nan_to_num()).flatten(2).mT, valid=valid)


def test_patches_that_do_not_exist_are_kept_as_such():
    """So that a tower of variable resolution is cached too, its clips of several lengths included."""
    model = make_model()
    model.vision = Ragged()
    pictures = PICTURES.clone()
    pictures[1, :, :, 4:] = float("nan")
    batch = make_batch([(0, 2), (1, 1), (2, 3)], pictures)
    cached = FeatureCache(model.vision)
    expected = step(model, batch)
    assert all(same(step(model, cached(batch)), expected) for _ in range(2))
    assert cached(batch).patch_valid[1].sum() == 2


def test_a_batch_without_pixels_is_left_as_it_is():
    """Features and texts have nothing to be computed."""
    cached = FeatureCache(make_model().vision)
    text = make_batch([])
    assert cached(text) is text
    features = cached(make_batch([(0, 1)]))
    assert features.pixels is None and cached(features) is features


def test_another_run_finds_what_was_kept(tmp_path):
    """In the folder, and with the same tower only."""
    batch = make_batch([(0, 1), (1, 2)])
    FeatureCache(make_model().vision, tmp_path)(batch)
    again = FeatureCache(make_model().vision, tmp_path)
    again(batch)
    assert (again.hits, again.misses) == (2, 0)
    other = make_model()
    other.vision.encoder.weight.data.mul_(1.0001)
    cached = FeatureCache(other.vision, tmp_path)
    assert same(step(other, cached(batch)), step(other, batch)) and cached.hits == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda tower: tower.encoder.bias.add_(1e-3),
        lambda tower: tower.double(),
        lambda tower: setattr(tower.encoder.weight, "data", tower.encoder.weight.data * 2),
    ],
)
def test_a_change_of_the_weights_is_seen(change, tmp_path):
    """In the middle of a run, in place or not, and so is another dtype."""
    model, batch = make_model(), make_batch([(0, 1), (1, 2)])
    cached = FeatureCache(model.vision, tmp_path)
    cached(batch)
    with torch.no_grad():
        change(model.vision)
    assert same(step(model, cached(batch)), step(model, batch))
    assert cached.misses == 4


def test_options_without_weights_are_seen(tmp_path):
    """A tower of the same weights that gives other features of them is another tower."""
    encoder = nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.Tanh())
    plain, squashed = (CallableTower(net, image_size=8) for net in (encoder[:1], encoder))
    assert list(plain.state_dict()) == list(squashed.state_dict())
    batch = make_batch([(0, 1)])
    FeatureCache(plain, tmp_path)(batch)
    cached = FeatureCache(squashed, tmp_path)
    assert cached(batch).features.abs().max() <= 1 and cached.hits == 0


def test_features_under_autocast_are_others():
    """They are kept beside those of float32, and each are what the tower gives there."""
    model, batch = make_model(), make_batch([(0, 1)])
    cached = FeatureCache(model.vision)
    cached(batch)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            assert cached(batch).features.dtype == torch.bfloat16
            assert torch.equal(flamingo_loss(model, cached(batch)), flamingo_loss(model, batch))
    assert cached(batch).features.dtype == torch.float32 and cached.misses == 2


def test_half_the_size_is_rounded_from_the_first_time_on():
    """Features that were just computed are those that will be read."""
    model, batch = make_model(), make_batch([(0, 1), (1, 2)])
    cached = FeatureCache(model.vision, dtype=torch.bfloat16)
    first = step(model, cached(batch))
    assert same(first, step(model, cached(batch)))
    exact = step(model, batch)
    assert not same(first, exact)
    torch.testing.assert_close(first[0], exact[0], rtol=1e-2, atol=1e-2)


def test_a_tower_that_trains_is_refused():
    """From the start, or from when it begins to; so is one whose features are drawn at random."""
    model, batch = make_model(), make_batch([(0, 1)])
    cached = FeatureCache(model.vision)
    train_only(model, "blocks", "tower")
    with pytest.raises(ValueError, match="tower trains, so its features change each step"):
        cached(batch)
    with pytest.raises(ValueError, match="tower trains"):
        FeatureCache(model.vision)
    drawn = CallableTower(nn.Sequential(nn.Conv2d(3, 16, 4, stride=4), nn.Dropout()), image_size=8)
    drawn.encoder.train()
    with pytest.raises(ValueError, match=r"training mode, .* call tower\.eval\(\)"):
        FeatureCache(drawn)


def test_augmentation_is_told():
    """More different pictures than the set has cannot be; the error says how many were seen before."""
    cached = FeatureCache(make_model().vision, num_items=3)
    for _ in range(2):
        cached(make_batch([(0, 1), (1, 1), (2, 1)]))
    with pytest.raises(ValueError, match=r"num_items is 3, .* 43% of all were seen before\. Augmentation"):
        cached(make_batch([(0, 1)], PICTURES + 1))


@pytest.mark.parametrize("in_files", [False, True])
def test_a_full_cache_computes_the_rest(in_files, tmp_path, caplog):
    """It keeps what it has, never more than its bound, and says so once."""
    model = make_model()
    item = 4 * 16 * 4  # patches, width, bytes
    bound = 2 * item + (2 * 200 if in_files else 0)  # header of a file
    cached = FeatureCache(model.vision, tmp_path if in_files else None, max_bytes=bound)
    for _ in range(2):
        for number in range(4):
            batch = make_batch([(number, 1)])
            assert same(step(model, cached(batch)), step(model, batch))
    assert (cached.hits, cached.misses) == (2, 6)
    (record,) = caplog.records
    assert f"max_bytes is {bound}; 0 % of all items were seen before" in record.getMessage()
    if in_files:
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= bound


def test_damaged_files_are_computed_again(tmp_path):
    """Cut anywhere, empty, or with one bit flipped: what is read is always right."""
    model, batch = make_model(), make_batch([(0, 1)])
    FeatureCache(model.vision, tmp_path)(batch)
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole, expected = path.read_bytes(), step(model, batch)
    damaged = [whole[:cut] for cut in (0, 7, 32, 50, len(whole) - 1)]
    for place in (0, 31, 40, 100, len(whole) - 1):
        data = bytearray(whole)
        data[place] ^= 1
        damaged.append(bytes(data))
    for data in damaged:
        path.write_bytes(data)
        cached = FeatureCache(model.vision, tmp_path)
        assert same(step(model, cached(batch)), expected) and cached.misses == 1
        assert path.read_bytes() == whole


def test_a_kill_in_the_middle_of_a_write_leaves_nothing_wrong(tmp_path):
    """At every point where files change; what is left is counted, and goes when it is an hour old."""
    model, batch = make_model(), make_batch([(0, 1), (1, 2)])
    expected = step(model, batch)

    def fill(folder, at, log=None):
        points = Points(lambda: os.kill(os.getpid(), signal.SIGKILL), at)
        points.watch_files()

        def write_bytes(self, data):
            """Half of it, and then the rest."""
            for mode, part in (("xb", data[: len(data) // 2]), ("ab", data[len(data) // 2 :])):
                with self.open(mode) as file:
                    file.write(part)
                points.reach("in the middle of writing")

        Path.write_bytes = write_bytes
        FeatureCache(model.vision, folder)(batch)
        if log is not None:
            log.write_text("\n".join(points.passed))

    assert forked(lambda: fill(tmp_path / "calm", -1, tmp_path / "log")) == 0
    passed = (tmp_path / "log").read_text().splitlines()
    assert len(passed) == 2 * len(["half", "whole", "before replace", "after replace"])
    for at in range(len(passed)):
        folder = tmp_path / str(at)
        assert forked(lambda at=at, folder=folder: fill(folder, at)) != 0
        cached = FeatureCache(model.vision, folder)
        assert same(step(model, cached(batch)), expected)
        for path in folder.rglob(".unfinished-*"):
            os.utime(path, (0, 0))
        FeatureCache(model.vision, folder)
        assert not list(folder.rglob(".unfinished-*"))
        assert sorted(path.name for path in folder.rglob("*")) == sorted(
            path.name for path in (tmp_path / "calm").rglob("*")
        )


def fill_together(folder):
    """All processes keep the same items at once, over and over; whether each read is right."""
    model = make_model()
    batches = [make_batch([(number, 1), (number, 2)]) for number in range(6)]
    cached, right = FeatureCache(model.vision, folder), True
    for batch in batches * 3:
        right = right and torch.equal(cached(batch).features, FeatureCache(model.vision)(batch).features)
    return right, cached.hits + cached.misses


def test_processes_share_a_folder(tmp_path):
    """Each reads whole features, whoever has written them, and one file an item is left."""
    found = run_together(fill_together, 2, tmp_path / "shared", folder=tmp_path)
    assert found == [(True, 36), (True, 36)]
    files = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert len(files) == 12 and not any(path.name.startswith(".") for path in files)


def test_a_folder_that_cannot_be_written_to_ends_no_run(tmp_path, caplog):
    """What is not kept is computed, and the log says why."""
    model, batch = make_model(), make_batch([(0, 1)])
    cached = FeatureCache(model.vision, tmp_path)
    (folder,) = tmp_path.iterdir()
    folder.rmdir()
    assert same(step(model, cached(batch)), step(model, batch))
    assert "No such file or directory" in caplog.text


def test_towers_of_any_kind():
    """One that is no module has no weights to look at."""

    class Mean:
        dim, grid = 3, (1, 1)
        preprocess = staticmethod(lambda image: torch.as_tensor(image).float())

        def forward(self, pixels):
            return PatchTokens(tokens=pixels.mean((2, 3))[:, None])

        __call__ = forward

    assert isinstance(Mean(), VisionTower)
    cached = FeatureCache(Mean())
    assert cached(make_batch([(0, 2)])).features.shape == (1, 2, 1, 3)
