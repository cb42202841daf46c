"""A checkpoint of any family comes back as it went: tensors, logits, files."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import (
    detect_family,
    export_foreign,
    load_foreign,
    open_checkpoint,
    write_checkpoint,
)
from tests.interop.foreign_models import FAMILIES, SIDE, ForeignCase, foreign_cases, write_shards
from tests.strategies import heavy

CASE = ForeignCase("open_flamingo", depth=3, every=1, latents=2, resampler_depth=1, frames=0, new_rows=True, seed=1)
LAYOUT = {"open_flamingo": {"layout": "live"}, "otter": {"layout": "live"}}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """The same names in the same order, dtypes, shapes and values."""
    return list(first) == list(second) and all(
        tensor.dtype == second[name].dtype and torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def wrapped(checkpoint: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in checkpoint.items()}


@heavy()
@given(foreign_cases(), st.sampled_from(["", "module.", "_orig_mod.module."]), st.booleans())
def test_ours_out_and_in_again(case, prefix, half):
    """A model exported and loaded around a language model of other weights computes the same, and exports the same."""
    flamingo = case.build()
    checkpoint = wrapped(export_foreign(flamingo, family=case.family, **LAYOUT.get(case.family, {})), prefix)
    dtype = torch.bfloat16 if half else torch.float32
    checkpoint = {name: tensor.to(dtype) for name, tensor in checkpoint.items()}
    assert detect_family(open_checkpoint(checkpoint).shapes).name == case.family
    lm = case.language_model(seed=case.seed + 7)
    ours = load_foreign(checkpoint, lm=lm, vision=case.tower(), **case.options)
    assert equal(export_foreign(ours, family=case.family, like=checkpoint, **_loading(case)), checkpoint)
    trained = [*ours.blocks.parameters(), *ours.resampler.parameters()]
    assert {weight.dtype for weight in trained} == {dtype}
    assert {weight.dtype for weight in ours.lm.parameters()} == {torch.float32}
    if not half:
        ids = torch.tensor([[2, flamingo.media_token_id, 5, flamingo.media_token_id, 7]])
        frames = max(case.frames, 1)
        pixels = torch.randn(2, frames, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(case.seed))
        with torch.no_grad():
            assert torch.equal(ours(ids, pixels=pixels).logits, flamingo(ids, pixels=pixels).logits)


def _loading(case: ForeignCase) -> dict[str, object]:
    return {name: value for name, value in case.options.items() if name == "clips"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["checkpoint.safetensors", "checkpoint.pt", "pytorch_model.bin"])
def test_files_come_back_byte_for_byte(tmp_path, family, name):
    """A file that holds the tensors and nothing else is, converted there and back, the same file."""
    case = replace(CASE, family=family, frames=int(family == "flamingo_mini"), new_rows=family != "flamingo_pytorch")
    checkpoint = export_foreign(case.build(), family=family, **LAYOUT.get(family, {}))
    (tmp_path / "back").mkdir()
    write_checkpoint(checkpoint, tmp_path / name)
    opened = open_checkpoint(tmp_path / name)
    ours = load_foreign(opened, lm=case.language_model(3), vision=case.tower(), **case.options)
    write_checkpoint(export_foreign(ours, family=family, like=opened), tmp_path / "back" / name, like=opened)
    assert (tmp_path / "back" / name).read_bytes() == (tmp_path / name).read_bytes()


def test_a_state_dict_of_torch_comes_back_byte_for_byte(tmp_path):
    """Its kind of mapping, the versions of its modules, and the key it was nested under are kept."""
    case = replace(CASE, new_rows=False)
    flamingo = case.build()
    state = flamingo.blocks["0"].state_dict()
    state.clear()
    state.update(export_foreign(flamingo, family="open_flamingo"))
    (tmp_path / "back").mkdir()
    torch.save({"model_state_dict": state}, tmp_path / "checkpoint.pt")
    opened = open_checkpoint(tmp_path / "checkpoint.pt")
    ours = load_foreign(opened, lm=case.language_model(3), **case.options)
    back = tmp_path / "back" / "checkpoint.pt"
    write_checkpoint(export_foreign(ours, family="open_flamingo", like=opened), back, like=opened)
    assert back.read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()


def test_shards_come_back_as_shards(tmp_path):
    """A folder of shards with an index gives the same folder, file by file."""
    case = CASE
    checkpoint = export_foreign(case.build(), family="open_flamingo")
    folder = tmp_path / "sharded"
    write_shards(checkpoint, folder)
    opened = open_checkpoint(folder)
    ours = load_foreign(opened, lm=case.language_model(3), vision=case.tower())
    write_checkpoint(export_foreign(ours, family="open_flamingo", like=opened), tmp_path / "back", like=opened)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 4
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == files


def rebuilt(family: str = "open_flamingo", *, block: dict | None = None, resampler: dict | None = None, **changes):
    """A model of the family with other options or parts, and a checkpoint of the one without them."""
    case = ForeignCase(family, 2, 1, 2, 1, frames=0, new_rows=False, seed=2)
    flamingo = case.build()
    checkpoint = export_foreign(flamingo, family=family)
    parts = {int(layer): GatedCrossAttentionBlock(**part.config | (block or {}))
             for layer, part in flamingo.blocks.items()}  # fmt: skip
    own = PerceiverResampler(**flamingo.resampler.config | (resampler or {}))
    model = Flamingo(lm=flamingo.detach(), blocks=parts, resampler=own, **{"media_token_id": 3} | changes)
    return model, {name: tensor for name, tensor in checkpoint.items() if not name.startswith("vision")}


NO_PLACE = {
    "frame embeddings": ({"resampler": {"max_frames": 2}}, r"1 trained tensors .*: resampler\.frame_embeddings;"),
    "rows of new tokens": ({"num_new_tokens": 2}, r"2 trained tensors .*: token_rows\.input, token_rows\.output"),
    "the norm of media": ({"block": {"media_norm": True}}, r"4 trained tensors .*: blocks\.0\.attention\.media_norm"),
    "more images": ({"scope": "all"}, "this model has scope='all', and .* read with scope='last'; pass the options"),
    "the end of documents": ({"document_end_id": 4}, "document_end_id=4, and .* read with document_end_id=None"),
    "another activation": ({"block": {"activation": "relu"}}, "blocks.0 has activation='relu', and .*'gelu'"),
    "other heads": ({"resampler": {"num_heads": 1, "head_dim": 128}}, "resampler has num_heads=1, .* num_heads=2"),
}


@pytest.mark.parametrize("name", NO_PLACE)
def test_nothing_trained_is_dropped_for_a_checkpoint_to_be_like(name):
    """Written like a checkpoint without a place for it, or that would be read as another model: said, not dropped."""
    change, message = NO_PLACE[name]
    flamingo, checkpoint = rebuilt(**change)
    with pytest.raises(CheckpointError, match=message):
        export_foreign(flamingo, family="open_flamingo", like=checkpoint)
    flamingo, checkpoint = rebuilt()
    assert list(export_foreign(flamingo, family="open_flamingo", like=checkpoint)) == list(checkpoint)


def test_rows_of_new_tokens_want_a_table():
    """A checkpoint without the table has no place for trained rows, also when they were asked for on loading."""
    checkpoint = export_foreign(CASE.build(), family="open_flamingo")
    rest = {name: tensor for name, tensor in checkpoint.items() if "embedding" not in name}
    flamingo = load_foreign(rest, lm=CASE.language_model(3), vision=CASE.tower(), num_new_tokens=2)
    with pytest.raises(CheckpointError, match=r"no place for 1 trained tensors of this model: token_rows\.input"):
        export_foreign(flamingo, family="open_flamingo", like=rest, num_new_tokens=2)


@pytest.mark.parametrize("like", [False, True])
def test_what_is_not_in_memory_is_not_exported(like):
    """A weight on the meta device has no values to write."""
    flamingo, checkpoint = rebuilt()
    flamingo.blocks["1"].to("meta")
    with pytest.raises(CheckpointError, match=r"1\.gated\S+ is made of blocks\.1\.\S+, which is not in memory"):
        export_foreign(flamingo, family="open_flamingo", like=checkpoint if like else None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_blocks_are_where_their_layers_are():
    """Around a language model on a GPU the model is there at once, and gives the logits of the CPU."""
    checkpoint = export_foreign(CASE.build(), family="open_flamingo")
    ids = torch.tensor([[2, 51, 5, 7]])
    pixels = torch.randn(1, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    logits = []
    for device in ("cpu", "cuda"):
        ours = load_foreign(checkpoint, lm=CASE.language_model().to(device), vision=CASE.tower().to(device))
        assert {weight.device.type for weight in ours.parameters()} == {device}
        with torch.no_grad():
            logits.append(ours(ids.to(device), pixels=pixels.to(device)).logits.cpu())
    torch.testing.assert_close(logits[1], logits[0], atol=1e-3, rtol=1e-3)
    assert all(
        torch.equal(tensor.cpu(), checkpoint[name])
        for name, tensor in export_foreign(ours, family="open_flamingo").items()
    )
