"""A fast way that gives something else than whole texts is found, told and given up."""

import pytest
import torch

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode import candidate_scorer
from tests.evaluation.decode.drawn_episodes import after, alike, begun, decoder_of, query, shot

CANDIDATES = ["ab", "a", "abc", "b", "xyz"]
SHOTS = [shot(1), shot(2)]
QUERIES = [query(number) for number in range(4)]


def spoilt(prompt):
    """A prompt whose cache is that of another text: what a model would see that goes on wrongly from it."""
    for layer in prompt.state.cache.layers:
        layer.keys.mul_(0.5)
    return prompt


@pytest.mark.parametrize("num_beams", [1, 3])
def test_writing_from_a_wrong_cache_is_given_up(num_beams):
    """The answers are those of whole texts, a warning says so once, and the next cell does not share either."""
    decoder = decoder_of("llama", num_beams=num_beams)
    prompt = spoilt(begun(decoder, SHOTS))
    with pytest.warns(UserWarning, match="Answers are written without shared prompts from now on"):
        found = decoder.write(QUERIES, prompt=prompt)
    wanted = decoder_of("llama", num_beams=num_beams, share=False).write([after(SHOTS, one) for one in QUERIES])
    assert found == wanted
    decoder.new_cell()
    assert decoder.write(QUERIES, prompt=prompt) == wanted
    assert decoder.facts["writes_shared"] is False and len(decoder.facts["refused"]) == 1


def test_scores_from_a_wrong_cache_are_given_up():
    """First the tree, then sharing; what is left is right."""
    decoder = decoder_of("llama")
    prompt = spoilt(begun(decoder, SHOTS))
    with pytest.warns(UserWarning, match="Candidates are scored") as told:
        found = decoder.score(QUERIES, [CANDIDATES] * 4, prompt=prompt)
    assert ["'copies' in place of 'trie'" in str(told[0].message), "without shared" in str(told[1].message)] == [1, 1]
    alone = decoder_of("llama", share=False, scorer="rows")
    alike(found, alone.score([after(SHOTS, one) for one in QUERIES], [CANDIDATES] * 4))
    assert decoder.facts["scorer"] == "copies" and not decoder.facts["scores_shared"]
    assert decoder.facts["largest_difference"] < 1e-4


@pytest.mark.parametrize("error", [RuntimeError("no such mask"), None])
def test_a_tree_that_fails_is_given_up(monkeypatch, error):
    """Whether it raises or gives other numbers, copies take its place, behind the shared prompt as before."""

    def wrong(flamingo, rows, tries):
        if error is not None:
            raise error
        return [[-1.0] * len(trie.ends) for trie in tries]

    monkeypatch.setattr(candidate_scorer, "score_trie", wrong)
    decoder = decoder_of("llama")
    with pytest.warns(UserWarning, match="no such mask" if error else "log-probabilities are off by"):
        found = decoder.score(QUERIES, [CANDIDATES] * 4, prompt=begun(decoder, SHOTS))
    alike(
        found,
        decoder_of("llama", scorer="copies", share=True).score([after(SHOTS, q) for q in QUERIES], [CANDIDATES] * 4),
    )
    assert decoder.facts["scorer"] == "copies" and decoder.facts["scores_shared"]
    decoder.new_cell()
    assert decoder.facts["scorer"] == "copies"


def test_memory_that_runs_out_is_no_verdict(monkeypatch):
    """Batches are halved down to one query, and then the error is the caller's; nothing is given up."""
    full = candidate_scorer.score_trie
    sizes = []

    def short(flamingo, rows, tries):
        sizes.append(len(tries))
        if len(tries) > 1:
            raise torch.OutOfMemoryError("full")
        return full(flamingo, rows, tries)

    monkeypatch.setattr(candidate_scorer, "score_trie", short)
    decoder = decoder_of("llama")
    decoder.score(QUERIES, [CANDIDATES] * 4, prompt=begun(decoder, SHOTS))
    assert decoder.facts["scorer"] == "trie" and decoder.facts["refused"] == []
    assert sizes.count(1) == 2 + 4


@pytest.mark.parametrize("name", ["mpt", "bloom", "plain", "paper"])
def test_a_model_that_takes_no_positions_scores_behind_copies(name):
    """That is known without trying: it is told in the facts, and nobody is warned."""
    decoder = decoder_of(name)
    found = decoder.score(QUERIES, [CANDIDATES] * 4, prompt=begun(decoder, SHOTS))
    alone = decoder_of(name, flamingo=decoder.flamingo, share=False, scorer="rows")
    alike(found, alone.score([after(SHOTS, one) for one in QUERIES], [CANDIDATES] * 4))
    assert decoder.facts["scorer"] == "copies" and "takes no position_ids" in decoder.facts["not_made_for"][0]
    with pytest.raises(EvaluationError, match="scorer is 'trie', but .* takes no position_ids"):
        decoder_of(name, scorer="trie", share=True).score(QUERIES, [CANDIDATES] * 4)


def test_what_was_found_is_told():
    """Which ways are gone, how many queries were checked, and the work that was done."""
    decoder = decoder_of("llama")
    prompt = begun(decoder, SHOTS)
    before = decoder.facts["lm_tokens"]
    assert before == decoder.tokens(after(SHOTS[:1], SHOTS[1]))
    decoder.write(QUERIES, prompt=prompt)
    decoder.score(QUERIES, [CANDIDATES] * 4, prompt=prompt)
    facts = decoder.facts
    assert (facts["writes_shared"], facts["scores_shared"], facts["scorer"], facts["refused"]) == (
        True,
        True,
        "trie",
        [],
    )
    assert facts["checked"] == 4 + 2 and 0 <= facts["largest_difference"] < 1e-4
    assert facts["images_encoded"] == 6
    decoder.new_cell()
    decoder.score(QUERIES[:1], [CANDIDATES], prompt=prompt)
    assert decoder.facts["checked"] == 4 + 2 + 1  # of all cells
    assert decoder_of("llama", share=False, scorer="copies").facts["writes_shared"] is False


def test_half_precision_is_held_to_what_it_can_tell():
    """Rounding is no reason to give up what is right."""
    decoder = decoder_of("llama")
    decoder.flamingo.bfloat16()
    decoder.pool.reader = type(decoder.pool.reader)(preprocess=torch.Tensor.bfloat16)
    prompt = begun(decoder, SHOTS)
    decoder.write(QUERIES, prompt=prompt)
    decoder.score(QUERIES, [CANDIDATES] * 4, prompt=prompt)
    assert decoder.facts["refused"] == []
