import json

import pytest

from benchmarks.results import RESULTS, parse, path_of, read, without_paths, write
from tests.benchmarks import builders


def described():
    """A run with every part of a result file."""
    return builders.run(builders.missed(), builders.failed())


def places(value, path=()):
    """Every place of a JSON value, as a path of keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(run, path, change):
    """The text of the run's file with one place changed."""
    content = json.loads(written(run))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return json.dumps(content)


def written(run, folder=None):
    from pydantic import TypeAdapter

    return TypeAdapter(type(run)).dump_json(run).decode()


OPEN = {"sizes", "packages", "missing"}  # tables whose keys are no fields
OPTIONAL = {"trouble", "flops", "bytes", "contenders", "missing", "bars", "profile"}  # of a case without numbers
PLACES = [path for path in places(json.loads(written(described()))) if not OPEN & set(path[:-1])]
FIELDS = [path for path in PLACES if isinstance(path[-1], str)]


def dotted(path):
    return ".".join(map(str, path))


@pytest.mark.parametrize("path", [path for path in FIELDS if path[-1] not in OPTIONAL], ids=dotted)
def test_a_missing_field_is_refused_by_name(path):
    """A file without a field that it needs is refused, and the message names the field."""
    with pytest.raises(ValueError, match=dotted(path).replace(".", r"\.") + ": Field required"):
        parse(changed(described(), path, lambda parent, key: parent.pop(key)), source="a.json")


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_an_ill_typed_field_is_refused_by_name(path):
    """A value of a wrong type, at any place, is refused, and the message names the place."""
    with pytest.raises(ValueError, match=dotted(path).replace(".", r"\.")):
        parse(
            changed(described(), path, lambda parent, key: parent.update({key: [{"no": "such type"}]})), source="a.json"
        )


@pytest.mark.parametrize(
    "path", [(), ("machine",), ("versions",), ("cases", 0), ("cases", 0, "contenders", 0)], ids=dotted
)
def test_an_unknown_field_is_refused_by_name(path):
    """A field that nobody reads is refused, at every level."""
    text = changed(described(), (*path, "hostname"), lambda parent, key: parent.update({key: "here"}))
    with pytest.raises(ValueError, match=dotted((*path, "hostname")).replace(".", r"\.")):
        parse(text, source="a.json")


@pytest.mark.parametrize("bad", ["2", float("nan"), float("inf")], ids=repr)
def test_numbers_in_quotes_and_numbers_that_are_none_are_refused(bad):
    """Neither `"2"` nor NaN is a number of a result file."""
    path = ("cases", 0, "contenders", 0, "median_s")
    text = changed(described(), path, lambda parent, key: parent.update({key: bad}))
    with pytest.raises(ValueError, match=dotted(path).replace(".", r"\.")):
        parse(text, source="a.json")


def test_a_case_that_is_wrong_has_no_numbers():
    """A file that gives times for a case whose check failed is refused."""
    path = ("cases", 0, "status")
    with pytest.raises(ValueError, match="has numbers if and only if its status is 'ok', got 'wrong'"):
        parse(changed(described(), path, lambda parent, key: parent.update({key: "wrong"})), source="a.json")


def test_a_run_is_written_where_its_name_says_and_read_back_the_same(tmp_path):
    """Version, suites, machine, device and threads are the name of a file; what was written is what is read."""
    run = described()
    path = write(run, tmp_path)
    assert path == tmp_path / "0.1.0" / "all--a-cpu-2-0ghz-2-cores--cpu-2-threads.json"
    assert read(path) == run
    assert write(builders.run(threads=1), tmp_path) != path
    other = builders.run(suites=["decode", "block"], dtype="bfloat16")
    assert path_of(other, tmp_path).name == "block+decode--a-cpu-2-0ghz-2-cores--cpu-bfloat16-2-threads.json"


def test_a_file_that_is_not_there_is_told_with_those_that_are(tmp_path):
    """A mistyped path ends in a message, not in a traceback of `open`."""
    with pytest.raises(ValueError, match="no result file .*nowhere.json; known here"):
        read(tmp_path / "nowhere.json")


def test_messages_lose_their_paths():
    """What a case says when it fails goes into the file without the folders of whoever ran it."""
    told = without_paths("cannot open /home/somebody/flamingo/cases.py: 3/4 of batch/text\nmore of /home/somebody/this")
    assert told == "cannot open cases.py: 3/4 of batch/text"


@pytest.mark.parametrize("path", sorted(RESULTS.rglob("*.json")), ids=lambda path: path.stem)
def test_committed_result_files_are_valid_and_in_their_place(path):
    """Every committed file can be read, and stands where a run of that kind writes it."""
    assert path_of(read(path), RESULTS) == path
