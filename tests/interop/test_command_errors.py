"""What `flamingo-blocks convert` and `inspect` refuse: one line on standard error, and nothing is written."""

import json

import pytest
import torch

from flamingo_blocks.cli import main
from flamingo_blocks.interop import export_foreign, write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.models import build_tiny_flamingo
from tests.interop.foreign_models import ForeignCase
from tests.interop.test_commands import clip, run, words
from tests.language_families import at_floor
from tests.language_models import make_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A language model and a tower as transformers saves them, checkpoints of two families, a folder of ours."""
    folder = tmp_path_factory.mktemp("parts")
    lm = make_language_model("opt")
    lm.save_pretrained(folder / "opt")
    clip().save_pretrained(folder / "clip")
    write_checkpoint(tiny_open_flamingo(lm=lm, every=1, vision_dim=16), folder / "checkpoint.pt")
    palm = ForeignCase("flamingo_pytorch", 3, 1, 2, 1, frames=0, new_rows=False, seed=2)
    write_checkpoint(export_foreign(palm.build(), family="flamingo_pytorch"), folder / "palm.pt")
    build_tiny_flamingo().save_pretrained(folder / "mine")
    assert (
        main([str(word) for word in ["convert", folder / "checkpoint.pt", "--out", folder / "ours", *words(folder)]])
        == 0
    )
    return folder


def refused(capsys, folder, out, *arguments):
    """The one line of a command that fails and leaves nothing behind; inputs are named without their folder."""
    at = [folder / word if (folder / str(word)).exists() else word for word in arguments]
    before = sorted(out.rglob("*"))
    status = main([str(word) for word in at])
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("flamingo-blocks: error: ")]
    assert (status, len(lines), "Traceback" in printed.err) == (1, 1, False), printed.err
    assert printed.err.rstrip().endswith(lines[0])
    assert sorted(out.rglob("*")) == before
    return (
        lines[0].removeprefix("flamingo-blocks: error: ").removesuffix(" (more: flamingo-blocks explain checkpoints)")
    )


VALUES = [
    ("head_dim=0", "wanted a whole number above 0"),
    ("head_dim=x", "wanted a whole number above 0"),
    ("head_dim=None", "wanted a whole number above 0"),
    ("every=x", "wanted a whole number above 0 or None"),
    ("every=-1", "wanted a whole number above 0 or None"),
    ("every=True", "wanted a whole number above 0 or None"),
    ("resampler_depth=-1", "wanted a whole number, 0 or more or None"),
    ("num_heads=2.0", "wanted a whole number above 0 or None"),
    ("media_token_id=x", "wanted a whole number, 0 or more or None"),
    ("media_token_id=-1", "wanted a whole number, 0 or more or None"),
    ("num_new_tokens=[2]", "wanted a whole number, 0 or more or None"),
    ("layers=5", "wanted a name or None"),
]


@pytest.mark.parametrize(("option", "wanted"), VALUES)
def test_a_bad_value_of_an_option_is_one_line(folder, tmp_path, capsys, option, wanted):
    """Option, value and what is wanted are named before the language model is loaded, by both commands."""
    name, _, value = option.partition("=")
    shown = f"{name}='{value}'" if value == "x" else option
    convert = ["convert", "checkpoint.pt", "--lm", "no/such/folder", "--out", tmp_path / "new", "--option", option]
    for command in (convert, ["inspect", "checkpoint.pt", "--lm", "no/such/folder", "--option", option]):
        found = refused(capsys, folder, tmp_path, *command)
        assert found == f"--option {shown} of open_flamingo: {wanted}"


def test_the_way_back_has_options_of_its_own(folder, tmp_path, capsys):
    """A folder without a record takes the options of the family's own form, and values are looked at there too."""
    cases = {
        "layout=v3": "--option layout='v3' of otter: wanted 'v1' or 'v2' or 'live'",
        "head_dim=0": "--option head_dim=0 of otter: wanted a whole number above 0",
        "evry=2": "otter has no option 'evry'; its options are layout, head_dim, scope",
        "flamingo=2": "otter has no option 'flamingo'; its options are layout, head_dim, scope",
    }
    for option, message in cases.items():
        command = ["convert", "mine", "--to", "otter", "--out", tmp_path / "new.pt", "--option", option]
        assert refused(capsys, folder, tmp_path, *command) == message
    command = ["convert", "mine", "--to", "idefics", "--out", tmp_path / "new.pt", "--option", "every=2"]
    assert refused(capsys, folder, tmp_path, *command) == "idefics has no option 'every'; it has none here"
    command = ["convert", "ours", "--to", "open_flamingo", *words(folder), "--out", tmp_path / "new.pt"]
    found = refused(capsys, folder, tmp_path, *command, "--option", "every=x")
    assert found == "--option every='x' of open_flamingo: wanted a whole number above 0 or None"


@pytest.mark.parametrize("value", ["-1", "x", "1.5"])
@pytest.mark.parametrize("option", ["--media-token-id", "--end-token-id"])
def test_ids_are_whole_numbers(folder, tmp_path, capsys, option, value):
    """The words for ids are looked at before anything is opened."""
    with pytest.raises(SystemExit):
        main(["convert", "no/such/folder", "--out", str(tmp_path / "new"), f"{option}={value}"])
    assert f"argument {option}: '{value}' is no whole number, 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [["--family", "otter"], ["--media-token-id", "0"], ["--end-token-id", "0"], ["--leave-out", "vision_encoder."],
     ["--frozen", "include"], ["--dtype", "bfloat16"]],
    ids=lambda more: more[0],
)  # fmt: skip
def test_words_of_the_way_in_are_refused_on_the_way_back(folder, tmp_path, capsys, more):
    """What would be ignored is an error that names it; without it the same command works."""
    command = ["convert", folder / "ours", "--to", "open_flamingo", *words(folder), "--out", tmp_path / "new.pt"]
    found = refused(capsys, folder, tmp_path, *command, *more)
    assert found == f"{more[0]} is for the way to a folder of ours, and does nothing with --to; omit it"
    assert run(capsys, *command)[0] == 0


def test_rows_are_of_a_language_model_that_is_named(folder, tmp_path, capsys):
    """Without `--lm` there is no table that `--lm-rows` could change."""
    command = ["convert", "mine", "--to", "otter", "--lm-rows", "9", "--out", tmp_path / "new.pt"]
    assert "--lm-rows is of the language model that --lm names" in refused(capsys, folder, tmp_path, *command)


def test_a_family_whose_language_model_has_no_name_is_for_python(folder, tmp_path, capsys):
    """flamingo-pytorch is refused both ways before anything is loaded, and the line says how it is converted."""
    out = ["--lm", "no/such/folder", "--out", tmp_path / "new"]
    cases = [
        (["convert", "palm.pt", *out], "load_foreign and save_pretrained"),
        (["convert", "palm.pt", "--family", "flamingo_pytorch", *out], "load_foreign and save_pretrained"),
        (["convert", "mine", "--to", "flamingo_pytorch", *out], "export_foreign and write_checkpoint"),
        (["inspect", "palm.pt", "--lm", "no/such/folder"], "inspect_checkpoint"),
    ]
    for command, function in cases:
        assert refused(capsys, folder, tmp_path, *command) == (
            "flamingo_pytorch is for Python alone: its language model is a PaLM of its own, and --lm names models of "
            f"transformers; call {function}, as the page 'Convert checkpoints' shows"
        )


def test_a_lost_block_and_a_wrong_shape(folder, tmp_path, capsys):
    """A checkpoint that lacks a block, or has a tensor of another shape, is refused by name."""
    whole = torch.load(folder / "checkpoint.pt")
    block = "lang_encoder.model.decoder.layers.{}.gated_cross_attn_layer."
    lost = {name: tensor for name, tensor in whole.items() if not name.startswith(block.format(1))}
    assert len(whole) - len(lost) == 11
    cases = {
        "has blocks for layers [0], but lacks those for [1]": lost,
        "perceiver.norm.weight has shape (17,) in": whole | {"perceiver.norm.weight": torch.zeros(17)},
        f"{block.format(0)}ff.3.weight has shape": whole | {f"{block.format(0)}ff.3.weight": torch.zeros(32, 7)},
    }
    for message, tensors in cases.items():
        torch.save(tensors, tmp_path / "odd.pt")
        command = ["convert", tmp_path / "odd.pt", *words(folder), "--out", tmp_path / "new"]
        assert message in refused(capsys, folder, tmp_path, *command)


@pytest.mark.parametrize(
    ("beside", "named"),
    [(("--family", "otter"), "--family"), (("--lm", "opt"), "--lm"), (("--option", "every=2"), "--option every=")],
)
def test_nothing_is_said_beside_a_folder_of_ours(folder, tmp_path, capsys, beside, named):
    """What `inspect` would not use is refused, and not passed over."""
    found = refused(capsys, folder, tmp_path, "inspect", "mine", *beside)
    assert found == f"{folder / 'mine'} is a folder of ours, which tells all by itself; omit {named}"


@pytest.mark.parametrize("more", [[], ["--lm", "opt"]], ids=["alone", "with a language model"])
def test_the_command_has_one_line_for_too_many_heads(folder, tmp_path, capsys, more):
    """`inspect` and `convert` say it in the words of the command line."""
    commands = [["inspect", "checkpoint.pt", *more]]
    commands += [["convert", "checkpoint.pt", *more, "--out", tmp_path / "new"]] if more else []
    for command in commands:
        found = refused(capsys, folder, tmp_path, *command, "--option", "num_heads=100000")
        assert found.endswith("not 100000 heads of one width; pass --option num_heads= or --option head_dim=")


def bad_config(path, model_type):
    """A folder whose config has a word where a number is wanted."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": model_type, "hidden_size": "wide"}))
    return path


def test_a_bad_config_is_one_line(folder, tmp_path, capsys):
    """A value of the wrong kind in the config of a language model, a tower or a checkpoint: its field is named, by
    both commands.
    """
    bad = bad_config(tmp_path / "bad", "llama")
    tower = bad_config(tmp_path / "tower", "clip_vision_model")
    out = ["--out", tmp_path / "new"]
    cases = [
        (["convert", "checkpoint.pt", "--lm", bad, *out], f"the language model {bad} cannot be loaded: "),
        (["inspect", "checkpoint.pt", "--lm", bad], f"the language model {bad} cannot be loaded: "),
        (["convert", "checkpoint.pt", "--lm", "opt", "--vision", tower, *out], f"the vision tower {tower} cannot be "),
    ]
    for command, message in cases:
        found = refused(capsys, folder, tmp_path, *command)
        assert found.startswith(message)
        assert at_floor() or "hidden_size" in found  # transformers 5.0 does not look at the kinds of values


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_bad_config_of_a_checkpoint_is_one_line(tmp_path, capsys, command):
    """So it is with a folder that tells its own parts."""
    from tests.interop import transformers_peers as peers

    peers.tiny_idefics().save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": "wide"}))
    more = ["--out", tmp_path / "ours"] if command == "convert" else []
    found = refused(capsys, tmp_path, tmp_path, command, "theirs", *more)
    assert found.startswith(f"the config of {tmp_path / 'theirs'} cannot be loaded: ")
    assert at_floor() or "hidden_size" in found


def test_the_way_back_begins_at_a_folder_of_ours(folder, tmp_path, capsys):
    """What is not ours is refused with the two steps that lead to another family."""
    found = refused(capsys, folder, tmp_path, "convert", "checkpoint.pt", "--to", "idefics", "--out", tmp_path / "x")
    assert found == (
        f"{folder / 'checkpoint.pt'} is no folder of ours (flamingo_config.json is missing), and --to begins at one; "
        "convert to a folder of ours first, without --to, then that folder with --to idefics"
    )
    found = refused(capsys, folder, tmp_path, "convert", "gone", "--to", "idefics", "--out", tmp_path / "x")
    assert found == "there is no gone"
