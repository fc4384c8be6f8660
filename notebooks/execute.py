"""Make the executed notebooks from their sources: ``pip install -e ".[all,docs]" && python notebooks/execute.py``."""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(source: Path) -> None:
    """Run one source in a kernel of its own, and write the notebook beside it."""
    book = jupytext.read(source)
    book.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    for number, cell in enumerate(book.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata = {}
    nbformat.write(book, source.with_suffix(".ipynb"))


if __name__ == "__main__":
    os.environ.pop("DPSYNTH_NOTEBOOK_SMALL", None)
    wanted = sys.argv[1:] or [path.name for path in sorted(HERE.glob("0*.py"))]
    for name in wanted:
        execute(HERE / name)
