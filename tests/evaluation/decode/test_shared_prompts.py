"""Answers behind a prompt that was run once are those of whole texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.decode.drawn_episodes import after, alike, begun, decoder_of, query, shot
from tests.language_models import make_language_model

NAMES = ("llama", "opt", "gemma3", "gpt_neox", "qwen3", "mpt", "bloom")
CANDIDATES = ["ab", "a", "abc", "b", "xyz"]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=4)
@given(shots=st.integers(0, 3), numbers=st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_what_is_written_behind_a_shared_prompt_is_what_whole_texts_give(name, num_beams, shots, numbers):
    """Greedy and with beams, for any number of shots and queries: the same tokens, text and reason to stop."""
    decoder = decoder_of(name, num_beams=num_beams, share=True)
    support = [shot(number) for number in range(shots)]
    prompt = begun(decoder, support)
    found = decoder.write([query(number) for number in numbers], prompt=prompt)
    for number, one in zip(numbers, found, strict=True):
        assert [one] == decoder.write([after(support, query(number))])
    assert decoder.pool.encoded == shots + len(set(numbers))


@pytest.mark.parametrize("name", ["plain", "paper"])
def test_a_model_without_a_cache_writes_the_same_behind_a_prompt(name):
    """Its text is run again; its images are not encoded again."""
    decoder = decoder_of(name)
    prompt = begun(decoder, [shot(1), shot(2)])
    found = decoder.write([query(1), query(2)], prompt=prompt)
    assert found == decoder_of(name, share=False).write([after([shot(1), shot(2)], query(n)) for n in (1, 2)])
    assert decoder.pool.encoded == 4
    assert decoder.facts["refused"] == []


@pytest.mark.parametrize("name", ["llama", "mpt", "plain"])
@settings(max_examples=2)
@given(order=st.permutations(range(4)))
def test_neither_batches_nor_order_change_anything(name, order):
    """One query at once, three or all, in any order: the same answers, and scores within 1e-4."""
    queries, few = [query(number) for number in range(4)], CANDIDATES[:2]
    wanted = None
    for max_rows, places in ((1, range(4)), (3, order), (8, order)):
        decoder = decoder_of(name, max_rows=max_rows)
        prompt = begun(decoder, [shot(1)])
        asked = [queries[place] for place in places]
        written, scores = decoder.write(asked, prompt=prompt), decoder.score(asked, [few] * 4, prompt=prompt)
        by_query = dict(zip(places, zip(written, scores, strict=True), strict=True))
        if wanted is None:
            wanted = by_query
        assert [by_query[place][0] for place in range(4)] == [wanted[place][0] for place in range(4)]
        alike([by_query[place][1] for place in range(4)], [wanted[place][1] for place in range(4)])


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_a_prompt_that_grows_is_one_that_was_run_at_once(name):
    """2 shots behind 2 others give the answers and scores of 4 shots in one go; the shorter prompt stays as it is."""
    decoder = decoder_of(name, num_beams=3)
    two = decoder.begin(after([shot(0)], shot(1)))
    before = decoder.score([query(0)], [CANDIDATES], prompt=two)
    four = decoder.begin(after([shot(2)], shot(3)), before=two)
    once = decoder.begin(after([shot(n) for n in range(3)], shot(3)))
    assert four.ids == once.ids
    assert decoder.write([query(0), query(3)], prompt=four) == decoder.write([query(0), query(3)], prompt=once)
    alike(decoder.score([query(0)], [CANDIDATES], prompt=four), decoder.score([query(0)], [CANDIDATES], prompt=once))
    assert decoder.score([query(0)], [CANDIDATES], prompt=two) == before


def test_text_behind_the_last_end_is_run_with_the_query():
    """A line break behind `<EOC>` may melt into the text that follows it, so that it is no part of what is shared."""
    decoder = decoder_of("llama")
    support = after([shot(1)], type(shot(1)).from_parts(["\n"]))
    prompt = decoder.begin(support)
    blind = type(shot(1)).from_parts(["O:"])
    assert len(prompt.ids) == decoder.tokens(shot(1))
    assert decoder.write([blind], prompt=prompt) == decoder.write([after([support], blind)])


def test_a_prompt_in_text_alone_is_shared():
    """The two shots without images of the paper's 0 shots, and a query with one."""
    decoder = decoder_of("llama", num_beams=3)
    text = type(shot(1)).from_parts(["O:cat<EOC>O:dog<EOC>"])
    found = decoder.write([query(1), query(2)], prompt=decoder.begin(text))
    assert found == decoder.write([after([text], query(1)), after([text], query(2))])
    assert decoder.facts["writes_shared"]


@pytest.mark.parametrize("window", [8, 64])
@pytest.mark.parametrize("name", ["gemma3", "mistral"])
def test_a_window_shorter_than_the_prompt_changes_nothing(name, window):
    """Queries of other lengths run apart then, and candidates behind copies: the numbers are those of whole texts."""
    lm = make_language_model(name, sliding_window=window)
    decoder = decoder_of(name, lm=lm)
    support = [shot(number) for number in range(3)]
    prompt, queries = begun(decoder, support), [query(number) for number in range(4)]
    whole = [after(support, one) for one in queries]
    alone = decoder_of(name, flamingo=decoder.flamingo, share=False, scorer="rows")
    assert decoder.write(queries, prompt=prompt) == alone.write(whole)
    alike(decoder.score(queries, [CANDIDATES] * 4, prompt=prompt), alone.score(whole, [CANDIDATES] * 4))
    assert decoder.facts["scorer"] == ("trie" if window == 64 else "copies")
    assert decoder.facts["writes_shared"] and decoder.facts["refused"] == []


def test_prompts_are_not_shared_when_told_so():
    """Nothing is run by `begin`, and all is run with the queries."""
    decoder = decoder_of("llama", share=False)
    prompt = begun(decoder, [shot(1), shot(2)])
    assert prompt.state is None and decoder.facts["lm_tokens"] == 0
    found = decoder.write([query(1)], prompt=prompt)
    assert found == decoder.write([after([shot(1), shot(2)], query(1))])
    assert decoder.facts["lm_tokens"] == 2 * (decoder.tokens(after([shot(1), shot(2)], query(1))) + 3)
