"""What a model reads of a document, in runs."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import InterleavedDocument, SpecialTokens, document_labels, tokenize_document
from flamingo_blocks.data.show import SeenDocument, SeenRun, WordTokenizer, see_document
from tests.data.test_tokenize import BOS, EOC, EOS, LETTERS, PAPER, TAG, segment_lists, specials, tagged

LAYOUTS = (
    {}, {"scope": "all"}, {"scope": "grouped"}, {"direction": "next"}, {"group_consecutive": True},
)  # fmt: skip
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
ends = st.fixed_dictionaries({name: st.booleans() for name in ("end_before_media", "end_before_first_media")})
losses = st.fixed_dictionaries({name: st.booleans() for name in ("mask_between_chunks", "mask_before_first_media")})


def see(document, special=PAPER, **further):
    return see_document(document, tokenizer=LETTERS, special=special, **further)


def naive_sees(document, *, scope="last", direction="previous", group_consecutive=False):
    """For each segment of a merged document the images that it sees, by the definition; an image sees itself."""
    segments = document.merged().segments
    places = [place for place, segment in enumerate(segments) if not hasattr(segment, "text")]
    found = []
    for place in range(len(segments)):
        if direction == "next":
            later = [item for item, at in enumerate(places) if at >= place]
            found.append(later[:1])
            continue
        sees = [item for item, at in enumerate(places) if at <= place]
        if scope == "all" or not sees:
            found.append(sees)
            continue
        group = sees[-1:]
        if group_consecutive or scope == "grouped":
            while group[0] > 0 and places[group[0] - 1] == places[group[0]] - 1:
                group.insert(0, group[0] - 1)
        found.append(group)
    return found


@each_layout
@given(segments=segment_lists)
def test_text_sees_what_the_definition_says(segments, layout):
    """For each scope and direction: the runs of text and tags, one by one."""
    document = InterleavedDocument(segments)
    seen = see(document, end_before_media=False, **layout)
    wanted = naive_sees(document, **layout)
    assert [list(run.sees) for run in seen.runs if run.kind in ("text", "media")] == wanted


@each_layout
@given(segments=segment_lists, ids=specials, end=ends, loss=losses)
def test_runs_are_the_tokens(segments, ids, layout, end, loss):
    """Every token is in a run, with its kind and its label; text decodes to what it was."""
    document, special = InterleavedDocument(segments), SpecialTokens(**ids)
    tokenized = tokenize_document(document, tokenizer=LETTERS, special=special, **end)
    labels = document_labels(tokenized, special=special, **loss)
    seen = see(document, special, **layout, **end, **loss)
    written, predicted = [], []
    names = {"bos": [special.bos], "eos": [special.eos], "end_of_chunk": [special.end_of_chunk]}
    for run in seen.runs:
        ids_of_run = LETTERS.encode(run.text) if run.kind == "text" else names.get(run.kind, list(special.media_ids))
        assert len(ids_of_run) == run.num_tokens
        written += ids_of_run
        predicted += [-100] * run.num_tokens if run.ignored else ids_of_run
    assert tuple(written) == tokenized.ids
    assert tuple(predicted) == labels
    assert seen.count() == len(labels)
    assert seen.num_predicted == sum(label != -100 for label in labels)
    assert seen.media == tokenized.media
    assert sum(run.kind == "media" for run in seen.runs) == len(seen.media)


def test_a_document_in_runs():
    """The paper's layout, run by run."""
    runs = see(tagged("ab<image>c<image>")).runs
    assert runs == (
        SeenRun("bos", 0, -1, 1, True),
        SeenRun("text", 0, -1, 2, False, "ab"),
        SeenRun("end_of_chunk", 0, -1, 1, False),
        SeenRun("media", 0, 0, 1, True),
        SeenRun("text", 0, 0, 1, False, "c"),
        SeenRun("end_of_chunk", 0, 0, 1, False),
        SeenRun("media", 1, 1, 1, True),
        SeenRun("end_of_chunk", 1, 1, 1, False),
        SeenRun("eos", 1, 1, 1, False),
    )


def test_one_id_for_begin_end_and_end_of_chunk():
    """Their place tells them apart, as in models whose one special token is the end of text."""
    one = SpecialTokens(media=TAG, end_of_chunk=EOS, bos=EOS, eos=EOS)
    kinds = [run.kind for run in see(tagged("a<image>b"), one).runs]
    assert kinds == ["bos", "text", "end_of_chunk", "media", "text", "end_of_chunk", "eos"]


@pytest.mark.parametrize("direction", ["previous", "next"])
def test_a_tag_of_several_tokens_is_one_run(direction):
    """It sees its own image, all of it."""
    special = replace(PAPER, media=(60, 105, 62))
    tags = [run for run in see(tagged("<image><image>b"), special, direction=direction).runs if run.kind == "media"]
    assert [(list(run.sees), run.num_tokens) for run in tags] == [([0], 3), ([1], 3)]


def test_an_end_of_chunk_that_the_text_says_is_no_text():
    """And parts the text in two."""
    special = replace(PAPER, end_of_chunk_text="<EOC>")
    runs = see(InterleavedDocument.from_parts(["ab<EOC>c"]), special).runs
    assert [(run.kind, run.text) for run in runs[1:4]] == [("text", "ab"), ("end_of_chunk", ""), ("text", "c")]


def test_ends_of_chunk_side_by_side_are_two():
    """Each is a tag of its own."""
    special = replace(PAPER, end_of_chunk_text="<EOC>")
    runs = see(InterleavedDocument.from_parts(["a<EOC><EOC>"]), special).runs
    assert [run.kind for run in runs] == ["bos", "text", "end_of_chunk", "end_of_chunk", "eos"]


def test_nothing_is_no_runs():
    """A document without segments, where nothing is written before and after it."""
    assert see(InterleavedDocument(()), SpecialTokens(media=TAG, end_of_chunk=EOC)) == SeenDocument((), ())
    assert [run.kind for run in see(InterleavedDocument(())).runs] == ["bos", "eos"]
    assert BOS != EOS


@given(st.text(max_size=30))
def test_words_are_given_back_as_they_were(text):
    """With every space; as many as `str.split` finds, or one for space alone."""
    words = WordTokenizer()
    ids = words.encode(text)
    assert words.decode(ids) == text
    assert len(ids) == (len(text.split()) or bool(text))


@given(st.lists(st.text(max_size=10), max_size=4))
def test_ids_of_words_are_not_those_of_tags(texts):
    """And the same word has the same id each time."""
    words = WordTokenizer()
    first = [words.encode(text) for text in texts]
    assert [words.encode(text) for text in texts] == first
    special = words.special
    taken = {*special.media_ids, special.end_of_chunk, special.bos, special.eos}
    assert len(taken) == 4
    assert not taken & {token for ids in first for token in ids}
