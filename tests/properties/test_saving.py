"""Law 17: what was saved is what is loaded, bit for bit."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks import Flamingo
from flamingo_blocks.lm import attach_token_rows
from tests.flamingos import Batch, make_batch, make_flamingo, text_rows
from tests.language_models import NAMES, OF_TRANSFORMERS, make_language_model
from tests.strategies import heavy, seeds

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "saved"


def trained_and_frozen(name: str, dtype: torch.dtype, **options) -> Flamingo:
    """Trained parts in float32, the language model and the tower in a dtype of their own."""
    flamingo = make_flamingo(name, **options).float()
    flamingo.lm.to(dtype)
    return flamingo


def logits_of(flamingo: Flamingo, batch: Batch) -> torch.Tensor:
    return flamingo(**batch.arguments() | {"pixels": batch.arguments()["pixels"].float()}).logits


def unpadded(rows, seed: int) -> Batch:
    batch = make_batch(rows, seed)
    return Batch(batch.input_ids, torch.ones_like(batch.real), batch.document, batch.clips, batch.num_frames)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", (*NAMES, "paper"))
@heavy(10)
@given(text_rows(), seeds, st.sampled_from(["last", "all"]))
def test_a_reference_and_its_frozen_parts_give_the_same_logits(name, dtype, rows, seed, scope):
    """The trained parts from the folder beside the very frozen parts from elsewhere are the model that was saved."""
    flamingo = trained_and_frozen(name, DTYPES[dtype], scope=scope)
    batch = unpadded(rows, seed)
    lm = make_language_model(name).to(DTYPES[dtype])
    with folder() as directory:
        flamingo.save_pretrained(directory)
        loaded = Flamingo.from_pretrained(directory, lm=lm, vision=make_flamingo(name).vision.float())
    assert loaded.lm is lm
    assert torch.equal(logits_of(loaded, batch), logits_of(flamingo, batch))
    same_model(loaded, flamingo)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", (*OF_TRANSFORMERS, "paper"))
@heavy(10)
@given(text_rows(), seeds, st.booleans())
def test_a_folder_that_holds_everything_gives_the_same_logits(name, dtype, attention, rows, seed, trained):
    """Language models of transformers and of ours are built from the folder alone, as they were, in their own dtype."""
    flamingo = trained_and_frozen(name, DTYPES[dtype])
    if name != "paper":
        flamingo.lm.set_attn_implementation(attention)
        flamingo.lm.generation_config.eos_token_id = [7, 8]
    if trained:
        flamingo.lm.requires_grad_(True)  # trained in full: no longer a frozen part
    batch = unpadded(rows, seed)
    with folder() as directory:
        flamingo.save_pretrained(directory, frozen="include")
        loaded = Flamingo.from_pretrained(directory, vision=make_flamingo(name).vision.float())
    assert torch.equal(logits_of(loaded, batch), logits_of(flamingo, batch))
    same_model(loaded, flamingo)
    if name != "paper":
        assert loaded.lm.generation_config.eos_token_id == [7, 8]


def same_model(loaded: Flamingo, saved: Flamingo) -> None:
    """Names, values, dtypes and what trains are the same; a model comes back in eval mode."""
    assert not any(module.training for module in loaded.modules())
    one, two = loaded.state_dict(), saved.state_dict()
    assert list(one) == list(two)
    assert all(torch.equal(one[key], two[key]) and one[key].dtype == two[key].dtype for key in two)
    assert list(loaded.trained_parameters()) == list(saved.trained_parameters())
    for name in ("media_token_id", "end_token_id", "scope", "num_new_tokens", "layers"):
        assert getattr(loaded, name) == getattr(saved, name)
    loaded.token_rows.detach()
    assert attach_token_rows(loaded.lm, 1).token_ids == [50]
