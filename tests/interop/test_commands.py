"""`flamingo-blocks convert` and `inspect`, called as the shell calls them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.cli import main
from flamingo_blocks.interop import export_foreign, load_foreign, open_checkpoint, write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.vision import TransformersTower
from tests.interop.foreign_models import ForeignCase
from tests.interop.test_there_and_back import write_shards
from tests.language_models import VOCAB, draw_weights, make_language_model

CASE = ForeignCase("open_flamingo", depth=2, every=2, latents=2, resampler_depth=1, frames=0, new_rows=True, seed=1)


def clip():
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        image_size=8, patch_size=4, hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1
    )
    with torch.random.fork_rng(devices=[]):
        return draw_weights(CLIPVisionModel(config)).eval()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder with a language model and a tower as transformers saves them, and an open_flamingo checkpoint."""
    folder = tmp_path_factory.mktemp("parts")
    lm = make_language_model("opt")
    lm.save_pretrained(folder / "opt")
    clip().save_pretrained(folder / "clip")
    flamingo = Flamingo(
        lm=lm, blocks={1: CASE.build().blocks["1"]}, resampler=CASE.build().resampler, media_token_id=VOCAB + 1,
        end_token_id=VOCAB, num_new_tokens=2,
    )  # fmt: skip
    draw_weights(flamingo.token_rows, 4)
    flamingo.blocks["1"].attention_gate.gate.data.fill_(0.5)
    flamingo.blocks["1"].feed_forward_gate.gate.data.fill_(-3.0)
    checkpoint = {f"module.{k}": v for k, v in export_foreign(flamingo, family="open_flamingo").items()}
    write_checkpoint(checkpoint, folder / "checkpoint.safetensors")
    return folder


def words(parts, *more, lm="opt"):
    return ["--lm", str(parts / lm), "--vision", str(parts / "clip"), *map(str, more)]


def run(capsys, *arguments):
    """Status and both streams, without the progress bars of transformers and the name of the page on errors."""
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    last = printed.err.splitlines()[-1] if printed.err.strip() else ""
    return status, printed.out, last.removesuffix(" (more: flamingo-blocks explain checkpoints)")


def test_there_and_back_gives_the_same_file(parts, tmp_path, capsys):
    """Converted to a folder of ours and back the file is the same byte for byte, prefixes included."""
    status, out, _ = run(capsys, "convert", parts / "checkpoint.safetensors", "--out", tmp_path / "ours", *words(parts))
    assert (status, "ours: from open_flamingo, " in out) == (0, True)
    assert "language model: as it was, so not inside; pass lm= on loading" in out
    assert "vision tower: as it was, so not inside; pass vision= on loading" in out
    back = tmp_path / "checkpoint.safetensors"
    status, out, _ = run(capsys, "convert", tmp_path / "ours", "--to", "open_flamingo", "--out", back, *words(parts))
    assert status == 0
    assert back.read_bytes() == (parts / "checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize("family", ["otter", "flamingo_mini"])
def test_other_families_there_and_back(parts, tmp_path, capsys, family):
    """Around a named OPT, with new rows and frames: to a folder of ours and back to the same file."""
    case = ForeignCase(family, depth=2, every=1, latents=2, resampler_depth=1, frames=1, new_rows=True, seed=3)
    made = case.build()
    flamingo = Flamingo(
        lm=make_language_model("opt"), blocks={int(layer): block for layer, block in made.blocks.items()},
        resampler=made.resampler, media_token_id=VOCAB + 1, end_token_id=VOCAB, num_new_tokens=2,
    )  # fmt: skip
    theirs, ours, back = tmp_path / "theirs.safetensors", tmp_path / "ours", tmp_path / "back.safetensors"
    write_checkpoint(export_foreign(flamingo, family=family), theirs)
    status, out, _ = run(capsys, "convert", theirs, "--out", ours, *words(parts))
    assert (status, f"ours: from {family}, " in out) == (0, True)
    assert run(capsys, "convert", ours, "--to", family, "--out", back, *words(parts))[0] == 0
    assert back.read_bytes() == theirs.read_bytes()


def test_what_is_converted_computes_the_same(parts, tmp_path, capsys):
    """The folder loads by `Flamingo.from_pretrained` and gives the logits of `load_foreign`."""
    run(capsys, "convert", parts / "checkpoint.safetensors", "--out", tmp_path / "ours", *words(parts))
    from transformers import CLIPVisionModel

    def given():
        tower = TransformersTower(CLIPVisionModel.from_pretrained(parts / "clip"))
        return {"lm": make_language_model("opt"), "vision": tower}

    ours = Flamingo.from_pretrained(tmp_path / "ours", **given())
    other = load_foreign(parts / "checkpoint.safetensors", **given())
    ids, pixels = torch.tensor([[2, VOCAB + 1, 5]]), torch.randn(1, 1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(ours(ids, pixels=pixels).logits, other(ids, pixels=pixels).logits)


def test_changed_weights_of_the_language_model_are_included(parts, tmp_path, capsys):
    """Where the checkpoint brings other weights for the language model, the folder holds them."""
    lm = draw_weights(make_language_model("opt"), 8)
    lm.save_pretrained(tmp_path / "other")
    arguments = ["--lm", tmp_path / "other", "--vision", parts / "clip"]
    status, out, _ = run(capsys, "convert", parts / "checkpoint.safetensors", "--out", tmp_path / "ours", *arguments)
    assert (status, "language model: weights inside" in out) == (0, True)
    assert (tmp_path / "ours" / "frozen.safetensors").is_file()
    flamingo = Flamingo.from_pretrained(tmp_path / "ours")
    assert torch.equal(
        flamingo.lm.get_input_embeddings().weight, make_language_model("opt").get_input_embeddings().weight
    )


def test_a_conversion_without_a_tower_says_so(parts, tmp_path, capsys):
    """Without `--vision` the folder holds no tower: what to pass on loading is printed, and it works."""
    arguments = ["--lm", parts / "opt", "--out", tmp_path / "ours"]
    status, out, _ = run(capsys, "convert", parts / "checkpoint.safetensors", *arguments)
    assert (status, "no vision tower inside: pass vision= on loading, or features" in out) == (0, True)
    from transformers import CLIPVisionModel

    tower = TransformersTower(CLIPVisionModel.from_pretrained(parts / "clip"))
    flamingo = Flamingo.from_pretrained(tmp_path / "ours", lm=make_language_model("opt"), vision=tower)
    assert flamingo.vision is tower


def test_errors_speak_of_the_options_of_the_command(parts, tmp_path, capsys):
    """An error names the option to type where one helps, and no other option."""
    write_checkpoint({"a": torch.zeros(1)}, tmp_path / "other.pt")
    whole, out = parts / "checkpoint.safetensors", ["--out", tmp_path / "ours"]
    for command in (["convert", *words(parts), *out], ["inspect"]):
        _, _, error = run(capsys, *command, tmp_path / "other.pt")
        assert error.endswith("; say which with --family")
    _, _, error = run(capsys, "convert", whole, *out, *words(parts), "--leave-out", "nothing.")
    assert error == "flamingo-blocks: error: --leave-out has 'nothing.', but no tensor of the checkpoint begins so"


def test_shards_come_back_as_shards(parts, tmp_path, capsys):
    """A folder of shards is converted to ours and back to the same shards; what is left out comes back too."""
    checkpoint = {
        name: opened.read(plain)
        for opened in [open_checkpoint(parts / "checkpoint.safetensors")]
        for plain, name in ((plain, facts.name) for plain, facts in opened.tensors.items())
    }
    checkpoint["vision_encoder.positional_embedding"] = torch.randn(5, 16)
    write_shards(checkpoint, tmp_path / "sharded")
    left = ["--leave-out", "vision_encoder."]
    assert run(capsys, "convert", tmp_path / "sharded", "--out", tmp_path / "ours", *words(parts), *left)[0] == 0
    back = [tmp_path / "ours", "--to", "open_flamingo", "--out", tmp_path / "back"]
    assert run(capsys, "convert", *back, *words(parts))[0] == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "sharded").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == files


def test_another_family_is_written_without_a_record(parts, tmp_path, capsys):
    """A model of one family goes to another that computes the same, in its own layout."""
    run(capsys, "convert", parts / "checkpoint.safetensors", "--out", tmp_path / "ours", *words(parts))
    out = ["--to", "otter", "--out", tmp_path / "otter.pt"]
    assert run(capsys, "convert", tmp_path / "ours", *out, *words(parts))[0] == 0
    assert "perceiver.layers.0.feed_forward.1.weight" in open_checkpoint(tmp_path / "otter.pt").shapes


def test_errors_are_one_line_and_nothing_is_written(parts, tmp_path, capsys):
    """Truncated, of another family, without language model, a place that is taken: a line each, nothing new."""
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((parts / "checkpoint.safetensors").read_bytes()[:-5])
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    whole, out = parts / "checkpoint.safetensors", ["--out", tmp_path / "ours"]
    before = sorted(tmp_path.rglob("*"))
    cases = [
        ([cut, *out, *words(parts)], "is cut off"),
        ([whole, *out, *words(parts), "--family", "otter"], "no checkpoint of otter"),
        ([whole, *out], "name it with --lm"),
        ([whole, *out, *words(parts, lm="clip")], "cannot be loaded"),
        ([whole, *out, *words(parts), "--lm-rows", VOCAB + 2], "--media-token-id"),
        ([whole, *out, *words(parts), "--option", "evry=2"], "no option 'evry'"),
        ([whole, *words(parts), "--out", tmp_path / "taken"], "is there already"),
        ([tmp_path / "taken", "--to", "otter", *out, *words(parts)], "flamingo_config.json is missing"),
    ]
    for arguments, message in cases:
        status, printed, error = run(capsys, "convert", *arguments)
        assert (status, printed, message in error) == (1, "", True), (arguments, error)
        assert sorted(tmp_path.rglob("*")) == before
    build_tiny_flamingo().save_pretrained(tmp_path / "mine")
    status, _, error = run(capsys, "convert", tmp_path / "mine", "--out", tmp_path / "ours")
    assert (status, "is a folder of ours already; say with --to" in error) == (1, True)


def test_inspect_draws_gates_and_says_what_is_needed(parts, capsys):
    """Family, sizes, both gates of each block as bars, the language model and the tower that it takes."""
    status, out, _ = run(capsys, "inspect", parts / "checkpoint.safetensors")
    assert status == 0
    assert "open_flamingo, 28 tensors" in out
    assert "block   1  +0.462 |#######.........|  -0.995 |################|" in out
    assert "a language model of width 32 with 2 layers or more, at 'model.decoder.layers'" in out
    assert "a table of 52 rows or fewer" in out
    assert "a vision tower of width 16" in out
    assert "missing: none\nunknown: none" in out


def test_inspect_compares_names_with_a_language_model(parts, tmp_path, capsys):
    """With the language model's config all names are compared and both lists are printed; where they are not empty,
    the status is that of `convert`.
    """
    opened = open_checkpoint(parts / "checkpoint.safetensors")
    checkpoint = {name: opened.read(name) for name in opened.tensors}
    more = {"lang_encoder.model.decoder.unheard_of": torch.zeros(1)}
    less = {name: tensor for name, tensor in checkpoint.items() if name != "perceiver.norm.bias"}
    torch.save(less | more, tmp_path / "odd.pt")
    status, out, error = run(capsys, "inspect", tmp_path / "odd.pt", "--lm", parts / "opt")
    assert (status, error.endswith("odd.pt cannot be loaded as it is; names missing: 1, unknown: 1")) == (1, True)
    assert "missing: 1\n  perceiver.norm.bias\nunknown: 1\n  lang_encoder.model.decoder.unheard_of" in out
    for odd in (less, checkpoint | more):
        torch.save(odd, tmp_path / "half.pt")
        assert run(capsys, "inspect", tmp_path / "half.pt", "--lm", parts / "opt")[0] == 1
        assert run(capsys, "convert", tmp_path / "half.pt", *words(parts), "--out", tmp_path / "ours")[0] == 1
    assert run(capsys, "inspect", tmp_path / "odd.pt", "--lm", parts / "clip")[0] == 1


def test_inspect_fails_where_convert_would(parts, tmp_path, capsys):
    """Another family, another language model or a lost tensor that sizes are read off: `inspect` says what `convert`
    says, with its status, and never that nothing is missing.
    """
    make_language_model("llama").save_pretrained(tmp_path / "llama")
    opened = open_checkpoint(parts / "checkpoint.safetensors")
    lost = {name: opened.read(name) for name in opened.tensors if name != "perceiver.latents"}
    write_checkpoint(lost, tmp_path / "lost.safetensors")
    whole, out = parts / "checkpoint.safetensors", ["--out", tmp_path / "ours"]
    cases = [
        (whole, ["--family", "otter", "--lm", parts / "opt"], "this is no checkpoint of otter"),
        (whole, ["--lm", tmp_path / "llama"], "layers 'model.decoder.layers'; lm has 'model.layers'"),
        (tmp_path / "lost.safetensors", ["--lm", parts / "opt"], "lacks perceiver.latents"),
    ]
    for path, arguments, message in cases:
        status, printed, error = run(capsys, "inspect", path, *arguments)
        assert (status, message in error, "none" in printed) == (1, True, False), (error, printed)
        assert run(capsys, "convert", path, *arguments, "--vision", parts / "clip", *out)[::2] == (1, error)
    assert run(capsys, "inspect", whole, "--family", "otter")[0] == 1
    status, printed, error = run(capsys, "inspect", tmp_path / "lost.safetensors")
    assert (status, "missing: not compared" in printed, "lacks perceiver.latents" in error) == (1, True, True)


def test_inspect_a_folder_of_ours(tmp_path, capsys):
    """A folder of `save_pretrained`: sizes, gates, and what has to be passed to load it."""
    flamingo = build_tiny_flamingo()
    flamingo.blocks["0"].attention_gate.gate.data.fill_(1.0)
    flamingo.save_pretrained(tmp_path / "ours")
    status, out, _ = run(capsys, "inspect", tmp_path / "ours")
    assert status == 0
    assert "flamingo_blocks, " in out
    assert "block   0  +0.762 |############....|  +0.000 |................|" in out
    assert "missing: none\nunknown: none" in out
    assert "lm: flamingo_blocks.models.paper_language_model:PaperLanguageModel, passed as lm=" in out


def test_inspect_finds_what_a_folder_of_ours_lost(tmp_path, capsys):
    """A tensor that the config promises and the file has not, and one that nobody asked for."""
    from safetensors.torch import load_file, save_file

    build_tiny_flamingo().save_pretrained(tmp_path / "ours")
    path = Path(tmp_path / "ours" / "model.safetensors")
    tensors = load_file(path)
    tensors["resampler.more"] = tensors.pop("resampler.latents")
    save_file(tensors, path)
    status, out, _ = run(capsys, "inspect", tmp_path / "ours")
    assert status == 1
    assert "missing: 1\n  resampler.latents\nunknown: 1\n  resampler.more" in out


@pytest.mark.parametrize("family", ["otter", "flamingo_mini", "flamingo_pytorch"])
def test_inspect_knows_every_family(tmp_path, capsys, family):
    """Each family is found, its gates drawn, nothing missing or unknown."""
    case = ForeignCase(family, 3, 1, 2, 1, frames=1, new_rows=False, seed=2)
    write_checkpoint(export_foreign(case.build(), family=family), tmp_path / "checkpoint.pt")
    status, out, _ = run(capsys, "inspect", tmp_path / "checkpoint.pt")
    assert status == 0
    assert f"{family}, " in out
    shift = int(family == "flamingo_pytorch")  # whose blocks stand behind layers, here before the next
    assert blocks_shown(out) == ([shift, 1 + shift, 2 + shift],) * 2
    assert "missing: none\nunknown: none" in out


def blocks_shown(out: str) -> tuple[list[int], list[int]]:
    """The layers that `inspect` names, and those that it draws gates of."""
    (before,) = re.findall(r"^blocks before layer ([\d, ]+):", out, re.MULTILINE)
    drawn = re.findall(r"^  block +(\d+)  [+-]", out, re.MULTILINE)
    return [int(layer) for layer in before.split(", ")], [int(layer) for layer in drawn]


@pytest.mark.parametrize(("family", "options"), [("idefics", {}), ("idefics", {"resampler": False}), ("mllama", {})])
def test_folders_of_transformers_tell_their_parts(tmp_path, capsys, family, options):
    """A folder that transformers saved needs no further word: its config tells language model and tower."""
    from tests.interop import transformers_peers as peers

    config = {"idefics": peers.idefics_config, "mllama": peers.mllama_config}[family](**options)
    model = {"idefics": peers.IdeficsForVisionText2Text, "mllama": peers.MllamaForConditionalGeneration}[family](config)
    peers.draw(model).save_pretrained(tmp_path / "theirs")
    status, out, _ = run(capsys, "inspect", tmp_path / "theirs")
    assert status == 0
    assert f"{family}, " in out
    assert blocks_shown(out) == ({"idefics": [0, 2], "mllama": [1, 2]}[family],) * 2
    assert "missing: none\nunknown: none" in out
    status, out, _ = run(capsys, "convert", tmp_path / "theirs", "--out", tmp_path / "ours")
    assert (status, "language model: weights inside" in out) == (0, True)
    back = tmp_path / "model.safetensors"
    assert run(capsys, "convert", tmp_path / "ours", "--to", family, "--out", back)[0] == 0
    assert back.read_bytes() == (tmp_path / "theirs" / "model.safetensors").read_bytes()


def test_nested_tensors_come_back_nested(parts, tmp_path, capsys):
    """A pickle file with its tensors under a key comes back byte for byte, under that key."""
    opened = open_checkpoint(parts / "checkpoint.safetensors")
    (tmp_path / "back").mkdir()
    tensors = {facts.name: opened.read(plain).clone() for plain, facts in opened.tensors.items()}
    tied = next(name for name in tensors if name.endswith("embed_tokens.weight"))
    tensors[next(name for name in tensors if name.endswith("lm_head.weight"))] = tensors[tied]
    torch.save({"model_state_dict": tensors}, tmp_path / "checkpoint.pt")
    run(capsys, "convert", tmp_path / "checkpoint.pt", "--out", tmp_path / "ours", *words(parts))
    back = tmp_path / "back" / "checkpoint.pt"
    assert run(capsys, "convert", tmp_path / "ours", "--to", "open_flamingo", "--out", back, *words(parts))[0] == 0
    assert back.read_bytes() == (tmp_path / "checkpoint.pt").read_bytes()


@pytest.mark.full
def test_the_session_of_the_page_can_be_typed(tmp_path):
    """The shell session of "Convert checkpoints" runs in an empty folder from start to end, and gives back the
    checkpoint that it began with.
    """
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "convert-checkpoints.md").read_text()
    session = "".join(re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert session.count("flamingo-blocks ") == 3
    (tmp_path / "bin").mkdir()
    for name, words in {"python": "", "flamingo-blocks": " -m flamingo_blocks.cli"}.items():
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{words} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "work").mkdir()
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    typed = subprocess.run(
        ["bash", "-e", "-c", session], cwd=tmp_path / "work", env={**os.environ, "PATH": path}, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert typed.returncode == 0, typed.stderr
    assert "missing: none" in typed.stdout
    assert "torch.Size([1, 7])" in typed.stdout
    first, back = (torch.load(tmp_path / "work" / name) for name in ("checkpoint.pt", "back/checkpoint.pt"))
    assert list(first) == list(back)
    assert all(torch.equal(first[name], back[name]) for name in first)


def test_the_example_leaves_its_language_model_as_it_is():
    """A checkpoint can be made around any language model, which is neither frozen nor hooked by that."""
    lm = make_language_model("opt")
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in lm.named_parameters()}
    checkpoint = tiny_open_flamingo(lm=lm, vision_dim=16)
    assert all(
        torch.equal(weight, before[name][0]) and weight.requires_grad == before[name][1]
        for name, weight in lm.named_parameters()
    )
    assert not any(module._forward_pre_hooks for module in lm.modules())
    assert list(load_foreign(checkpoint, lm=lm).blocks) == ["1"]
