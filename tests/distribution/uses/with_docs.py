"""What builds the site is there; the session `docs` builds it."""

from pathlib import Path

import material  # noqa: F401
import mkdocs.config

config = mkdocs.config.load_config(str(Path(__file__).parents[3] / "mkdocs.yml"))
assert {"search", "mkdocstrings"} <= {name.removeprefix("material/") for name in config.plugins}, config.plugins
