"""`inspect_checkpoint` without a language model: what options change, and those that change nothing."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.interop import export_foreign, inspect_checkpoint, write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.models import build_tiny_flamingo
from tests.interop.foreign_models import ForeignCase, foreign_cases
from tests.interop.test_commands import run
from tests.strategies import heavy


@heavy()
@given(foreign_cases(), st.sampled_from([{}, {"head_dim": 32}, {"num_heads": 8}, {"resampler_depth": 9}]))
def test_options_say_the_same_with_and_without_a_language_model(case, options):
    """Of every family: sizes, and the error, are those that a look with the language model finds."""
    checkpoint = export_foreign(case.build(), family=case.family)
    more = {"clips": True} if case.family == "flamingo_pytorch" and case.frames else {}
    alone = inspect_checkpoint(checkpoint, **options)
    whole = inspect_checkpoint(checkpoint, lm=case.language_model(), vision=case.tower(), **options, **more)
    assert alone.error == whole.error
    assert (alone.error is None) == (options.get("resampler_depth", case.resampler_depth) == case.resampler_depth)
    if alone.error is None:
        assert (alone.blocks, alone.resampler, alone.gates) == (whole.blocks, whole.resampler, whole.gates)
        heads = {block["num_heads"] for block in alone.blocks.values()}
        assert heads == {128 // options.get("head_dim", 128 // options.get("num_heads", 2))}


def narrow_heads():
    """A checkpoint of three heads of 32: as many rows as no number of heads of 64 has."""
    checkpoint = tiny_open_flamingo()
    for name, tensor in checkpoint.items():
        if name.endswith("to_q.weight"):
            checkpoint[name] = tensor[:96].clone()
        elif name.endswith("to_kv.weight"):
            checkpoint[name] = torch.cat([tensor[:96], tensor[512:608]])
        elif name.endswith("to_out.weight"):
            checkpoint[name] = tensor[:, :96].clone()
    return checkpoint


def test_the_option_that_an_error_names_helps(tmp_path, capsys):
    """Where heads are of another width, `inspect` says which options tell it, and takes either."""
    write_checkpoint(narrow_heads(), tmp_path / "narrow.pt")
    status, _, error = run(capsys, "inspect", tmp_path / "narrow.pt")
    assert (status, error.endswith("pass --option num_heads= or --option head_dim=")) == (1, True)
    for option in ("head_dim=32", "num_heads=3"):
        status, out, error = run(capsys, "inspect", tmp_path / "narrow.pt", "--option", option)
        assert (status, error, "num_heads 3, head_dim 32" in out) == (0, "", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 2}, "option every= of open_flamingo needs lm=, without which it does nothing; pass lm=, or omit it"),
        ({"media_token_id": 5, "head_dim": 64}, "option media_token_id= of open_flamingo needs lm="),
        ({"vision": torch.nn.Linear(1, 1)}, "vision= of open_flamingo needs lm="),
        ({"bogus": 3}, "open_flamingo has no option 'bogus'; its options are media_token_id, "),
        ({"leave_out": ("nothing",)}, "leave_out has 'nothing', but no tensor of the checkpoint begins so"),
        ({"leave_out": ("perceiver.norm",)}, "leave_out has 'perceiver.norm', with which perceiver.norm.weight begins"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nothing_is_passed_over(options, message):
    """What would do nothing is an error that says so."""
    with pytest.raises(ValueError, match=message):
        inspect_checkpoint(tiny_open_flamingo(), **options)


def test_what_is_left_out_is_not_missed():
    """Frame embeddings that are left out are neither missing nor unknown, and the resampler has none."""
    case = ForeignCase("flamingo_pytorch", 2, 1, 2, 1, frames=2, new_rows=False, seed=2)
    checkpoint = export_foreign(case.build(), family="flamingo_pytorch")
    found = inspect_checkpoint(checkpoint, leave_out=("video_frame_pos_emb",))
    assert (found.missing, found.unknown, found.resampler["max_frames"]) == ([], [], 0)
    assert inspect_checkpoint(checkpoint).resampler["max_frames"] == 2


def test_the_command_says_what_needs_a_language_model(tmp_path, capsys):
    """In the words of the command line, whether or not an option has a word of its own elsewhere."""
    write_checkpoint(tiny_open_flamingo(), tmp_path / "theirs.pt")
    for option in ("every=2", "scope=all", "media_token_id=3"):
        status, out, error = run(capsys, "inspect", tmp_path / "theirs.pt", "--option", option)
        name = option.partition("=")[0]
        assert (status, out) == (1, "")
        assert error.startswith(
            f"flamingo-blocks: error: --option {name}= of open_flamingo needs --lm, without which it does"
        )


def test_all_that_is_beside_a_folder_of_ours_is_named(tmp_path, capsys):
    """One line names every word that `inspect` would not use."""
    build_tiny_flamingo().save_pretrained(tmp_path / "mine")
    words = ["--family", "otter", "--lm", "unread", "--option", "every=2", "--option", "scope=all"]
    status, _, error = run(capsys, "inspect", tmp_path / "mine", *words)
    assert (status, error.partition("; ")[2]) == (1, "omit --family, --lm, --option every=, --option scope=")
