"""The command: draw all figures into `docs/assets`."""

import logging

from docs.figures.drawn import ASSETS, drawn
from docs.figures.synthetic import write

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = drawn()
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, newline="\n")
    write()
    logging.getLogger("docs.figures").info(
        "drew %d SVG files and the pictures of the synthetic suite into %s", len(files), ASSETS
    )
