"""What the processes of a run say of it together."""

from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.runner.processes import merged_facts

FACTS = st.fixed_dictionaries(
    {
        "shared": st.booleans(),
        "checked": st.integers(0, 9),
        "largest_difference": st.floats(0, 1),
        "refused": st.lists(st.sampled_from("abc"), unique=True),
        "scorer": st.sampled_from(("trie", "rows")),
    }
)


@given(parts=st.lists(FACTS, min_size=1, max_size=4))
def test_facts_of_all_processes_are_merged(parts):
    """Shared is what all share, numbers are summed, a difference is the largest, and what any refused was refused."""
    found = merged_facts(parts)
    assert found["shared"] is (not any(not part["shared"] for part in parts))
    assert found["checked"] == sum(part["checked"] for part in parts)
    assert all(part["largest_difference"] <= found["largest_difference"] for part in parts)
    assert found["largest_difference"] in [part["largest_difference"] for part in parts]
    assert sorted(found["refused"]) == sorted({one for part in parts for one in part["refused"]})
    assert sorted(found["scorer"].split(", ")) == sorted({part["scorer"] for part in parts})


@given(part=FACTS)
def test_one_process_says_what_it_found(part):
    """Alone nothing is changed."""
    assert merged_facts([part]) == part
