"""Weights of the language model that are copied into one of fewer digits are rounded, and that is said."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.interop import export_foreign, load_foreign, open_checkpoint, plan_foreign
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.interop.rounded_weights import rounded_names
from tests.interop.foreign_models import foreign_cases
from tests.interop.test_commands import run
from tests.interop.test_there_and_back import LAYOUT
from tests.language_models import make_language_model
from tests.strategies import heavy

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@heavy()
@given(foreign_cases(), st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from(["", "module."]))
def test_what_is_not_named_comes_back_bit_for_bit(case, of_checkpoint, of_parts, prefix):
    """Of every family, in any two dtypes: the names are those of the tensors that come back changed, and no others."""
    checkpoint = {
        f"{prefix}{name}": tensor.to(of_checkpoint)
        for name, tensor in export_foreign(case.build(), family=case.family, **LAYOUT.get(case.family, {})).items()
    }
    opened = open_checkpoint(checkpoint)
    lm, tower = case.language_model(case.seed + 7).to(of_parts), case.tower().to(of_parts)
    plan = plan_foreign(opened, lm=lm, vision=tower, **case.options)
    flamingo = load_foreign(opened, lm=lm, vision=tower, **case.options)
    told = {key: value for key, value in case.options.items() if key != "media_token_id"}
    back = export_foreign(flamingo, family=case.family, like=opened, **told)
    changed = {name for name, facts in opened.tensors.items() if not torch.equal(back[facts.name], opened.read(name))}
    rounded = rounded_names(opened, plan, flamingo)
    assert changed == {name for names in rounded.values() for name in names}
    if torch.float32 in (of_checkpoint, of_parts):  # the two halves hold most of each other's numbers
        assert bool(changed) == (of_parts != torch.float32)
    assert rounded.keys() <= {"lm", "vision"}


@pytest.mark.parametrize("half", [True, False])
def test_the_command_says_that_weights_were_rounded(tmp_path, capsys, half):
    """Around a language model in float16 a checkpoint in float32 loses digits of tables alone, with a line that
    names one; around one in float32, none.
    """
    lm = make_language_model("opt")
    checkpoint = tiny_open_flamingo(lm=lm)
    torch.save(checkpoint, tmp_path / "theirs.pt")
    (lm.half() if half else lm).save_pretrained(tmp_path / "opt")
    named = ["--lm", tmp_path / "opt"]
    status, out, _ = run(capsys, "convert", tmp_path / "theirs.pt", *named, "--out", tmp_path / "ours")
    said = [line.strip() for line in out.splitlines() if "rounded" in line]
    assert status == 0
    assert len(said) == half
    back = ["--to", "open_flamingo", "--out", tmp_path / "back.pt"]
    assert run(capsys, "convert", tmp_path / "ours", *named, *back)[0] == 0
    found = torch.load(tmp_path / "back.pt")
    changed = [name for name, tensor in checkpoint.items() if not torch.equal(found[name], tensor)]
    assert len(changed) == (3 if half else 0)
    assert all(".embed_" in name or "lm_head" in name for name in changed)
    for line in said:
        assert line.startswith("language model: of fewer digits than the checkpoint, so tensors of float32 are rounded")
        assert line.endswith(f": {changed[0]}, ... (3 in all); for all digits use one in float32")
