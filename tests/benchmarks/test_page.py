from dataclasses import replace

from benchmarks import page, plots
from benchmarks.results import RESULTS, write
from tests.benchmarks.builders import case, failed, missed, run


def sized(**changes):
    """A run with one family of three sizes."""
    cases = [case(f"block/forward/items{items}/dim8", ours=1e-3, peer=items * 1e-3) for items in (16, 1, 2)]
    return run(*cases, case("block/lost", ours=3e-3, peer=2e-3), failed("block/broken"), **changes)


def test_the_committed_tables_are_made_from_the_committed_results():
    """What the page shows is what the result files and the reasons give: `python -m benchmarks --page` makes it."""
    assert page.TABLES.read_text() == page.tables(page.published(), page.reasons())


def test_every_plot_that_the_page_shows_is_there():
    """The plots of the published runs, and no others, stand in the assets."""
    shown = {name for name in page.TABLES.read_text().replace('"', "/").split("/") if name.endswith(".svg")}
    assert shown == {path.name for path in page.PLOTS.glob("*.svg")}


def test_losses_stand_first_with_their_reason(tmp_path):
    """On the page the losses of a run come before its other cases, each with why, or that nobody looked yet."""
    known = [page.Reason(case="block/l*", device="cpu", what="* takes *", why="a slow copy")]
    text = page.tables([sized()], known, plots_folder=tmp_path)
    assert text.index("| block/lost | open_flamingo takes 0.667x our time") < text.index("### All cases of `block`")
    assert "| a slow copy |" in text
    assert page.why(known, case="block/lost", device="cuda", what="x takes 0.5x our time") == "not looked into yet"


def test_the_newest_run_stands_first_in_a_few_rows(tmp_path):
    """Smallest and largest ratio to open_flamingo by suite and of peaks, and the cases where ours is slower."""
    older = replace(sized(), date="2023-01-01", threads=1)
    text = page.tables([older, sized()], [], plots_folder=tmp_path)
    short = text[text.index("## Beside open_flamingo") : text.index("### Losses")]
    assert "On A CPU @ 2.0GHz, float32, 2 threads:" in short
    assert "1 thread:" not in short
    assert "| block, time | 4 | 0.667x | 16x |" in short
    assert "peak memory" not in short  # all below 1 MiB
    assert "Slower in `block/lost` (0.667x); a higher peak in none." in short


def test_peaks_are_set_beside_each_other_where_they_are_more_than_noise(tmp_path):
    """A peer with a lower peak is named; a machine that was busy is said."""
    big = case("block/big")
    mine, theirs = (replace(one, peak_bytes=size << 20) for one, size in zip(big.contenders, (4, 3), strict=True))
    text = page.tables([run(replace(big, contenders=[mine, theirs]), load=2.0)], [], plots_folder=tmp_path)
    assert "| all of these, peak memory | 1 | 0.75x | 0.75x |" in text
    assert "Slower in none of these; a higher peak in `block/big` (0.75x)." in text
    assert "2 threads (busy before the run, so times are hints):" in text


def test_nothing_is_set_beside_a_peer_that_did_not_run(tmp_path):
    """Without numbers there is no heading."""
    assert "## Beside" not in page.tables([run(failed())], [], plots_folder=tmp_path)


def test_a_missed_bar_comes_with_a_profile(tmp_path):
    """Between the losses and the bars that were reached the page shows the operators of the cases that fell short."""
    text = page.tables([run(missed())], [], plots_folder=tmp_path)
    assert text.index("### Losses") < text.index("Where the time of ours goes in `decode/slow`")
    assert "| 75.0 % | 4 | `aten::mm` |" in text


def test_an_unmeasured_gpu_is_said_plainly(tmp_path):
    """Without a result file of a GPU the page says so, and with one it does not."""
    words = "On a GPU: not measured yet."
    assert words in page.tables([sized()], [], plots_folder=tmp_path)
    measured = sized(device="cuda", dtype="bfloat16")
    assert words not in page.tables([sized(), measured], [], plots_folder=tmp_path)


def test_only_whole_runs_of_the_newest_version_are_published(tmp_path):
    """A run of one suite, and one of an older version, stay off the page; version 0.10 is newer than 0.9."""
    newest, older = (replace(run().versions, flamingo_blocks=version) for version in ("0.10.0", "0.9.0"))
    write(run(versions=older), tmp_path)
    write(run(versions=newest), tmp_path)
    write(run(versions=newest, suites=["block"]), tmp_path)
    assert page.published(tmp_path) == [run(versions=newest)]


def test_runs_with_one_thread_and_with_two_stand_side_by_side(tmp_path):
    """Neither overwrites the other, and the page shows the tables and plots of both."""
    for threads in (1, 2):
        write(sized(threads=threads), tmp_path / "results")
    page.publish(tmp_path / "results", tmp_path / "tables.md", tmp_path / "assets")
    text = (tmp_path / "tables.md").read_text()
    assert text.index("float32, 2 threads") < text.index("float32, 1 thread\n")
    assert all(f"--{threads}-threads--time.svg" in text for threads in (1, 2))


def test_publishing_writes_tables_and_plots_and_removes_old_plots(tmp_path):
    """One call makes all that the page shows; a plot whose run is gone goes too."""
    write(sized(), tmp_path / "results")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "gone.svg").write_text("")
    tables = page.publish(tmp_path / "results", tmp_path / "tables.md", assets)
    drawn = {path.name for path in assets.iterdir()}
    assert "gone.svg" not in drawn
    assert drawn
    assert all(name in tables.read_text() for name in drawn)


def test_families_are_cases_that_differ_in_items_only():
    """The cases of a line are found by their name, and stand in the order of items."""
    found = plots.families(sized())
    assert [case.sizes and case.name for case in found["block/forward/dim8"]] == [
        f"block/forward/items{items}/dim8" for items in (1, 2, 16)
    ]
    assert set(found) == {"block/forward/dim8"}


def test_plots_are_the_same_bytes_for_the_same_numbers(tmp_path):
    """Drawing twice gives the same files, without a date, and without a background."""
    first, second = (plots.draw(sized(), tmp_path / name) for name in ("a", "b"))
    assert set(first) == {"time", "saved", "peak", "roofline"}
    for kind, path in first.items():
        assert path.read_bytes() == second[kind].read_bytes()
        assert "<dc:date>" not in path.read_text()
        assert "flamingo_blocks" in path.read_text()


def test_results_are_where_the_tables_are():
    """The tables are made beside the files that they are made from."""
    assert page.TABLES.parent == RESULTS
