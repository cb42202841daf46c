"""The text that the language model learns from."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.demo.corpus import KEYS, binding_documents, draw_distinct, plain_documents, text_batch
from flamingo_blocks.demo.words import NAMES, demo_vocabulary

VOCABULARY = demo_vocabulary()


@given(seed=st.integers(0, 10**6), length=st.integers(1, 70))
def test_a_document_gives_each_thing_one_name(seed, length):
    """In a document a thing always has the same name, no two things share one, and both stand in a fixed sentence."""
    ids = binding_documents(VOCABULARY, batch=3, length=length, generator=torch.Generator().manual_seed(seed))
    assert ids.shape == (3, length)
    for row in ids.tolist():
        start, *words = VOCABULARY.decode(row).split()
        assert start == "<bos>"
        whole = [words[i : i + 6] for i in range(0, len(words) - 5, 6)]
        assert all(sentence[1:4] == ["this", "is", "a"] and sentence[5] == "." for sentence in whole)
        named = {(sentence[0], sentence[4]) for sentence in whole}
        things, names = {thing for thing, _ in named}, {name for _, name in named}
        assert len(things) == len(names) == len(named) <= 6
        assert things <= set(KEYS)
        assert names <= set(NAMES)


def test_names_are_drawn_anew_in_each_document(generator):
    """No thing keeps its name: a name cannot be known without reading the document."""
    ids = binding_documents(VOCABULARY, batch=200, length=61, generator=generator)
    sentences = ids[:, 1:].reshape(-1, 6)
    names = sentences[sentences[:, 0] == VOCABULARY.ids["fox"], 4]
    assert len(set(names.tolist())) > 3


def test_plain_documents_are_sentences_of_known_kinds(generator):
    """Each sentence of a plain document is a caption without image, or about counting."""
    for row in plain_documents(VOCABULARY, batch=20, length=65, generator=generator).tolist():
        text = VOCABULARY.decode(row)
        sentences = text.removeprefix("<bos> ").split(" . ")[:-1]
        assert all(s.startswith(("an image of a ", "here is the digit ")) or " comes after " in s for s in sentences)
        assert {s for s in sentences if " comes after " in s} <= {
            f"{later} comes after {earlier}" for earlier, later in zip(KEYS[-16:-7], KEYS[-15:-6], strict=True)
        }


def test_no_text_holds_a_new_token(generator):
    """`<image>` and `<EOC>` are new to the language model: no text of its training has them."""
    ids = text_batch(VOCABULARY, batch=64, length=65, generator=generator)
    assert ids.shape == (64, 65)
    assert int(ids.max()) < len(VOCABULARY.words)


@given(seed=st.integers(0, 10**6), choices=st.integers(1, 9), data=st.data())
def test_distinct_draws_are_distinct(seed, choices, data):
    """Each row holds different numbers below the number of choices."""
    count = data.draw(st.integers(0, choices))
    drawn = draw_distinct(4, choices, count, torch.Generator().manual_seed(seed))
    assert drawn.shape == (4, count)
    assert all(len(set(row)) == count and set(row) <= set(range(choices)) for row in drawn.tolist())
