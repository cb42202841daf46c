"""One token a word, and clear words about those that are missing."""

import pytest

from flamingo_blocks.demo.words import (
    COLOURS,
    DIGITS,
    NAMES,
    NAMES_BESIDE_IMAGES,
    NEW_NAMES,
    THINGS,
    Vocabulary,
    demo_vocabulary,
)


def test_no_word_has_two_meanings():
    """Things, digits, colours and made-up names are all different words, and all are in the vocabulary once."""
    words = [*THINGS, *DIGITS, *COLOURS, *NAMES]
    assert len(set(words)) == len(words)
    vocabulary = demo_vocabulary()
    assert len(set(vocabulary.words)) == len(vocabulary.words)
    assert set(words) < set(vocabulary.words)


def test_eight_of_the_names_are_kept_for_the_test():
    """The names that stand beside images in training and the new ones have none in common."""
    assert (len(NAMES_BESIDE_IMAGES), len(NEW_NAMES)) == (40, 8)
    assert not set(NAMES_BESIDE_IMAGES) & set(NEW_NAMES)


def test_encoding_and_decoding_are_inverse_and_new_tokens_come_last(tmp_path):
    """Ids number the words, the new tokens behind those of the language model; a saved vocabulary is the same."""
    vocabulary = demo_vocabulary()
    text = "<bos> <image> this is a kulm <EOC>"
    ids = vocabulary.encode(text)
    assert vocabulary.decode(ids) == text
    assert (ids[1], ids[-1]) == (len(vocabulary.words), len(vocabulary.words) + 1)
    vocabulary.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == vocabulary


def test_an_unknown_word_is_named_with_close_ones():
    """The error says which word is unknown and which known words look like it."""
    with pytest.raises(ValueError, match=r"'kuml'.*kulm"):
        demo_vocabulary().encode("this is a kuml")
