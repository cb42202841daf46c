"""The page that compares implementations: each cell says how it is known, and what packages here can show is run."""

import importlib.metadata
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, PerceiverResampler, attach
from flamingo_blocks.models import build_tiny_flamingo
from tests.interop.open_flamingo_peer import SIDE, TAG, VISION_DIM, build_peer, load_source, plain_language_model
from tests.language_families import FAMILIES
from tests.language_models import DIM
from tests.parity.peers import load_peer

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "comparison.md"
PACKAGES = {
    "open_flamingo": "open-flamingo",
    "flamingo-pytorch": "flamingo-pytorch",
    "IDEFICS": "transformers",
    "Mllama": "transformers",
}
Rows = dict[str, dict[str, str]]


def tables() -> dict[str, Rows]:
    """Every table of the page by its heading: rows by their first cell, as cells by column."""
    found = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("|")]
        if lines:
            head, _, *rows = ([cell.strip() for cell in re.split(r"\s*\|\s*", line)[1:-1]] for line in lines)
            found[section.splitlines()[0]] = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    return found


def cell(heading: str, row: str, column: str) -> str:
    return tables()[heading][row][column]


def version_row(name: str) -> dict[str, str]:
    """The row of the table of versions whose first cell begins with a name, as a link or as text."""
    return next(row for first, row in tables()["Versions"].items() if first.removeprefix("[").startswith(name))


def distribution(package: str) -> importlib.metadata.Distribution:
    """An installed package; the test is skipped where it is not."""
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed; `nox -s tests` installs it")


every_column = pytest.mark.parametrize(
    "column", [pytest.param(name, marks=pytest.mark.peers if "amingo" in name else ()) for name in PACKAGES]
)


def test_every_cell_says_how_it_is_known():
    """A cell links to a page, names a kind of evidence, or says that it was not looked into."""
    for heading, rows in tables().items():
        for name, row in rows.items():
            for column, text in list(row.items())[1:]:
                known = re.search(r"\((t|r|s)\)|\]\(", text) or text in ("not looked into", "this one")
                assert known, f"{heading}, {name}, {column}: {text!r} says no evidence"


def test_the_page_stands_on_tables_that_are_found():
    """Five tables are read: without this, the test above could be empty."""
    assert [len(rows) for rows in tables().values()] == [7, 7, 8, 4, 9]


@every_column
def test_version_and_licence_are_those_of_the_package(column):
    """What the page says was looked at is what the tests are pinned to."""
    found, row = distribution(PACKAGES[column]), version_row(column)
    pinned = re.search(rf"^{PACKAGES[column]}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert re.search(rf"\b{re.escape(pinned[1])}\b", row["looked at"])
    assert row["licence of the code"].removesuffix(" (t)") in str(found.metadata["License"])


def test_our_version_and_licence_are_those_of_the_package():
    """The last row is ours."""
    import flamingo_blocks

    row = version_row("flamingo_blocks")
    assert flamingo_blocks.__version__ in row["looked at"]
    assert re.match(r"\s*Apache License\s+Version 2.0", (ROOT / "LICENSE").read_text())
    assert row["licence of the code"] == "Apache 2.0 (t)"


@every_column
def test_types_are_marked_as_the_page_says(column):
    """`py.typed` lies in the package, or does not."""
    typed = any(file.name == "py.typed" for file in distribution(PACKAGES[column]).files or ())
    assert cell("Around the blocks", "types for users (`py.typed`)", column) == f"{'yes' if typed else 'no'} (t)"


@pytest.mark.peers
def test_packages_ask_for_a_torch_of_2023_where_the_page_says_so():
    """open_flamingo pins torch; flamingo-pytorch is two files and pins none."""
    assert "torch==2.0.1" in [wanted.replace(" ", "") for wanted in distribution("open-flamingo").requires or ()]
    theirs = distribution("flamingo-pytorch")
    assert not any("==" in wanted for wanted in theirs.requires or ())
    assert sum(file.suffix == ".py" and file.stem != "__init__" for file in theirs.files or ()) == 2


@pytest.mark.peers
def test_open_flamingo_swaps_the_class_and_renames_keys():
    """The language model has another class, its layers stand in wrappers, most of its keys are gone, and no pickle."""
    before = plain_language_model("opt")
    inside = build_peer("opt").lang_encoder
    assert type(inside) is not type(before)
    assert all(type(layer).__name__ == "FlamingoLayer" for layer in inside.model.decoder.layers)
    kept = set(before.state_dict()) & set(inside.state_dict())
    assert len(kept) < len(before.state_dict()) / 4
    with pytest.raises(pickle.PicklingError, match="OPTForCausalLM"):
        pickle.dumps(inside)


def test_ours_keeps_class_and_keys():
    """Attached and taken off, class, keys and weights are those of before; a whole model can be pickled."""
    pytest.importorskip("transformers")
    lm = plain_language_model("opt")
    kind, before = type(lm), {name: weight.clone() for name, weight in lm.state_dict().items()}
    attachment = attach(lm, {0: GatedCrossAttentionBlock(DIM, vision_dim=VISION_DIM, num_heads=4)})
    assert type(lm) is kind
    assert lm.state_dict().keys() == before.keys()
    attachment.detach()
    assert all(torch.equal(lm.state_dict()[name], weight) for name, weight in before.items())
    assert isinstance(pickle.loads(pickle.dumps(build_tiny_flamingo())), Flamingo)  # noqa: S301 - our own bytes


def ask_open_flamingo(vision: torch.Tensor | None) -> None:
    ids = torch.tensor([[TAG, 5, 6]])
    build_peer("opt")(lang_x=ids, attention_mask=torch.ones_like(ids), vision_x=vision)


def put_open_flamingo_on_gpt2() -> None:
    import transformers

    sizes = {"n_embd": DIM, "n_layer": 2, "n_head": 4, "n_positions": 64}
    lm = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=40, bos_token_id=1, eos_token_id=2, **sizes))
    load_source("utils").extend_instance(lm, load_source("flamingo_lm").FlamingoLMMixin)
    lm.set_decoder_layers_attr_name("transformer.h")
    lm.init_flamingo(39, DIM, VISION_DIM, cross_attn_every_n_layers=1, gradient_checkpointing=False)
    for layer in lm._get_decoder_layers():
        layer.condition_vis_x(torch.randn(1, 1, 8, VISION_DIM))
    lm(input_ids=torch.tensor([[39, 5]]), attention_mask=torch.ones(1, 2))


@pytest.mark.peers
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ask_open_flamingo(torch.randn(1, 1, 2, 3, SIDE, SIDE)), AssertionError, "Only single frame"),
        (lambda: ask_open_flamingo(None), AssertionError, "Must provide either vision_x"),
        (put_open_flamingo_on_gpt2, TypeError, "FlamingoLayer.forward"),
        (
            lambda: load_peer("flamingo_pytorch").PerceiverResampler(dim=16, depth=1)(torch.randn(1, 5, 7, 16)),
            RuntimeError,
            "must match the size",
        ),
    ],
    ids=["clips", "text alone", "GPT-2", "five images"],
)
def test_what_the_page_calls_an_error_is_one(call: Callable[[], None], error: type[Exception], message: str):
    """open_flamingo refuses clips, batches of text and GPT-2; flamingo-pytorch's resampler takes four images."""
    with pytest.raises(error, match=message):
        call()


def test_ours_takes_clips_text_alone_and_many_images():
    """What the others refuse runs: the same model, a batch each."""
    flamingo = build_tiny_flamingo()
    tag = flamingo.media_token_id
    assert flamingo(torch.tensor([[3, 5, 6]])).logits.isfinite().all()
    assert flamingo(torch.tensor([[tag, 5, 6]]), pixels=torch.rand(1, 3, 3, 8, 8)).logits.isfinite().all()
    resampler = PerceiverResampler(vision_dim=16, dim=16, num_latents=4, depth=1, num_heads=2)
    assert resampler(torch.randn(5, 1, 7, 16)).shape == (5, 4, 16)


@pytest.mark.parametrize("column", ["IDEFICS", "Mllama"])
def test_backends_of_transformers_are_those_of_the_page(column):
    """Which kinds of attention the class says that it supports."""
    transformers = pytest.importorskip("transformers")
    name = {"IDEFICS": "IdeficsPreTrainedModel", "Mllama": "MllamaPreTrainedModel"}[column]
    model: type[nn.Module] = getattr(transformers, name)
    supported = ["written out"]
    supported += ["SDPA"] if model._supports_sdpa else []
    supported += ["flex"] if model._supports_flex_attn else []
    assert not model._supports_flash_attn
    assert cell("Speed and decoding", "attention", column) == f"{', '.join(supported)} (t)"


def test_the_number_of_families_is_that_of_the_tests():
    """As many language models as `tests/language_families.py` makes."""
    assert cell("Language models", "which", "ours").startswith(f"[{len(FAMILIES)} families, ")


def test_idefics_keeps_the_names_of_its_llama():
    """Every weight of a Llama of the same sizes has its name in IDEFICS."""
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    vision = {"embed_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4}
    with torch.device("meta"):
        llama = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=30, pad_token_id=0, **sizes))
        config = transformers.IdeficsConfig(
            vocab_size=30, pad_token_id=0, cross_layer_interval=1, vision_config=vision, **sizes
        )
        idefics = transformers.IdeficsForVisionText2Text(config)
    assert set(dict(llama.named_parameters())) <= set(dict(idefics.named_parameters()))
