"""Tasks by name: which there are, what they take, and what is said of a name that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.tasks import TASKS, describe_tasks, find_task, read_task
from tests.evaluation.tasks.official_files import WRITERS


@given(name=st.sampled_from(sorted(TASKS)) | st.text())
def test_a_name_finds_its_task_or_lists_the_names(name):
    """A name is that of a task, or an error that has every name that is."""
    if name in TASKS:
        assert find_task(name).name == name
    else:
        with pytest.raises(EvaluationError) as raised:
            find_task(name)
        assert all(known in str(raised.value) for known in TASKS)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("VQAv2", "vqav2"), ("ok-vqa", "okvqa"), ("flickr", "flickr30k"), ("hateful-memes", "hateful_memes")],
)
def test_a_name_that_is_nearly_right_is_told_what_was_meant(name, meant):
    """The nearest name is said; of a name that is like none, none is."""
    with pytest.raises(EvaluationError, match=f"task is {name!r}, did you mean '{meant}'"):
        find_task(name)
    with pytest.raises(EvaluationError, match="task is 'zzzz'; the tasks are coco, "):
        find_task("zzzz")


def test_a_folder_that_is_not_there_is_told_with_the_files_that_it_takes(tmp_path):
    """Who has no data learns from the error where to put what."""
    for name, reader in TASKS.items():
        with pytest.raises(EvaluationError) as raised:
            read_task(name, tmp_path)
        message = str(raised.value)
        assert message.startswith(f"{tmp_path / name}, where the files of {reader.title} are looked for")
        assert all(file in message for file in reader.files)


def test_the_first_split_is_asked_where_none_is_named(tmp_path):
    """A split that is not named is the first of the task's."""
    for name, write in WRITERS.items():
        write(tmp_path / name)
        first = read_task(name, tmp_path, TASKS[name].splits[0])
        assert [item.id for item in read_task(name, tmp_path).queries] == [item.id for item in first.queries]


def test_the_table_of_tasks_tells_each_with_its_files():
    """Name, title, metric, way of answering, splits and files of each task stand in the table, in columns."""
    table = describe_tasks().splitlines()
    column = table[0].index("metric")
    for name, reader in TASKS.items():
        (place,) = [k for k, line in enumerate(table) if line.startswith(f"{name} ")]
        assert table[place][column:].startswith(reader.metric)
        assert all(said in table[place] for said in (reader.title, reader.answering, ", ".join(reader.splits)))
        below = table[place + 1 : place + 1 + len(reader.files)]
        assert [line.split("  ")[1] for line in below] == list(reader.files)
