"""Answers to questions about images, brought into the form in which they are compared."""

import re
from typing import Literal

VqaProfile = Literal["official", "always", "textvqa", "vizwiz"]
PROFILES: tuple[VqaProfile, ...] = ("official", "always", "textvqa", "vizwiz")

MARKS = ';/[]"{}()=+\\_-><@`,?!'
DIGIT_COMMA = re.compile(r"\d,\d")
LAST_PERIOD = re.compile(r"\.(?!\d)")
MAX_PERIODS = 32  # the original passes a flag of this value where a count is wanted
NUMBERS = dict(
    zip("none zero one two three four five six seven eight nine ten".split(), map(str, [0, *range(11)]), strict=True)
)
ARTICLES = frozenset(["a", "an", "the"])
ONE_APOSTROPHE = """
    'twas ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll how's
    isn't it'd it'll ma'am might've mightn't must've mustn't needn't not've o'clock oughtn't shan't should've shouldn't
    somebody'll somebody's someone'd someone'll someone's something'd something'll that's there'd there're there's
    they'd they'll they're they've wasn't we've weren't what'll what're what's what've when's where'd where's where've
    who'd who'll who's who've why'll why're why's won't would've wouldn't y'all you'd you'll you're you've
    """.split()
MORE_APOSTROPHES = """
    'ow's'at couldn't've hadn't've he'd've it'd've mightn't've she'd've shouldn't've somebody'd've someone'd've
    something'd've there'd've they'd've we'd've who'd've wouldn't've y'all'd've y'all'll you'd've
    """.split()


def _contractions() -> dict[str, str]:
    # One apostrophe is forgotten each time; a slip of the original, which takes one away, is kept.
    found = {"somebody'd": "somebodyd"}
    for word in ONE_APOSTROPHE + MORE_APOSTROPHES:
        for place, letter in enumerate(word):
            if letter == "'":
                found[word[:place] + word[place + 1 :]] = word
    return found


CONTRACTIONS = _contractions()


def normalise_vqa(text: str, profile: VqaProfile = "always") -> str:
    """Bring an answer into the form in which VQA accuracy compares answers.

    Punctuation goes, numbers up to ten become digits, articles are dropped, forgotten apostrophes come back. Doing it
    twice is doing it once, except under `"textvqa"`.

    Args:
        text: An answer.
        profile: `"textvqa"` takes commas and question marks out first and sets `'s` apart; the others agree here, and
            differ in which answers they normalise.

    Returns:
        The answer; `""` if nothing is left.

    Example:
        >>> normalise_vqa("The two T-shirts, I think they dont match.")
        "2 t shirts i think they don't match"
        >>> normalise_vqa("1,000 a-b")  # a comma between digits makes every mark vanish
        '1000 ab'

    Source:
        The evaluation code of the VQA challenge (visualqa.org/evaluation.html), its quirks included: its table of
        contractions has no `its`, `im` or `ive`, and at most 32 periods go. `"textvqa"` is that of MMF.
    """
    if profile == "textvqa":
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = text.replace("\n", " ").replace("\t", " ").strip()
    joined = DIGIT_COMMA.search(text) is not None
    without = text
    for mark in MARKS:
        touches_space = f"{mark} " in text or f" {mark}" in text
        without = without.replace(mark, "" if joined or touches_space else " ")
    without = LAST_PERIOD.sub("", without, count=MAX_PERIODS)
    words = (NUMBERS.get(word, word) for word in without.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
