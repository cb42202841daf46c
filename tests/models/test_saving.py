"""Saved folders: what they hold, and how a damaged or wrong one is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flamingo_blocks import Flamingo, PerceiverResampler
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models import build_tiny_flamingo
from tests.flamingos import VISION_DIM, make_flamingo
from tests.language_models import make_language_model

CONFIG, TRAINED, FROZEN = "flamingo_config.json", "model.safetensors", "frozen.safetensors"


@pytest.fixture
def flamingo() -> Flamingo:
    return build_tiny_flamingo()


@pytest.fixture(params=["reference", "include"])
def folder(request, flamingo, tmp_path) -> Path:
    flamingo.save_pretrained(tmp_path / "saved", frozen=request.param)
    return tmp_path / "saved"


def load(folder: Path, **parts) -> Flamingo:
    fresh = build_tiny_flamingo()
    return Flamingo.from_pretrained(folder, **{"lm": bare(fresh), "vision": fresh.vision, **parts})


def bare(flamingo: Flamingo) -> nn.Module:
    """The language model by itself."""
    flamingo.token_rows.detach()
    return flamingo.attachment.detach()


def change(folder: Path, **values) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


@pytest.mark.usefixtures("without_shape_checks")
def test_a_folder_holds_no_more_than_it_says(flamingo, tmp_path):
    """A reference keeps the trained parts only; saving it over a whole model takes the frozen weights away."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, FROZEN, TRAINED]
    assert {key.partition(".")[0] for key in load_file(tmp_path / FROZEN)} == {"lm", "vision"}
    flamingo.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, TRAINED]
    assert {key.partition(".")[0] for key in load_file(tmp_path / TRAINED)} == {"resampler", "blocks", "token_rows"}
    with pytest.raises(ValueError, match='frozen is \'all\', wanted "reference" or "include"'):
        flamingo.save_pretrained(tmp_path, frozen="all")


@pytest.mark.parametrize("missing", [CONFIG, TRAINED])
def test_a_missing_file_is_named(folder, missing):
    """Half a folder is no model."""
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=f"{missing} is missing"):
        load(folder)


def test_missing_frozen_weights_are_named(flamingo, tmp_path):
    """A folder that says that it includes them must hold them."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    (tmp_path / FROZEN).unlink()
    with pytest.raises(CheckpointError, match=f"{FROZEN} is missing"):
        load(tmp_path)


@pytest.mark.parametrize("damaged", [CONFIG, TRAINED])
@pytest.mark.parametrize("keep", [0, 1, 10, -1, -100])
def test_a_file_that_was_cut_off_is_named(folder, damaged, keep):
    """Whatever is left of it."""
    content = (folder / damaged).read_bytes()
    (folder / damaged).write_bytes(content[:keep])
    if damaged == CONFIG and keep == -1:
        load(folder)  # the last byte is a line break
        return
    with pytest.raises(CheckpointError, match=f"{damaged} is damaged"):
        load(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[]", b"null", b"3", b'{"format_version": 1}'])
def test_a_config_of_another_make_is_damaged(folder, content):
    """Bytes that are no text, text that is no mapping, a mapping without the keys."""
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{CONFIG} is damaged"):
        load(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(folder, version):
    """With both versions, and the library that wrote it."""
    change(folder, format_version=version)
    message = f"has format version {version!r}, this library reads 1; it was written by flamingo_blocks 0"
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_reference_needs_its_frozen_parts(flamingo, tmp_path):
    """The error names the class and the argument."""
    flamingo.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match="the weights of .*:PaperLanguageModel were not saved .*; load them and pass lm="
    ):
        Flamingo.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="the weights of .*:CallableTower were not saved .* pass vision="):
        Flamingo.from_pretrained(tmp_path, lm=bare(flamingo))


def test_a_tower_that_cannot_be_built_is_asked_for(flamingo, tmp_path):
    """A tower around any callable is more than plain values; given one, its weights come from the folder."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    with pytest.raises(
        CheckpointError, match="CallableTower cannot be built .*; build it yourself and pass it as vision="
    ):
        Flamingo.from_pretrained(tmp_path)
    loaded = Flamingo.from_pretrained(tmp_path, vision=build_tiny_flamingo(seed=1).vision)
    assert torch.equal(loaded.vision.encoder.weight, flamingo.vision.encoder.weight)


@pytest.mark.parametrize("part", ["lm", "vision"])
def test_other_frozen_weights_are_refused(flamingo, tmp_path, part):
    """One changed number of one weight is another model; the error has both hashes."""
    flamingo.save_pretrained(tmp_path)
    fresh = build_tiny_flamingo()
    parts = {"lm": bare(fresh), "vision": fresh.vision}
    weight = next(parts[part].parameters())
    with torch.no_grad():
        weight.view(-1)[-1] += 1e-6
    message = (
        rf"{part} is not the one this model was trained with: sha256 .* is [0-9a-f]{{16}}\.\.\., saved was [0-9a-f]"
    )
    with pytest.raises(CheckpointError, match=message):
        Flamingo.from_pretrained(tmp_path, **parts)


def test_another_dtype_is_another_model(flamingo, tmp_path):
    """The hash holds names, dtypes and shapes besides bytes."""
    flamingo.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="lm is not the one"):
        load(tmp_path, lm=bare(build_tiny_flamingo()).bfloat16())


def test_frozen_weights_of_another_shape_are_refused(flamingo, tmp_path):
    """Where they are included, name and both shapes are told."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    with pytest.raises(CheckpointError, match=r"token_rows|lm\..* has shape \(32, 32\) in the file, \(40, 32\)"):
        load(tmp_path, lm=bare(build_tiny_flamingo(vocab_size=40)))


def rewrite(path: Path, edit) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_tensors_that_lack_or_abound_are_refused(folder):
    """Strictly, both ways, with their names."""
    rewrite(folder / TRAINED, lambda tensors: tensors.pop("blocks.1.attention_gate.gate"))
    with pytest.raises(CheckpointError, match=r"missing \['blocks.1.attention_gate.gate'\], unknown \[\]"):
        load(folder)
    rewrite(folder / TRAINED, lambda tensors: tensors.update({"blocks.1.attention_gate.gate": torch.zeros(1)}))
    rewrite(folder / TRAINED, lambda tensors: tensors.update({"blocks.9.gate": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"missing \[\], unknown \['blocks.9.gate'\]"):
        load(folder)


def test_tensors_of_another_shape_are_refused(folder):
    """The name and both shapes are told."""
    rewrite(folder / TRAINED, lambda tensors: tensors.update({"resampler.latents": torch.zeros(5, 16)}))
    with pytest.raises(
        CheckpointError, match=r"resampler.latents has shape \(5, 16\) in the file, \(4, 16\) in the model"
    ):
        load(folder)


class Projector(nn.Module):
    """Somebody's own resampler, which does not say how it was built."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(VISION_DIM, VISION_DIM)
        self.vision_dim = VISION_DIM

    def forward(self, vision):
        return self.linear(vision).flatten(1, 2)


def test_trained_parts_of_ones_own_are_passed_in(tmp_path):
    """A resampler that cannot be built from plain values is built by the caller, and its weights are loaded."""
    flamingo = make_flamingo("plain", resampler=Projector()).float()
    flamingo.save_pretrained(tmp_path)
    frozen = {"lm": make_language_model("plain"), "vision": make_flamingo("plain").vision.float()}
    with pytest.raises(
        CheckpointError, match="Projector cannot be built .*; build it yourself and pass it as resampler="
    ):
        Flamingo.from_pretrained(tmp_path, **frozen)
    loaded = Flamingo.from_pretrained(tmp_path, **frozen, resampler=Projector())
    ids, pixels = torch.tensor([[50, 3]]), torch.randn(1, 1, 3, 8, 8)
    assert torch.equal(loaded(ids, pixels=pixels).logits, flamingo.eval()(ids, pixels=pixels).logits)


def test_a_save_that_fails_leaves_the_last_one_whole(flamingo, tmp_path, monkeypatch):
    """Files are written beside their names first, and nothing half-written is left."""
    flamingo.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(tensors, path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with torch.no_grad():
        flamingo.resampler.latents.add_(1)
    with pytest.raises(OSError, match="disk full"):
        flamingo.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_trains_is_remembered(flamingo, tmp_path):
    """A resampler that was frozen for a while comes back frozen, a language model that trained comes back training."""
    flamingo.resampler.requires_grad_(False)
    flamingo.lm.norm.requires_grad_(True)
    flamingo.save_pretrained(tmp_path, frozen="include")
    loaded = Flamingo.from_pretrained(tmp_path, vision=flamingo.vision)
    assert list(loaded.trained_parameters()) == list(flamingo.trained_parameters())
    assert loaded.train().lm.training  # some of it trains


def test_a_model_without_tower_or_resampler_is_saved_without(tmp_path):
    """Parts that are not there are not asked for."""
    flamingo = make_flamingo(
        "plain", vision=None, resampler=None, num_new_tokens=0, media_token_id=49, end_token_id=None
    )
    flamingo = flamingo.float()
    flamingo.save_pretrained(tmp_path)
    loaded = Flamingo.from_pretrained(tmp_path, lm=make_language_model("plain"))
    assert loaded.vision is None and loaded.resampler is None and loaded.token_rows is None
    given = dict(media=torch.randn(1, 3, VISION_DIM))
    ids = torch.tensor([[49, 3]])
    assert torch.equal(loaded(ids, **given).logits, flamingo(ids, **given).logits)
    linear = make_flamingo("plain", resampler=nn.Linear(VISION_DIM, VISION_DIM, bias=False)).float()
    linear.save_pretrained(tmp_path)
    again = Flamingo.from_pretrained(tmp_path, lm=make_language_model("plain"), vision=linear.vision)
    assert isinstance(again.resampler, nn.Linear) and again.resampler.bias is None
    assert not isinstance(again.resampler, PerceiverResampler)


@pytest.mark.parametrize("part", ["lm", "vision"])
def test_parts_that_did_not_fit_are_given_back(flamingo, tmp_path, part):
    """After a refusal the parts are as they came, weights, flags and modes, and serve another folder."""
    flamingo.save_pretrained(tmp_path / "right", frozen="include")
    flamingo.save_pretrained(tmp_path / "wrong", frozen="include")
    name = {"lm": "lm.norm.weight", "vision": "vision.encoder.bias"}[part]
    rewrite(tmp_path / "wrong" / FROZEN, lambda tensors: tensors.update({name: torch.zeros(7)}))
    other = build_tiny_flamingo(seed=1)
    parts = {"lm": bare(other).requires_grad_(True).train(), "vision": other.vision}
    before = {name: [value.clone() for value in module.state_dict().values()] for name, module in parts.items()}
    with pytest.raises(CheckpointError, match=rf"{name} has shape \(7,\) in the file"):
        Flamingo.from_pretrained(tmp_path / "wrong", **parts)
    after = {name: list(module.state_dict().values()) for name, module in parts.items()}
    assert all(torch.equal(x, y) for name in parts for x, y in zip(before[name], after[name], strict=True))
    assert parts["lm"].training and all(weight.requires_grad for weight in parts["lm"].parameters())
    loaded = Flamingo.from_pretrained(tmp_path / "right", **parts)
    assert torch.equal(loaded.lm.norm.weight, flamingo.lm.norm.weight)


def test_names_of_embedding_and_head_are_kept(tmp_path):
    """What had to be named once need not be named again."""
    lm = make_language_model("plain", max_text=50)
    make_flamingo("plain", lm=lm, embedding="embedding", head="head").float().save_pretrained(tmp_path)
    parts = {"lm": make_language_model("plain", max_text=50), "vision": make_flamingo("plain").vision.float()}
    assert Flamingo.from_pretrained(tmp_path, **parts).embedding == "embedding"


def test_files_are_for_all_whom_the_folder_is_for(tmp_path):
    """They have the mode of any new file, the weights too."""
    plain = tmp_path / "plain"
    plain.touch()
    build_tiny_flamingo().save_pretrained(tmp_path / "model", frozen="include")
    modes = {path.name: path.stat().st_mode for path in (tmp_path / "model").iterdir()}
    assert len(modes) == 3
    assert set(modes.values()) == {plain.stat().st_mode}
