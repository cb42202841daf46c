"""The captions of RareAct are English."""

import pytest

from flamingo_blocks.evaluation.tasks.rareact import rareact_caption


@pytest.mark.parametrize(
    ("verb", "noun", "caption"),
    [
        ("hammer", "phone", "a person hammers a phone"),
        ("wash", "egg", "a person washes an egg"),
        ("throw", "orange", "a person throws an orange"),
        ("peel", "onion", "a person peels an onion"),
        ("unplug", "oven", "a person unplugs an oven"),
        ("spray", "umbrella", "a person sprays an umbrella"),
        ("measure", "carrots", "a person measures carrots"),
        ("crack", "eggs", "a person cracks eggs"),
        ("brush", "shoes", "a person brushes shoes"),
        ("fry", "ice", "a person fries an ice"),
        ("stretch", "corn", "a person stretches a corn"),
        ("microwave", "phone", "a person microwaves a phone"),
        ("mix", "rock", "a person mixes a rock"),
        ("press", "hair", "a person presses a hair"),
        ("do", "hair", "a person does a hair"),
    ],
)
def test_a_caption_has_third_person_and_article(verb, noun, caption):
    """Verbs take -s, -es or -ies; nouns take a, an, or nothing in the plural."""
    assert rareact_caption(verb, noun) == caption
