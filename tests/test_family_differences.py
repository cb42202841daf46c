"""The page on how the family differs says what the presets hold, and what a loaded model has."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, MediaLayout, PerceiverResampler
from flamingo_blocks.interop import idefics_parts, load_foreign, mllama_parts
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.models import PaperLanguageModel
from flamingo_blocks.nn import block_preset, preset_layers, resampler_preset

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "family-differences.md"
PRESETS = {
    "paper": "paper",
    "open_flamingo": "open_flamingo",
    "flamingo-pytorch": "open_flamingo",  # the same blocks
    "flamingo-mini": "open_flamingo",
    "IDEFICS": "idefics",
    "Mllama": "mllama",
}
Rows = dict[str, dict[str, str]]


def table(title: str) -> Rows:
    """The rows of the table under a heading, by the text of their first cell, as cells by column."""
    section = PAGE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in re.split(r"\s*\|\s*", line)[1:-1]] for line in lines)
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def literal(cell: str) -> list[Any]:
    """The value in code at the beginning of a cell, if there is one."""
    found = re.match(r"`([^`]+)`", cell)
    try:
        return [] if found is None else [ast.literal_eval(found[1])]
    except ValueError:  # the name of an option
        return []


def defaults(of: Any) -> dict[str, Any]:
    return {name: found.default for name, found in inspect.signature(of).parameters.items()}


def values(title: str) -> list[tuple[str, str, Any]]:
    """Option, column and value of every cell of a table that begins with a value."""
    return [
        (option[1], column, value)
        for row in table(title).values()
        if (option := re.match(r"`(\w+)`", row["option"]))
        for column, cell in row.items()
        if column in PRESETS
        for value in literal(cell)
    ]


@pytest.mark.parametrize(
    ("title", "preset", "part", "least"),
    [
        ("Gated cross-attention", block_preset, GatedCrossAttentionBlock, 44),
        ("Resampler", resampler_preset, PerceiverResampler, 35),
    ],
)
def test_values_are_those_of_the_presets(title, preset, part, least):
    """Each value in the table of a part is what the part has under the preset of that column."""
    found = values(title)
    assert len(found) >= least
    for option, column, value in found:
        held = defaults(part) | preset(PRESETS[column])
        if option == "num_kv_heads":
            continue
        assert held[option] == value, (title, option, column)


@pytest.mark.parametrize("title", ["Gated cross-attention", "Resampler"])
def test_every_option_of_a_preset_is_on_the_page(title):
    """What a preset sets stands in a row of the table, so that none is forgotten."""
    preset = block_preset if title == "Gated cross-attention" else resampler_preset
    shown = {name for row in table(title).values() for name in re.findall(r"`(\w+)`", row["option"])}
    names = {"paper", "open_flamingo", "idefics"} | ({"mllama"} if preset is block_preset else set())
    assert {option for name in names for option in preset(name)} <= shown
    part = GatedCrossAttentionBlock if preset is block_preset else PerceiverResampler
    assert shown - {"valid"} <= set(defaults(part))


def test_layers_are_those_of_the_presets():
    """The layers that blocks stand before, of eight and with one for every fourth."""
    (row,) = table("Where blocks stand").values()
    found = {column: value for column, cell in row.items() for value in literal(cell)}
    assert set(found) == {"paper", "open_flamingo", "flamingo-mini", "IDEFICS", "Mllama"}
    for column, layers in found.items():
        name = "paper" if column == "flamingo-mini" else PRESETS[column]
        assert preset_layers(name, num_layers=8, every=4) == layers


def loaded(column: str) -> Flamingo:
    """A tiny model of the family, loaded from its own form."""
    if column == "open_flamingo":
        lm = PaperLanguageModel(vocab_size=10, dim=8, depth=2, num_heads=2)
        return load_foreign(tiny_open_flamingo(vocab_size=10, dim=8, depth=2), lm=lm)
    pytest.importorskip("transformers")
    from tests.interop.transformers_peers import tiny_idefics, tiny_mllama

    peer = tiny_idefics() if column == "IDEFICS" else tiny_mllama()
    parts = (idefics_parts if column == "IDEFICS" else mllama_parts)(peer.config)
    return load_foreign(peer.state_dict(), **parts)


@pytest.mark.parametrize("column", ["open_flamingo", "IDEFICS", "Mllama"])
def test_loaded_models_are_as_the_page_says(column):
    """Scope, end of documents and new tokens of a model that was loaded from a checkpoint of the family."""
    flamingo = loaded(column)
    sees, tokens = table("What text sees"), table("New tokens")
    assert [flamingo.scope] == literal(sees["which items"][column])
    forgets = "out of sight" in sees["behind the end of a document"][column]
    assert (flamingo.document_end_id is not None) == forgets
    assert [flamingo.num_new_tokens] == literal(tokens["which"][column])
    assert [flamingo.predict_new_tokens] == literal(tokens["written by the model"][column])


def test_scopes_of_the_page_are_scopes():
    """Every scope that the page names makes a layout."""
    tags = torch.tensor([[True, True, False]])
    scopes = {value for cell in table("What text sees")["which items"].values() for value in literal(cell)}
    assert scopes == {"last", "grouped"}
    for scope in scopes:
        assert MediaLayout.from_tokens(tags, scope=scope).last.tolist() == [[0, 1, 1]]


def peer_and_batch(column: str) -> tuple[nn.Module, dict[str, Tensor], str, str]:
    """A model of the family, a batch for its `generate`, and the names of its tower and of a projection of media."""
    pytest.importorskip("transformers")
    from tests.interop import transformers_peers as peers

    if column == "IDEFICS":
        batch = peers.idefics_batch([[1, peers.IMAGE, 5, 6], [1, peers.IMAGE, 4, 6]])
        return peers.tiny_idefics(), batch, "model.vision_model", "model.gated_cross_attn_layers.0.cross_attn.k_proj"
    if column == "Mllama":
        batch = peers.mllama_batch([[peers.MLLAMA_IMAGE, 5, 6], [peers.MLLAMA_IMAGE, 4, 6]])
        return peers.tiny_mllama(), batch, "model.vision_model", "model.language_model.layers.1.cross_attn.k_proj"
    from tests.interop.open_flamingo_peer import SIDE, TAG, build_peer

    ids = torch.tensor([[0, TAG, 5, 6], [2, TAG, 4, 6]])  # a pad, so that transformers hands the mask on
    batch = {"vision_x": torch.randn(2, 1, 1, 3, SIDE, SIDE), "lang_x": ids, "attention_mask": (ids != 0).long()}
    return build_peer("opt"), batch, "vision_encoder", "lang_encoder.gated_cross_attn_layers.0.attn.to_kv"


@pytest.mark.parametrize(
    "column", [pytest.param("open_flamingo", marks=pytest.mark.peers), "IDEFICS", "Mllama"], ids=lambda column: column
)
def test_what_is_kept_while_decoding(column):
    """How often each implementation encodes an image with beams, and projects the media while it decodes."""
    says = table("What is kept while decoding")
    model, batch, tower, projection = peer_and_batch(column)
    images: list[int] = []
    projected: list[int] = []
    model.get_submodule(tower).register_forward_pre_hook(
        lambda _, args, kwargs: images.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    model.get_submodule(projection).register_forward_pre_hook(lambda _, args: projected.append(len(args[0])))
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    model.generate(**batch, **options)
    assert images == [2]
    assert len(projected) == (1 if says["keys and values of each block"][column] == "yes" else 4)
    images.clear()
    model.generate(**batch, **options, num_beams=3)
    assert images == [6]
    assert says["with beams"][column] == "every image encoded once a beam"
