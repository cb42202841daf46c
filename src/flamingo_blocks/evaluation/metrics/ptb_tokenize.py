"""Words of captions as the Penn Treebank has them, which caption scores are counted in."""

import re
import unicodedata
from functools import lru_cache

from flamingo_blocks.evaluation.metrics.fold_lines import fold_lines

# What keeps its period was found by asking the original about every word of a large dictionary: wherever it stands,
# before a number, and with a capital letter.
ABBREVIATIONS = frozenset(
    """
    adj adm adv al ala alex apr ariz assn assoc asst atty aug ave bhd bldg blvd brig bros calif capt cf cie cmdr co col
    colo comdr conn corp cos cpl ct dak dec dept det dr drs ens esq est etc ext feb fla fri ft ga gen gov govs hon inc
    ind insp invt jan jos jr jul jun kan kans ky lieut lt ltd maj mar md mfg mich minn mlle mme mo mon mont mr mrs ms
    msgr mt mtg natl neb nev nov oct okla penn pfc ph plc pres prof profs pte pty pvt rd rep reps rev rt sen sens sep
    sept seq sfc sgt spc sq sr st ste supt sys tel tenn thu thurs treas tue tues univ va vs vt wed wis wisc wm wyo
    """.split()
)
BEFORE_NUMBERS = frozenset("art ca fig figs no nos op pp prop".split())
WITH_CAPITAL = frozenset("Az Tex Ark Wash Mass Ore La Ill Del Miss Pa".split())
# A single letter loses its period before these, for they begin a sentence.
STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now Once One
    Other Our She Since So Some Such That The Their Then There These They This We What When While Yet You
    """.split()
STARTS_SENTENCE = re.compile(rf"\s+(?=[A-Z])(?i:{'|'.join(STARTS)})(?![\w'-])")

BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SPELT = {"€": "$", "£": "#", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "&amp;": "&"}
DROPPED = frozenset("'' ' `` ` . ? ! , : - -- --- ---- ; \"".split()) | frozenset(
    "\u201c\u201d\u2018\u2019\u00ab\u00bb\u2039\u203a\u2013\u2014\u2015\u2026"
)

UNREAD = re.compile(r"[\u00ad\u200b-\u200f\ufe00-\ufe0f]|[^\u0000-\uffff]")  # the original passes over them, too

LETTER, ALNUM = r"[^\W\d_½¼¾⅓⅔²³¹]", r"[^\W_½¼¾⅓⅔²³¹]"
APOSTROPHE = r"['\u2019]"
NOT = rf"n{APOSTROPHE}t{LETTER}*"
PART = rf"(?:(?!{NOT}){ALNUM})+"
WORD = rf"{PART}(?:[-_]{PART})*"
SLASHED = rf"{PART}(?!{ALNUM})(?:-{PART}(?!{ALNUM}))*"
NUMBER = r"\d*(?:[.,:]\d+)+"
# Read from top to bottom: the first that fits takes the text. Case counts where letters of both cases are written out.
TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<whole>
        </?[A-Za-z!?][^<>]*>
        | https?://[^\s"<>|()]*[^\s"<>|.!?(){{}},-]
        | [A-Za-z0-9][\w.+-]*@[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)* | [@\#][A-Za-z_]\w*
        | [<>]?[:;=][-o*']?[()DPdp@|\[\]{{}}\\](?!{ALNUM}) | \^_\^ | -_-
        | \([2-9]\d\d\)[ ]?\d{{3}}-\d{{4}} | &amp; | [Cc]\+\+
        | [A-Z]+(?:[&+][A-Z]+)+(?!{ALNUM})
    )
    | (?P<half>(?i:can(?=not\b) | gon(?=na\b) | got(?=ta\b) | wan(?=na\b) | lem(?=me\b) | gim(?=me\b)
        | {APOSTROPHE}t(?=(?:is|was)(?:{NOT}|\b))))
    | (?P<elided>(?i:
        '(?:n'|em|till?|cause)(?!\w) | 'n'(?={LETTER}) | (?<!\w)'\d\d?0?s?(?!\w) | [yj]{APOSTROPHE}(?={LETTER})
        | (?:c'mon|{LETTER}*e'er|{LETTER}*ma'ams?|nor'easter|li'l|nat'l|cap'n|ol')(?!\w)
        | [dlo]{APOSTROPHE}{LETTER}{{2,}}
        | {LETTER}+[aeiouy]{APOSTROPHE}[aeiou]{LETTER}*)
        | [A-HJ-XZn]{APOSTROPHE}{LETTER}{{2,}})
    | (?P<clitic>(?i:{NOT} | {APOSTROPHE}(?:[smdn]|re|ve|ll)(?!{ALNUM})))
    | (?P<letters>(?:[A-Za-z]\.)+(?!{LETTER})(?:-{PART})?)
    | (?P<joined>{LETTER}+(?:[.!?]{LETTER}+)+(?:-{PART})*)
    | (?P<number>[-+]?{NUMBER}(?:-{LETTER}{PART})* | [-+]\d+)
    | (?P<word>(?i:{SLASHED}/(?:{SLASHED}/)?{SLASHED} | {WORD}))
    | (?P<run>\.+ | -+ | [?!]+ | \*+ | _+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def ptb_tokenize(text: str) -> list[str]:
    """Split a caption into words as the Penn Treebank does, in lower case and without punctuation.

    Caption scores of papers are counted in these words; with another split the score is another number. `n't` and
    `'s` are words, as are brackets (`-lrb-`); `t-shirt`, `1,000` and `u.s.` stay whole.

    Args:
        text: A caption of any number of lines.

    Returns:
        Its words.

    Example:
        >>> ptb_tokenize("A man's t-shirt (No. 5) doesn't cost $1,000.")
        ['a', 'man', "'s", 't-shirt', '-lrb-', 'no.', '5', '-rrb-', 'does', "n't", 'cost', '$', '1,000']

    Source:
        What the tokenizer of coco-caption (Stanford PTB 3.4.1, which wants Java) prints for a caption that nothing
        follows, with the punctuation dropped that coco-caption drops. It differs on some strings that hold addresses,
        paths or several marks in a row. The original reads all captions as one text: there, a caption that ends in a
        single letter and a period loses the period if the next one begins with a word such as "The".
    """
    return list(_tokens(unicodedata.normalize("NFC", fold_lines(text))))


@lru_cache(maxsize=2**16)
def _tokens(text: str) -> tuple[str, ...]:
    found: list[str] = []
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        assert match is not None  # the last alternative takes anything
        token, kind = match[0], match.lastgroup
        place = match.end()
        if kind == "letters" and len(token) == 2 and STARTS_SENTENCE.match(text, place):
            token = token[0]
        elif (
            kind in {"word", "joined"}
            and text.startswith(".", place)
            and _keeps_period(token, text[place + 1 : place + 20])
        ):
            token, place = token + ".", place + 1
        elif kind == "run" and token[0] == ".":
            continue
        if kind != "space" and token not in DROPPED and not UNREAD.match(token):
            found.extend(_spelt(token).lower().split())
    return tuple(found)


def _keeps_period(word: str, behind: str) -> bool:
    return (
        word.lower() in ABBREVIATIONS
        or word in WITH_CAPITAL
        or behind.startswith((",", ";", ":"))
        or (word.lower() in BEFORE_NUMBERS and re.match(r"\s*\d", behind) is not None)
    )


def _spelt(token: str) -> str:
    if token in SPELT:
        return SPELT[token]
    token = token.replace("\u2019", "'")
    return "".join(BRACKETS.get(letter, letter) for letter in token) if token[-1] not in "/>" else token
