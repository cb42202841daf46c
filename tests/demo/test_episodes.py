"""Naming episodes and captions: what is held out stays out, and supports are balanced."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

from flamingo_blocks.data import (
    FlamingoExample,
    ImageSegment,
    InterleavedDocument,
    collate,
    document_labels,
    tokenize_document,
)
from flamingo_blocks.demo.episodes import EpisodeSource, caption_ids, draw_captions
from flamingo_blocks.demo.image_bank import ImageBank
from flamingo_blocks.demo.images import NUM_PAIRS, SEEN_PAIRS, UNSEEN_PAIRS
from flamingo_blocks.demo.language_model import TinyDecoder
from flamingo_blocks.demo.model import build_flamingo, to_batch
from flamingo_blocks.demo.tower import DigitTower
from flamingo_blocks.demo.words import NAMES_BESIDE_IMAGES, NEW_NAMES, demo_vocabulary

VOCABULARY = demo_vocabulary()
BANK = ImageBank(features=torch.zeros(20 * NUM_PAIRS, 1, 1), pairs=torch.arange(20 * NUM_PAIRS) % NUM_PAIRS)
TRAINING = EpisodeSource(bank=BANK, vocabulary=VOCABULARY, pairs=SEEN_PAIRS, names=NAMES_BESIDE_IMAGES, hard_share=0.5)
FLAMINGO = build_flamingo(DigitTower(), TinyDecoder(vocab_size=len(VOCABULARY.words)), VOCABULARY)
TEST = EpisodeSource(bank=BANK, vocabulary=VOCABULARY, pairs=UNSEEN_PAIRS, names=NEW_NAMES)
HARD = EpisodeSource(bank=BANK, vocabulary=VOCABULARY, pairs=UNSEEN_PAIRS, names=NEW_NAMES, hard_share=1.0)


def name_columns(ids):
    """The names of each row, in the order of its images."""
    return ids[:, 1:].unflatten(1, (-1, 6))[..., 4]


@given(seed=st.integers(0, 10**6))
def test_training_never_shows_what_is_held_out(seed):
    """No training episode has an unseen pair or a new name, and no caption has an unseen pair."""
    generator = torch.Generator().manual_seed(seed)
    texts = TRAINING.training(batch=16, num_images=9, num_names=(2, 5), generator=generator).texts
    captions = draw_captions(BANK, VOCABULARY, pairs=SEEN_PAIRS, batch=16, generator=generator)
    shown = {*BANK.pairs[texts.images].flatten().tolist(), *BANK.pairs[captions.images].flatten().tolist()}
    words = set(VOCABULARY.decode(texts.input_ids.flatten().tolist()).split())
    assert shown <= set(SEEN_PAIRS)
    assert not words & set(NEW_NAMES)
    assert words <= {"<bos>", "<image>", "this", "is", "a", "<EOC>", *NAMES_BESIDE_IMAGES}


@given(seed=st.integers(0, 10**6), source=st.sampled_from([TRAINING, TEST, HARD]), shots=st.integers(0, 9))
def test_a_name_means_one_pair_throughout_an_episode(seed, source, shots):
    """Images of one pair have one name, images of two pairs have two, and no image comes twice."""
    generator = torch.Generator().manual_seed(seed)
    if source is TRAINING:
        texts = source.training(batch=8, num_images=shots + 1, num_names=(2, 5), generator=generator).texts
    else:
        texts = source.test(batch=8, shots=shots, num_names=2, generator=generator).texts
    assert texts.images.shape == (8, shots + 1)
    names, pairs = name_columns(texts.input_ids), BANK.pairs[texts.images]
    assert torch.equal(names[:, :, None] == names[:, None], pairs[:, :, None] == pairs[:, None])
    assert all(len(set(row)) == len(row) for row in texts.images.tolist())


@given(seed=st.integers(0, 10**6))
def test_names_are_unknowable_at_their_first_mention_only(seed):
    """In an episode the first mention of each name is marked, and no other token."""
    texts = TRAINING.training(
        batch=4, num_images=9, num_names=(2, 5), generator=torch.Generator().manual_seed(seed)
    ).texts
    for words, marks in zip(texts.input_ids.tolist(), texts.unknowable.tolist(), strict=True):
        names = set(VOCABULARY.decode(words).split()) & set(NAMES_BESIDE_IMAGES)
        assert {place for place, mark in enumerate(marks) if mark} == {words.index(VOCABULARY.ids[n]) for n in names}


@given(seed=st.integers(0, 10**6), shots=st.integers(0, 12), num_names=st.integers(2, 5))
def test_shots_show_each_name_once_before_any_twice(seed, shots, num_names):
    """In a test episode the names' counts among the shots differ by at most one."""
    episodes = TEST.test(batch=8, shots=shots, num_names=num_names, generator=torch.Generator().manual_seed(seed))
    for row, offered in zip(name_columns(episodes.texts.input_ids).tolist(), episodes.names.tolist(), strict=True):
        counts = Counter(row[:-1])
        assert set(row) <= set(offered)
        assert max(counts[name] for name in offered) - min(counts[name] for name in offered) <= 1


def test_the_question_has_any_name_and_the_answer_says_which(generator):
    """The asked name is uniform over the episode's names, and `answer` points at it."""
    episodes = TEST.test(batch=1000, shots=2, num_names=5, generator=generator)
    asked = name_columns(episodes.texts.input_ids)[:, -1]
    assert torch.equal(episodes.names.gather(1, episodes.answer[:, None])[:, 0], asked)
    assert episodes.answer.bincount().min() > 150
    assert torch.equal(episodes.prompts().input_ids, episodes.texts.input_ids[:, :-2])
    assert torch.equal(episodes.texts.input_ids[:, -2], asked)


def test_hard_episodes_share_a_colour_or_a_digit(generator):
    """In hard episodes all images have one colour or one digit; in half of the training ones."""
    pairs = BANK.pairs[HARD.test(batch=200, shots=4, num_names=2, generator=generator).texts.images]
    same_colour, same_digit = ((pairs % 6 == pairs[:, :1] % 6).all(1), (pairs // 6 == pairs[:, :1] // 6).all(1))
    assert (same_colour | same_digit).all()
    assert same_colour.any()
    assert same_digit.any()
    pairs = BANK.pairs[TRAINING.training(batch=400, num_images=9, num_names=(3, 5), generator=generator).texts.images]
    like = (pairs % 6 == pairs[:, :1] % 6).all(1) | (pairs // 6 == pairs[:, :1] // 6).all(1)
    assert 0.4 < like.float().mean() < 0.65


def test_hard_episodes_of_more_names_than_two_are_refused(generator):
    """Some colours and digits have two unseen pairs only."""
    with pytest.raises(ValueError, match="num_names is 5, but hard episodes have two"):
        HARD.test(batch=1, shots=1, num_names=5, generator=generator)


def test_a_caption_says_what_its_image_shows(generator):
    """Image and caption have the same pair, drawn from the pairs that are allowed."""
    captions = draw_captions(BANK, VOCABULARY, pairs=UNSEEN_PAIRS, batch=50, generator=generator)
    pairs = BANK.pairs[captions.images[:, 0]]
    assert set(pairs.tolist()) <= set(UNSEEN_PAIRS)
    assert torch.equal(captions.input_ids, caption_ids(VOCABULARY)[pairs])
    assert VOCABULARY.decode(caption_ids(VOCABULARY)[44].tolist()) == "<bos> <image> an image of a blue seven <EOC>"


@given(seed=st.integers(0, 10**6), captioned=st.booleans())
def test_a_batch_is_what_the_data_side_makes_of_its_documents(seed, captioned):
    """Ids, layout, plan and items equal those of the same documents, tokenised and collated; so do the labels."""
    generator = torch.Generator().manual_seed(seed)
    if captioned:
        texts = draw_captions(BANK, VOCABULARY, pairs=SEEN_PAIRS, batch=3, generator=generator)
    else:
        texts = TRAINING.training(batch=3, num_images=4, num_names=(2, 3), generator=generator).texts
    examples = []
    for ids, images in zip(texts.input_ids.tolist(), texts.images.tolist(), strict=True):
        chunks = VOCABULARY.decode(ids).split("<image> ")[1:]
        document = InterleavedDocument.from_parts(
            part for chunk in chunks for part in (ImageSegment(), chunk.split(" <EOC>")[0])
        )
        tokenized = tokenize_document(document, tokenizer=VOCABULARY, special=VOCABULARY.special)
        labels = document_labels(tokenized, special=VOCABULARY.special)
        features = [BANK.features[image][None] for image in images]
        examples.append(FlamingoExample(tokenized.ids, tokenized.tags, features=features, labels=labels))
    made = collate(examples, pad_id=0)
    batch = to_batch(texts, BANK, FLAMINGO)
    assert torch.equal(batch.input_ids, made.input_ids)
    assert torch.equal(batch.features, made.features)
    for one, two in zip(pytree.tree_leaves(batch.layout), pytree.tree_leaves(made.layout), strict=True):
        assert torch.equal(one, two)
    unknowable = torch.zeros_like(made.labels, dtype=torch.bool) if texts.unknowable is None else texts.unknowable
    assert torch.equal(batch.labels[:, 1:], made.labels.masked_fill(unknowable, -100)[:, 1:])  # column 0 is no target
