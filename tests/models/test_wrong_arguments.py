"""What a model says about ids, labels, prompts and candidates that are none."""

import pytest
import torch

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock, MediaLayout
from flamingo_blocks.lm import attach_token_rows
from flamingo_blocks.models import PaperLanguageModel, build_tiny_flamingo, every_layer
from flamingo_blocks.ops import linear_cross_entropy

pytestmark = pytest.mark.usefixtures("without_shape_checks")
PIXELS = torch.zeros(1, 1, 3, 8, 8)


@pytest.fixture(scope="module")
def flamingo():
    """32 words and two tokens of its own."""
    return build_tiny_flamingo()


@pytest.fixture
def ids(flamingo):
    """A text with one image."""
    return torch.tensor([[1, flamingo.media_token_id, 5]])


@pytest.mark.parametrize("method", ["forward", "generate", "prefill", "make_layout"])
def test_a_prompt_is_what_prefill_gave(method, flamingo, ids):
    """Its ids are none."""
    with pytest.raises(TypeError, match=r"prompt is a Tensor, wanted a PromptState: flamingo.prefill\(input_ids"):
        getattr(flamingo, method)(ids, prompt=ids)


def test_score_goes_on_from_a_prompt(flamingo, ids):
    """As the other methods do."""
    with pytest.raises(TypeError, match="prompt is a list, wanted a PromptState"):
        flamingo.score(ids, [[1]], prompt=[1, 2])


@pytest.mark.parametrize(
    ("candidates", "error", "message"),
    [
        ([[1], [2, 999]], ValueError, "candidate 1 holds token id 999, but the model predicts ids 0 to 33"),
        ([[34]], ValueError, "candidate 0 holds token id 34"),
        ([[-1]], ValueError, "candidate 0 holds token id -1"),
        ([[1.5]], TypeError, "candidate 0 holds 1.5, wanted token ids"),
    ],
)
def test_candidates_are_of_the_vocabulary(candidates, error, message, flamingo, ids):
    """The model has no logit for others."""
    with pytest.raises(error, match=message):
        flamingo.score(ids, candidates, pixels=PIXELS)


def test_the_last_id_of_the_vocabulary_is_a_candidate(flamingo, ids):
    """The id of a new token."""
    assert flamingo.score(ids, [[33]], pixels=PIXELS).log_probs.isfinite().all()


@pytest.mark.parametrize("method", ["forward", "generate", "prefill"])
@pytest.mark.parametrize("with_rows", [True, False])
def test_ids_are_not_negative(method, with_rows, flamingo):
    """With rows of new tokens, and without."""
    if not with_rows:
        lm = PaperLanguageModel(vocab_size=10, dim=16, depth=2, num_heads=2)
        blocks = every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2))
        flamingo = Flamingo(lm=lm, blocks=blocks, media_token_id=9)
    with pytest.raises(ValueError, match="input_ids hold -100, wanted ids of 0 or more; only labels have -100"):
        getattr(flamingo, method)(torch.tensor([[1, -100]]))


@pytest.mark.parametrize("method", ["forward", "generate", "prefill"])
@pytest.mark.parametrize(("num_new_tokens", "known"), [(0, 10), (2, 12)])
def test_ids_are_known(method, num_new_tokens, known):
    """With rows of new tokens, and without; the last id that there is is read."""
    _, build = make(num_new_tokens=num_new_tokens)
    flamingo = build().eval()
    with pytest.raises(ValueError, match=f"input_ids hold {known}, but the model knows ids 0 to {known - 1}: 10 of"):
        getattr(flamingo, method)(torch.tensor([[1, known]]))
    layout = MediaLayout.from_tokens(torch.zeros(1, 2, dtype=torch.bool))  # the last id may be the media tag
    assert flamingo(torch.tensor([[1, known - 1]]), layout=layout).logits.shape == (1, 2, known)


def test_rows_of_new_tokens_know_no_negative_id():
    """Also where the language model is called without a `Flamingo`."""
    lm = PaperLanguageModel(vocab_size=10, dim=16, depth=2, num_heads=2)
    attach_token_rows(lm, 2)
    with pytest.raises(IndexError, match="token id -1 is out of range: the model knows ids 0 to 11"):
        lm(torch.tensor([[1, -1]]))


def test_labels_are_integers(flamingo, ids):
    """Floats would be an index into the logits."""
    with pytest.raises(ValueError, match="labels is torch.float32, wanted integers: token ids, -100 where"):
        flamingo(ids, pixels=PIXELS, labels=ids.float())
    with pytest.raises(TypeError, match="labels is a list, wanted a tensor of ids"):
        flamingo(ids, pixels=PIXELS, labels=ids.tolist())
    with pytest.raises(ValueError, match="labels is torch.bool, wanted integers"):
        linear_cross_entropy(torch.zeros(2, 4), torch.zeros(5, 4), torch.ones(2, dtype=torch.bool))


def make(blocks=None, **options):
    """A Flamingo of two layers, and its language model."""
    lm = PaperLanguageModel(vocab_size=10, dim=16, depth=2, num_heads=2)
    blocks = blocks or every_layer(lm, lambda: GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2))
    return lm, lambda: Flamingo(lm=lm, blocks=blocks, media_token_id=9, **options)


def test_an_unknown_scope_is_refused_when_the_model_is_made():
    """Not at its first call; the language model has no hook left."""
    lm, build = make(scope="first")
    with pytest.raises(ValueError, match='scope is \'first\', wanted "last", "all" or "grouped"'):
        build()
    assert not any(module._forward_pre_hooks for module in lm.modules())


def test_each_layer_has_a_block_of_its_own():
    """One that stands before two would be saved twice, and not loaded; the language model has no hook left."""
    block = GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)
    lm, build = make({0: block, 1: block})
    with pytest.raises(
        ValueError, match=r"one GatedCrossAttentionBlock for the layers \[0, 1\], wanted a block of its"
    ):
        build()
    assert not any(module._forward_pre_hooks for module in lm.modules())
