"""Every family of language models passes the suite that users run on theirs, and can do what the table says."""

from flamingo_blocks.testing import check_language_model
from tests.language_families import FAMILIES, parametrised
from tests.language_models import make_language_model

PLAIN_CANNOT = (
    "left pads",
    "pads between turns",
    "packed documents",
    "cached prompts",
    "beams",
    "static cache",
    "prompt look-up",
)


# Near to another in the table, so that they are left to the sessions `full` and `floor`.
ALIKE = ("mistral", "falcon_alibi", "bloom", "mixtral", "falcon_h1", "qwen3_next")


@parametrised(FAMILIES, in_every_run=FAMILIES.keys() - ALIKE)
def test_a_family_can_do_what_the_table_says(name):
    """What must hold holds, and what else the model can do is what is written down, for this transformers."""
    family = FAMILIES[name]
    report = check_language_model(make_language_model(name))
    assert (report.layers, report.num_layers, report.dim) == (family.layers, family.num_layers, 32)
    assert {check for check in report.holds if not report.can(check)} == {
        check for check in report.holds if not family.can(check)
    }


def test_a_decoder_of_plain_torch_can_do_what_needs_no_mask_and_no_cache():
    """Pads, packed documents and other ways of generating are refused by name."""
    report = check_language_model(make_language_model("plain"))
    assert tuple(check for check in report.holds if not report.can(check)) == PLAIN_CANNOT
    assert all(len(report.holds[check]) > 30 for check in PLAIN_CANNOT)
