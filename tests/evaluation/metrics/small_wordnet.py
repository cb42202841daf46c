"""A WordNet of seventeen senses, in the format of the official files."""

NOUNS = {
    "entity": None, "object": "entity", "organism": "object", "animal": "organism", "dog": "animal", "cat": "animal",
    "person": "organism", "man": "person", "woman": "person", "artifact": "object", "vehicle": "artifact",
    "car": "vehicle", "truck": "vehicle",
}  # fmt: skip
VERBS = {"move": None, "run": "move", "walk": "move", "eat": None}
ALSO = {"car": ["auto"]}  # further words of a sense
EXCEPTIONS = {"noun": ["men man", "women woman"], "verb": ["ran run", "ate eat"], "adj": [], "adv": []}
HEAD = "  1 WordNet 3.0 Copyright 2006 stands for the licence of the real files.  \n"


def _row(offset, letter, words, parent, frames):
    pointers = "000" if parent is None else f"001 @ {parent:08} {letter} 0000"
    named = " ".join(f"{word} 0" for word in words)
    return f"{offset:08} 03 {letter} {len(words):02x} {named} {pointers} {frames}| a sense  \n"


def _write_part(folder, name, letter, senses):
    frames = "01 + 02 00 " if letter == "v" else ""
    words = {sense: [sense, *ALSO.get(sense, [])] for sense in senses}
    offsets, end = {}, len(HEAD)
    for sense, parent in senses.items():
        offsets[sense] = end
        end += len(_row(0, letter, words[sense], None if parent is None else 0, frames))
    rows = [
        _row(offsets[sense], letter, words[sense], None if parent is None else offsets[parent], frames)
        for sense, parent in senses.items()
    ]
    index = sorted((word, offsets[sense]) for sense in senses for word in words[sense])
    lines = [f"{word} {letter} 1 1 @ 1 0 {offset:08}  \n" for word, offset in index]
    (folder / f"data.{name}").write_text(HEAD + "".join(rows))
    (folder / f"index.{name}").write_text(HEAD + "".join(lines))
    (folder / f"{name}.exc").write_text("".join(f"{line}\n" for line in EXCEPTIONS[name]))


def write_small_wordnet(folder):
    """Write the files, those included that only nltk reads."""
    folder.mkdir(parents=True)
    _write_part(folder, "noun", "n", NOUNS)
    _write_part(folder, "verb", "v", VERBS)
    _write_part(folder, "adj", "a", {})
    _write_part(folder, "adv", "r", {})
    (folder / "lexnames").write_text("".join(f"{number:02}\tnoun.x{number}\t1\n" for number in range(45)))
    (folder / "cntlist.rev").write_text("")
    (folder / "index.sense").write_text("")
    return folder
