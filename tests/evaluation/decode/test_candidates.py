"""Scores of candidates: all in one pass, or one after the other."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.decode.token_trie import TokenTrie, split
from tests.evaluation.decode.drawn_episodes import (
    END_OF_CHUNK,
    after,
    begun,
    decoder_of,
    nearly,
    numbers,
    processor_of,
    query,
    shot,
)

IN_ONE_PASS = ("llama", "qwen3", "opt", "gpt_neox", "gemma3", "gpt2", "phi")
words = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@pytest.mark.parametrize("name", IN_ONE_PASS)
@settings(max_examples=4)
@given(lists=st.lists(words, min_size=1, max_size=3), shots=st.integers(0, 2), terminator=st.booleans())
@pytest.mark.filterwarnings("ignore:candidate")
def test_one_pass_gives_what_whole_texts_give(name, lists, shots, terminator):
    """Each query has candidates of its own; the tree of their tokens gives the sums of texts that hold one each."""
    decoder = decoder_of(name, scorer="trie", share=True, terminator=terminator)
    support = [shot(number) for number in range(shots)]
    prompt, queries = begun(decoder, support), [query(number) for number in range(len(lists))]
    found = decoder.score(queries, lists, prompt=prompt)
    alone = decoder_of(name, flamingo=decoder.flamingo, scorer="rows", share=False, terminator=terminator)
    assert numbers(found) == nearly(alone.score([after(support, one) for one in queries], lists), 1e-5)


@settings(max_examples=8)
@given(candidates=words.filter(lambda drawn: len(drawn) > 1), data=st.data())
def test_candidates_do_not_see_each_other(candidates, data):
    """In another order the scores are in another order, and without one candidate the others stay as they are."""
    decoder = decoder_of("llama", scorer="trie", share=True)
    prompt = begun(decoder, [shot(1)])
    (whole,) = decoder.score([query(1)], [candidates], prompt=prompt)
    order = data.draw(st.permutations(range(len(candidates))))
    (moved,) = decoder.score([query(1)], [[candidates[place] for place in order]], prompt=prompt)
    assert moved.log_probs == pytest.approx([whole.log_probs[place] for place in order], abs=1e-5)
    (fewer,) = decoder.score([query(1)], [candidates[1:]], prompt=prompt)
    assert fewer.log_probs == pytest.approx(whole.log_probs[1:], abs=1e-5)


@settings(max_examples=6)
@given(candidates=words, memory_bytes=st.sampled_from([1, 200_000, 2**31]))
def test_little_memory_changes_no_score(candidates, memory_bytes):
    """The tree is cut into as many as fit, down to one candidate each."""
    decoder = decoder_of("llama", scorer="trie", share=True, memory_bytes=memory_bytes)
    wanted = decoder_of("llama", flamingo=decoder.flamingo, scorer="copies", share=True)
    asked = [query(1), query(2)]
    found, others = (one.score(asked, [candidates] * 2, prompt=one.begin(shot(1))) for one in (decoder, wanted))
    assert numbers(found) == nearly(others, 1e-5)


@settings(max_examples=3)
@given(lengths=st.lists(st.integers(1, 5), min_size=2, max_size=2), shots=st.integers(0, 1), asked=st.integers(1, 2))
def test_many_candidates_stand_beside_several_rows(lengths, shots, asked):
    """Where one row would cost more than two, there are two or more, each with the text of the query, and no score
    is another one.
    """
    candidates = sorted({"".join(letters)[:length] for letters in product("abcd", repeat=5) for length in lengths})
    candidates = candidates[:: max(1, len(candidates) // 90)]
    decoder = decoder_of("llama", scorer="trie", share=True)
    prompt, queries = begun(decoder, [shot(1)] * shots), [query(number) for number in range(asked)]
    before = decoder.facts["lm_tokens"]
    found = decoder.score(queries, [candidates] * asked, prompt=prompt)
    alone = decoder_of("llama", flamingo=decoder.flamingo, scorer="copies", share=False)
    wanted = alone.score([after([shot(1)] * shots, one) for one in queries], [candidates] * asked)
    assert numbers(found) == nearly(wanted, 1e-5)
    ids = [tuple(decoder.processor.tokenizer.encode(candidate)) for candidate in candidates]
    nodes = len({own[:n] for own in ids for n in range(1, len(own) + 1)})  # each is followed by the end at least
    texts = sum(decoder.tokens(one) for one in queries)
    read = decoder.facts["lm_tokens"] - before
    assert read >= asked * nodes + texts + (texts if nodes > 100 else 0)


@given(candidates=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=8))
def test_a_tree_holds_each_beginning_once(candidates):
    """The ways from its root spell the candidates, each node sees its own way, and no edge comes twice."""
    trie = TokenTrie.of(tuple(candidates))
    assert len(set(trie.edges)) == len(trie.edges) == len({c[:n] for c in candidates for n in range(1, len(c) + 1)})
    assert len(trie.nodes) == len({c[:n] for c in candidates for n in range(1, len(c))})
    sees = trie.sees()
    for candidate, end in zip(candidates, trie.ends, strict=True):
        parent, token = trie.edges[end]
        spelt = [token]
        while parent >= 0:
            own = sees[parent].nonzero()[:, 0].tolist()
            assert [trie.depths[node] for node in own] == list(range(len(candidate) - len(spelt)))
            parent, token = trie.edges[trie.nodes[parent]]
            spelt.append(token)
        assert tuple(reversed(spelt)) == candidate
    assert trie.totals([1.0] * len(trie.edges)) == [float(len(candidate)) for candidate in candidates]


@given(candidates=st.lists(st.lists(st.integers(0, 3), min_size=1).map(tuple), min_size=1), most=st.integers(1, 9))
def test_groups_hold_each_candidate_once(candidates, most):
    """Groups stay within their tokens, but for a candidate that has more by itself."""
    groups = split(tuple(candidates), most)
    assert sorted(number for group in groups for number in group) == list(range(len(candidates)))
    for group in groups:
        assert len(group) == 1 or sum(len(candidates[number]) for number in group) <= most


def test_the_tokens_of_a_candidate_are_those_of_text_and_candidate_together():
    """Behind a space the letter melts with it: the border moves back, and the sum is that of the whole text."""
    processor = processor_of(merges=True)
    decoder = decoder_of("llama", processor=processor, scorer="trie")
    asked = InterleavedDocument.from_parts([query(1).media[0], "O: "])
    (found,) = decoder.score([asked], [["ab", "b"]])
    together = InterleavedDocument.from_parts([query(1).media[0], "O: ab"])
    ids = torch.tensor([[*processor._example(together, for_training=False).input_ids, END_OF_CHUNK]])
    logits = decoder.flamingo(ids, media=decoder.pool.tokens(asked.media)).logits.detach()
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[0, -3:, 0]
    assert found.num_tokens == (3, 2)  # " a", "b", <EOC>; " b", <EOC>
    assert found.log_probs[0] == pytest.approx(float(chosen.sum()), abs=1e-5)


def test_the_end_keeps_a_candidate_from_winning_by_being_short():
    """Without it a text that begins another is the likelier one always, of which the decoder warns once."""
    decoder = decoder_of("llama", terminator=False)
    with pytest.warns(UserWarning, match="'a' begins candidate 'ab' and terminator is False"):
        (bare,) = decoder.score([query(1)], [["a", "ab"]])
    decoder.score([query(1)], [["a", "ab"]])
    (ended,) = decoder_of("llama").score([query(1)], [["a", "ab"]])
    assert bare.log_probs[0] > bare.log_probs[1] and bare.best == 0
    assert [one + 1 for one in bare.num_tokens] == list(ended.num_tokens)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (["a", "b", "a"], "candidate 2 is 'a', as candidate 0 is"),
        (["a", "  "], "candidate 1 is '  ', wanted a text"),
        ([], "candidates is \\[\\], wanted a list of texts"),
        ("yes", "candidates is 'yes', wanted a list of texts"),
    ],
)
def test_candidates_that_cannot_be_told_apart_are_refused(candidates, message):
    """Twice the same, nothing, or one text in place of a list."""
    with pytest.raises(EvaluationError, match=message):
        decoder_of("llama").score([query(1)], [candidates])


def test_each_query_has_a_list():
    """One list for two queries is a slip."""
    with pytest.raises(EvaluationError, match="queries has 2 queries, candidates 1 lists"):
        decoder_of("llama").score([query(1), query(2)], [["a"]])


def test_what_is_no_number_is_an_error():
    """A model whose weights hold NaN gives no scores, and the message says where."""
    decoder = decoder_of("llama", scorer="trie", share=True)
    with torch.no_grad():
        decoder.flamingo.lm.lm_head.weight[5] = math.nan
    with pytest.raises(
        EvaluationError, match="query 0: the log-probability of candidate 'a' is nan, wanted a finite one"
    ):
        decoder.score([query(1)], [["a", "b"]])
