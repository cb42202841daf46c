"""The notebook of the first hour runs in a kernel of its own, and gives again what is kept in it.

A kernel and not one namespace: what is kept beside the cells are pictures and prints that only a kernel makes.
"""

from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_hour.ipynb"


def code_cells(notebook):
    """The cells that run."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(cell) -> str:
    """What a cell writes to its standard output."""
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def kinds(cell) -> set[str]:
    """What a cell gives: prints, pictures, warnings, errors."""
    return {output.get("name", output.output_type) for output in cell.outputs}


def test_the_notebook_is_whole():
    """The notebook is valid, its cells were run in order, all that print or draw keep it, and none warned or failed."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        shows = {kind for kind, call in (("stdout", "print("), ("display_data", "plt.show")) if call in cell.source}
        assert shows <= kinds(cell) <= {"stdout", "display_data"}


@pytest.mark.full
def test_the_notebook_gives_what_it_keeps(tmp_path, monkeypatch):
    """Run again, each cell prints what is kept beside it, unless it is marked as one that varies by machine, and gives
    outputs of the same kinds.
    """
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # a kernel draws into its cells by a backend of its own
    kept = nbformat.read(NOTEBOOK, as_version=4)
    again = nbformat.read(NOTEBOOK, as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(again, timeout=600, kernel_name="python3", resources=folder).execute()
    for old, new in zip(code_cells(kept), code_cells(again), strict=True):
        assert kinds(new) == kinds(old)
        if "varies" not in old.metadata.get("tags", []):
            assert printed(new) == printed(old)
