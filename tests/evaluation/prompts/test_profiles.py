"""Prompts of both profiles: their very text, and that no text of a task forges a tag."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, SpecialTokens, tokenize_document
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prompts import OPEN_FLAMINGO, PAPER, PROFILES, find_profile, join, prompt_text

KINDS = ("caption", "question", "memes", "dialogue", "action", "class", "continue")
PIECES = ("<image>", "<EOC>", "<im", "age>", "<EO", "C>", "\n", "\r", "\u2028", "\x00", "\x85", " ", "a", '"', "{ocr}")
pieces = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
profiles = st.sampled_from([PAPER, OPEN_FLAMINGO])
kinds = st.sampled_from(KINDS)


def an_item(*, media=1, turns=(), **texts):
    """An item with some images and a text for each field."""
    texts = {"question": "what is it?", "ocr": "look at me", "caption": "a cat on a mat", **texts}
    return TaskItem(
        id="7", media=tuple(ImageSegment(url=f"{n}.jpg") for n in range(media)), texts=texts, turns=tuple(turns)
    )


# What an item is made of, with texts that try to forge tags. It is made in the test: what checks shapes draws as well.
items = st.fixed_dictionaries(
    {
        "media": st.integers(0, 2),
        "turns": st.lists(st.tuples(pieces, pieces), max_size=2),
        **dict.fromkeys(("question", "ocr", "caption"), pieces),
    }
)
shots_drawn = st.lists(st.tuples(items, pieces), max_size=3)


class Letters:
    """A tokenizer of single letters."""

    def encode(self, text):
        return [ord(letter) for letter in text]

    def decode(self, ids):
        return "".join(map(chr, ids))


def parts_of(profile, kind, shots, query):
    """Shots and query of what was drawn."""
    return [*(profile.shot(kind, an_item(**item), answer) for item, answer in shots), profile.query(kind, query)]


def ids_of(document):
    special = SpecialTokens(media=2_000_000, end_of_chunk=2_000_001, end_of_chunk_text="<EOC>")
    options = {"end_before_media": False, "end_of_document": False}
    return tokenize_document(document, tokenizer=Letters(), special=special, **options).ids


SHOTS = {
    "caption": ("<image>Output: x<EOC>", "<image>Output:x<EOC>\n"),
    "class": ("<image>Output: x<EOC>", "<image>Output:x<EOC>\n"),
    "question": (
        "<image>Question: what is it? Answer: x<EOC>",
        "<image>Question:what is it? Short answer:x<EOC>\n",
    ),
    "memes": (
        '<image>is an image with written: "look at me" on it. Is it hateful? Answer: x<EOC>',
        "<image>is an image with: 'look at me' written on it. Is it hateful? Answer:x<EOC>\n",
    ),
    "dialogue": (
        "<image>a cat on a mat Question: old? Answer: yes Question: what is it? Answer: x<EOC>",
        "<image>a cat on a mat Question:old? Short answer:yes Question:what is it? Short answer:x<EOC>\n",
    ),
    "action": ("<image>Caption: x<EOC>", "<image>Caption:x<EOC>\n"),
    "continue": ("<image>what is it? x<EOC>", "<image>what is it? x<EOC>\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_shots_are_written_as_published(kind):
    """Letter by letter, in both profiles; the fields of other kinds are not shown."""
    item = an_item(turns=[("old?", "yes")])
    found = tuple(prompt_text(profile.shot(kind, item, "x")) for profile in (PAPER, OPEN_FLAMINGO))
    assert found == SHOTS[kind]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_kind_has_a_template_and_a_length(profile):
    """No kind of task is without, and no length is 0."""
    assert tuple(sorted(profile.templates)) == tuple(sorted(profile.max_new_tokens)) == tuple(sorted(KINDS))
    assert min(profile.max_new_tokens.values()) > 0


def test_settings_are_those_published():
    """Of the paper where it tells them, and of OpenFlamingo."""
    assert (PAPER.num_beams, PAPER.normalise, PAPER.terminator) == (3, "sum", True)
    assert PAPER.text_shots == {"open": 2, "closed": 0}
    assert OPEN_FLAMINGO.text_shots == {"open": 2, "closed": 2}
    assert (OPEN_FLAMINGO.num_beams, OPEN_FLAMINGO.length_penalty) == (3, 0.0)
    assert (OPEN_FLAMINGO.max_new_tokens["caption"], OPEN_FLAMINGO.max_new_tokens["question"]) == (20, 5)
    assert (OPEN_FLAMINGO.normalise, OPEN_FLAMINGO.terminator) == ("mean", False)


@given(profiles, kinds, items, pieces)
def test_a_shot_is_a_query_with_a_candidate(profile, kind, item, answer):
    """What is scored as a candidate is what a shot shows, up to its `<EOC>`."""
    item = an_item(**item)
    query, shot = prompt_text(profile.query(kind, item)), prompt_text(profile.shot(kind, item, answer))
    assert shot == query + profile.candidate_text(kind, answer) + "<EOC>" + profile.separator


@given(profiles, kinds, shots_drawn, items)
def test_no_text_forges_a_tag(profile, kind, shots, query):
    """A prompt has a tag for each image, an `<EOC>` for each shot, and no line break that the profile did not put."""
    prompt = join(parts_of(profile, kind, shots, an_item(**query)))
    text, num_media = prompt_text(prompt), query["media"] + sum(item["media"] for item, _ in shots)
    assert text.count("<image>") == len(prompt.media) == num_media
    assert text.count("<EOC>") == len(shots)
    assert len(text.splitlines()) <= 1 + len(shots) * len(profile.separator)
    assert ids_of(prompt).count(2_000_001) == len(shots)


@given(profiles, kinds, shots_drawn, items)
def test_a_prompt_is_its_parts_in_tokens(profile, kind, shots, query):
    """Ids of shots and query are those of the whole, so that shots can be computed once."""
    parts = parts_of(profile, kind, shots, an_item(**query))
    assert ids_of(join(parts)) == tuple(token for part in parts for token in ids_of(part))


@given(profiles, kinds, items, pieces)
def test_tags_in_texts_are_counted(profile, kind, item, answer):
    """In the metadata of the prompt, summed when parts are joined; a clean prompt has no such entry."""
    item = an_item(**item)
    shown = [item.texts[name] for name in profile.template(kind).fields] + [answer]
    if kind == "dialogue":
        shown += [text for turn in item.turns for text in turn]
    # Control characters do not hide a tag, nor do they make one of two halves.
    count = sum(text.count(tag) for text in shown for tag in ("<image>", "<EOC>"))
    shot = profile.shot(kind, item, answer)
    assert shot.metadata.get("removed_tags", 0) == count
    assert join([shot, shot]).metadata == ({"removed_tags": 2 * count} if count else {})


def test_a_tag_that_goes_joins_no_halves():
    """What stands on its sides stays apart, and runs of white space are one space."""
    item = an_item(question="<im<image>age> \n  <EO<EOC>C> \u2028 is it?  ")
    assert prompt_text(PAPER.query("question", item)) == "<image>Question: <im age> <EO C> is it? Answer:"


def test_several_pictures_have_a_tag_each_and_clips_one():
    """Side by side before the text, in order; a clip is one item."""
    clip = ClipSegment(url="clip.mp4")
    item = TaskItem(id="1", media=(ImageSegment(url="a.jpg"), clip), texts={"question": "This is a"})
    query = PAPER.query("continue", item)
    assert prompt_text(query) == "<image><image>This is a"
    assert query.media == item.media


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        (PAPER, "Output: a cat<EOC>Output: a dog<EOC><image>Output:"),
        (OPEN_FLAMINGO, "Output:a cat<EOC>\nOutput:a dog<EOC>\n<image>Output:"),
    ],
)
def test_shots_in_text_alone_have_no_tags(profile, said):
    """The prompt of 0 shots: two captions without their images."""
    shots = [profile.shot("caption", an_item(), answer, with_media=False) for answer in ("a cat", "a dog")]
    assert profile.text_shots["open"] == len(shots)
    assert prompt_text(join([*shots, profile.query("caption", an_item())])) == said


def test_a_blind_query_has_its_text_alone():
    """Without its image and tag."""
    assert prompt_text(PAPER.query("question", an_item(), with_media=False)) == "Question: what is it? Answer:"


def test_an_item_without_media_has_no_tag():
    """There is nothing to point at."""
    assert prompt_text(PAPER.query("caption", an_item(media=0))) == "Output:"


def test_an_empty_caption_leaves_no_space():
    """A dialogue without a caption begins with its question."""
    assert prompt_text(PAPER.query("dialogue", an_item(caption="", media=0))) == "Question: what is it? Answer:"


def test_a_missing_text_is_told():
    """With the item, the text and what is there."""
    item = TaskItem(id="42", media=(), texts={"caption": "a"})
    said = "item '42' has no text 'question', which a prompt of kind 'question' shows; it has 'caption'"
    with pytest.raises(EvaluationError, match=said):
        PAPER.query("question", item)


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_kind_is_told():
    """With the kinds that there are."""
    with pytest.raises(ValueError, match="kind is 'poem', and profile 'paper' has templates of caption, class"):
        PAPER.query("poem", an_item())


def test_profiles_are_found_by_name():
    """Both, and another is refused with their names."""
    assert [find_profile(name) for name in ("paper", "open_flamingo")] == [PAPER, OPEN_FLAMINGO]
    with pytest.raises(EvaluationError, match="profile is 'flamingo', wanted one of 'paper', 'open_flamingo'"):
        find_profile("flamingo")


def test_nothing_joined_is_an_empty_prompt():
    """Without segments."""
    assert join([]) == InterleavedDocument(())
