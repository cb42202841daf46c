"""Heads and distances that a caller says: what fits is taken, all else is a clear error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import export_foreign, idefics_parts, load_foreign
from flamingo_blocks.interop.families._templates import heads_of
from tests.interop.foreign_models import ForeignCase
from tests.interop.transformers_peers import tiny_idefics

CASE = ForeignCase("open_flamingo", depth=4, every=2, latents=2, resampler_depth=1, frames=0, new_rows=True, seed=1)


@given(st.integers(1, 300), st.sampled_from(["num_heads", "head_dim"]), st.integers(-3, 100_000))
def test_heads_fill_the_rows_or_are_refused(inner, option, told):
    """Whatever is told, heads times their width are the rows of the tensor, and what was told stays; or it is an error
    that names what to pass.
    """
    words = {"num_heads": None, "head_dim": 64, option: told}
    if told < 1:
        with pytest.raises(ValueError, match=f"of_{option} is {told}, wanted a whole number .*; omit of_{option}="):
            heads_of(inner, name="q", of="of_", **words)
    elif inner % told:
        with pytest.raises(CheckpointError, match=f"q has {inner} rows, .* {told}.*; pass of_num_heads= or of_head"):
            heads_of(inner, name="q", of="of_", **words)
    else:
        found = heads_of(inner, name="q", **words)
        assert (found["num_heads"] * found["head_dim"], found[option]) == (inner, told)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 100_000}, "has 128 rows, which are not 100000 heads of one width; pass num_heads= or head_dim="),
        ({"num_heads": 0}, "num_heads is 0, wanted a whole number above 0; omit num_heads= for the default"),
        ({"head_dim": 0}, "head_dim is 0, wanted a whole number above 0; omit head_dim= for the default"),
        ({"every": 0}, "every is 0, wanted a whole number above 0; omit every= where it is not known"),
    ],
)
def test_loading_refuses_counts_that_cannot_be(options, message):
    """None is divided by, or taken for nothing said."""
    with pytest.raises(ValueError, match=message):
        load_foreign(export_foreign(CASE.build(), family=CASE.family), lm=CASE.language_model(), **options)


@pytest.mark.parametrize("option", ["num_heads", "every", "resampler_num_heads", "resampler_head_dim"])
def test_idefics_refuses_them_too(option):
    """A zero is not the language model's own number; the resampler's options are called by their names."""
    peer = tiny_idefics()
    parts = idefics_parts(peer.config)
    if option == "resampler_head_dim":
        del parts["resampler_num_heads"]
    with pytest.raises(ValueError, match=rf"^{option} is 0, wanted a whole number above 0"):
        load_foreign(peer.state_dict(), **(parts | {option: 0}))
