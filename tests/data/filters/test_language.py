"""Documents in one language."""

import pytest

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.filters import Language, identify_language

SENTENCES = {
    "en": "The house by the river was built by the people who came here after the war.",
    "de": "Das Haus am Fluss wurde von den Leuten gebaut, die nach dem Krieg hierher kamen.",
    "fr": "La maison au bord de la rivière a été construite par les gens venus après la guerre.",
    "ru": "Дом у реки построили люди, которые пришли сюда после войны.",  # noqa: RUF001
    "ja": "川のそばの家は、戦争の後にここに来た人々によって建てられました。",
    "ar": "البيت الذي يقع بجانب النهر بناه الناس الذين جاؤوا إلى هنا بعد الحرب.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_a_language_is_told_without_a_network(code):
    """By the model inside of the package."""
    found, confidence = identify_language(SENTENCES[code])
    assert found == code
    assert 0.5 < confidence <= 1


@pytest.mark.parametrize("code", SENTENCES)
def test_documents_of_the_language_are_kept(code):
    """And the others dropped, by what was found."""
    document = InterleavedDocument.from_parts([SENTENCES[code], b"image"])
    for wanted in SENTENCES:
        found = Language(wanted, min_confidence=0.5)(document)
        if wanted == code:
            assert found is document
        else:
            assert found.reason == "language"
            assert found.detail.startswith(f"'{code}' by ")


def test_a_long_menu_does_not_hide_the_text():
    """More than the first line is looked at."""
    text = "Home News Sport\n" * 8 + 3 * SENTENCES["de"]
    assert identify_language(text)[0] == "de"


def test_what_is_too_short_is_not_judged():
    """And what is unsure is dropped."""
    asked = []

    def identify(text):
        asked.append(text)
        return "en", 0.7

    short, longer = (InterleavedDocument.from_parts([text]) for text in ("Bonjour", "A text of some words here."))
    keep = Language("en", identify=identify)
    assert keep(short) is short
    assert keep(longer).detail == "'en' by 0.70, wanted 'en' by 0.8"
    assert asked == ["A text of some words here."]
