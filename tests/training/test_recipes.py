"""Recipes are found by name, and their settings read by what the annotations say."""

from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import RecipeError
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import Feed, RunConfig, call_recipe, describe_recipe, load_recipe

TAKEN = {}


def recipe(
    *,
    steps: int = 3,
    lr: float = 0.1,
    tensorboard: bool = False,
    name: str = "x",
    folder: Path = Path("run"),
    frozen: Literal["replicate", "shard"] = "replicate",
    sets: tuple[str, ...] = ("pages",),
    rows: tuple[int, ...] = (8,),
    seed: int | None = None,
    device: str | None = None,
) -> RunConfig:
    """A run of three steps."""
    TAKEN.update(locals())
    return RunConfig(
        build=build_tiny_flamingo, feed=lambda model: Feed(objectives=[]), batches={}, steps=steps, lr=lr, folder=folder
    )


def taken(*words):
    TAKEN.clear()
    call_recipe(recipe, words)
    return dict(TAKEN)


def test_defaults_stand_where_nothing_is_said():
    """And the config is what the function returned."""
    assert taken()["sets"] == ("pages",)
    assert call_recipe(recipe, ["steps=7"]).steps == 7


@given(
    steps=st.integers(-(10**9), 10**9), lr=st.floats(allow_nan=False), tensorboard=st.booleans(),
    name=st.text(max_size=9), frozen=st.sampled_from(["replicate", "shard"]), seed=st.none() | st.integers(0, 99),
    sets=st.lists(st.text(st.characters(categories=["L"]), min_size=1, max_size=4)).map(tuple),
    rows=st.lists(st.integers(0, 99)).map(tuple),
)  # fmt: skip
def test_a_setting_is_read_as_it_is_written(**values):
    """What Python writes of a value of each kind is that value again."""
    values["steps"] = max(1, values["steps"])  # a run has one at least
    found = taken(*(f"{key}={value}" for key, value in {**values, "sets": ",".join(values["sets"])}.items()))
    for key, value in values.items():
        assert found[key] == value
        assert type(found[key]) is type(value)


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [(["steps=1_000"], "steps", 1000), (["lr=3"], "lr", 3.0), (["lr=1e-4"], "lr", 1e-4),
     (["tensorboard=true"], "tensorboard", True), (["name=a=b"], "name", "a=b"), (["name=3"], "name", "3"),
     (["folder=a/b"], "folder", Path("a/b")), (["sets=a, b"], "sets", ("a", "b")), (["sets="], "sets", ()),
     (["rows=(1, 2)"], "rows", (1, 2)), (["seed=None"], "seed", None), (["seed=4"], "seed", 4),
     (["device=none"], "device", None), (["device=cuda:1"], "device", "cuda:1")],
)  # fmt: skip
def test_words_that_people_type(words, key, value):
    """Numbers with underscores, words in lower case, lists with or without brackets."""
    found = taken(*words)[key]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("words", "says"),
    [(["steps"], "'steps' is no setting; settings are of the form key=value"),
     (["step=3"], "the recipe has no setting 'step'; did you mean steps"),
     (["zzz=3"], "no setting 'zzz'; its settings are steps, lr"),
     (["steps=3", "steps=4"], "steps is said twice, as 3 and as '4'"),
     (["steps=many"], "steps=many: wanted int"), (["steps=2.5"], "steps=2.5: wanted int"),
     (["steps=True"], "steps=True: wanted int"), (["tensorboard=1"], "tensorboard=1: wanted true or false"),
     (["lr=None"], "lr=None: wanted float"), (["frozen=both"], "frozen=both: wanted replicate or shard"),
     (["rows=1,b"], "rows=1,b: wanted ints with commas"), (["seed=x"], "seed=x: wanted int or None")],
)  # fmt: skip
def test_slips_are_told(words, says):
    """With the word that was typed and what the recipe takes."""
    with pytest.raises(RecipeError, match=says.replace("(", r"\(")):
        call_recipe(recipe, words)


def test_a_setting_without_default_is_needed():
    """And the error says how to give it."""

    def needs(*, data: Path) -> RunConfig:
        return recipe(folder=data)

    with pytest.raises(RecipeError, match=r"the recipe needs data=\.\.\."):
        call_recipe(needs, [])
    assert call_recipe(needs, ["data=here"]).folder == Path("here")


def test_a_recipe_is_a_function_of_a_file_or_module(tmp_path):
    """`recipe` by default; its neighbours can be imported, and nothing of that is left behind."""
    import sys

    (tmp_path / "mine.py").write_text("import beside\ndef recipe(*, steps: int = 3): ...\nother = beside.other\n")
    (tmp_path / "beside.py").write_text("def other(): ...\n")
    before = list(sys.path)
    assert load_recipe(str(tmp_path / "mine.py")).__name__ == "recipe"
    assert load_recipe(f"{tmp_path / 'mine.py'}:other").__name__ == "other"
    assert load_recipe("tests.training.test_recipes:recipe").__module__ == "tests.training.test_recipes"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "says"),
    [("nowhere.py", "RECIPE is 'nowhere.py', and there is no such file"),
     ("no_such_module:recipe", "RECIPE is 'no_such_module:recipe', and there is no file or module of that name"),
     ("tests.training.test_recipes:reciep", "has no function 'reciep'; it has .*recipe")],
)  # fmt: skip
def test_a_recipe_that_is_not_there_is_told(name, says):
    """By what was typed, and what there is."""
    with pytest.raises(RecipeError, match=says):
        load_recipe(name)


def test_a_recipe_tells_its_settings():
    """What it is, and a line for each with default and kind."""
    text = describe_recipe(recipe).splitlines()
    assert text[0] == "A run of three steps."
    assert [line.split() for line in text[2:4]] == [["steps=3", "int"], ["lr=0.1", "float"]]
    assert len(text) == 2 + 10
