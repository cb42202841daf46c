"""Words as the Penn Treebank has them: the known ones, and those of the original where there is Java."""

import os
import random
import shutil
import subprocess
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.metrics import fold_lines, ptb_tokenize

NOUNS = (
    "man woman dog cat bus sofa pizza surfboard kite giraffe bench laptop t-shirt hot-dog child's umbrella tower sign "
    "TV Wii bat players people cars lights hydrant TV's dogs' ladies"
).split()
ADJECTIVES = "red large black-and-white old two 3 several well-lit multi-colored grey 50's 1980s half-eaten 2nd".split()
VERBS = "riding holding sitting walking playing isn't wearing flying can't doesn't it's he's they're cannot".split()
ENDS = """
    |.|||| .|!|, and a dog.|; it's sunny.|...|?| it doesn't matter.| (left).| at 5 p.m.| at 10:30 am.| on the
    U.S. flag.| that says "STOP".| for $5.00.| number 42.| with the letter a.| at McDonald's.| on St. John's street.|
    - close up.| & bottles.| with 1,000 people.| and more...| w/ a dog| in b/w.| called 'Rex'.| 100% wool| y'all.|
    saying no.
    """.replace("\n    ", " ").split("|")
DROPPED = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}


def plain_captions(number):
    draw = random.Random(0)  # noqa: S311 - captions, no secrets
    for _ in range(number):
        words = [draw.choice(["A", "The", "a", "Two", "There is a"]), draw.choice(ADJECTIVES), draw.choice(NOUNS)]
        words += [draw.choice(VERBS), draw.choice(["on a", "near the", "by her"]), draw.choice(NOUNS)]
        yield " ".join(words) + draw.choice(ENDS)


def asked_of_java(captions, folder):
    """The words of the original; a line between any two captions keeps one from being read as part of the next."""
    package = find_spec("pycocoevalcap")
    if package is None:
        pytest.skip("pycocoevalcap is not installed; `nox -s tests` installs it")
    file = folder / "captions.txt"
    file.write_text("\nq\n".join(captions), "utf-8")
    jars = Path(package.submodule_search_locations[0]) / "tokenizer"
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", "stanford-corenlp-3.4.1.jar"]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(file)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    written = subprocess.run(command, cwd=jars, capture_output=True, check=True, env=environment).stdout.decode()
    lines = written.split("\n")[: 2 * len(captions) - 1 : 2]
    assert len(lines) == len(captions)
    return [[word for word in line.split() if word not in DROPPED] for line in lines]


WORKED = {
    "vitamin a.": "vitamin a.",
    "B. The dog": "b the dog",
    "y'all say no.": "y' all say no",
    "no. 5, No.10": "no. 5 no. 10",
    "a (small) dog [x]": "a -lrb- small -rrb- dog -lsb- x -rsb-",
    "He can't, don\u2019t and cannot": "he ca n't do n't and can not",
    "t-shirt 1,000 u.s. black/white 3x4": "t-shirt 1,000 u.s. black/white 3x4",
    "$5.00 and 50%": "$ 5.00 and 50 %",
    '\u201cSTOP\u201d said the dog\u2019s "owner"': "stop said the dog 's owner",
    "a dog \U0001f600 -- runs ... away!": "a dog runs away",
    "O'Brien at 5 o'clock in the 1980's": "o'brien at 5 o'clock in the 1980 's",
    "rock'n'roll, 'tis gonna": "rock 'n' roll 't is gon na",
    "Mr. Smith etc. vs. Dr. X": "mr. smith etc. vs. dr. x",
    "wow!! what?": "wow !! what",
    "caf\u00e9 cafe\u0301 \u65e5\u672c": "caf\u00e9 caf\u00e9 \u65e5\u672c",
    "": "",
}


@pytest.mark.parametrize("text", WORKED)
def test_worked_cases_split_as_the_original_does(text):
    """Clitics, brackets, abbreviations, numbers and quotes are split as by Stanford's tokenizer."""
    assert " ".join(ptb_tokenize(text)) == WORKED[text]


@given(st.text())
@example("a\u2028b\x0bc\x0cd\re\u2029f\x85g")
def test_any_text_splits_into_words_without_white_space(text):
    """Every text has words, none of them empty, with white space or among the punctuation that is dropped."""
    for word in ptb_tokenize(text):
        assert word.split() == [word] and word not in DROPPED


@given(st.lists(st.sampled_from(["a dog", "t-shirt", "it's", "no.", "5", "\u2028", "a."])))
def test_line_breaks_split_like_spaces(parts):
    """A line break of any script within a caption is a space."""
    assert ptb_tokenize("\u2028".join(parts)) == ptb_tokenize("\n".join(parts)) == ptb_tokenize(" ".join(parts))


@given(st.text())
@example("a\u2028b\x0bc\x0cd\re\u2029f\x85g\nh\x00i\tj")
def test_lines_are_folded_letter_by_letter(text):
    """A folded text is one line of the same length, and every letter that was no break or control is where it was."""
    folded = fold_lines(text)
    assert len(folded) == len(text) and len(folded.splitlines()) <= 1
    assert all(new in {old, " "} for old, new in zip(text, folded, strict=True))
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in folded)


@pytest.mark.skipif(shutil.which("java") is None, reason="the original tokenizer wants Java")
def test_plain_captions_have_the_words_of_the_original(tmp_path):
    """At least 99.9 % of the words of plain captions, and all of the worked cases, are those of the original."""
    captions = [*plain_captions(3000), *(text for text in WORKED if text and "cafe" not in text)]
    theirs = asked_of_java(captions, tmp_path)
    ours = [ptb_tokenize(caption) for caption in captions]
    shared = sum((Counter(one) & Counter(other)).total() for one, other in zip(ours, theirs, strict=True))
    assert shared / sum(max(len(one), len(other)) for one, other in zip(ours, theirs, strict=True)) >= 0.999
    assert ours[3000:] == theirs[3000:]
