"""What a user has without extras: every public name can be had, and the block of the README runs."""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path

import flamingo_blocks
from flamingo_blocks.errors import MissingDependencyError

installed = Path(flamingo_blocks.__file__).parent
assert "site-packages" in installed.parts, f"the sources are used in place of what is installed: {installed}"
assert flamingo_blocks.__version__ == importlib.metadata.version("flamingo-blocks")

for module, names in json.loads(Path(sys.argv[1]).read_text()).items():
    try:
        imported = importlib.import_module(module)
    except MissingDependencyError as error:
        if module != "flamingo_blocks.hf" or "'.[hf]'" not in str(error):
            raise
        continue
    for name in names:
        getattr(imported, name)

readme = importlib.metadata.metadata("flamingo-blocks").get_payload()
(block,) = [part.partition("```")[0] for part in readme.split("```python\n")[1:]]
names = {}
exec(compile(block, "README.md", "exec"), names)
assert names["out"].shape == (1, 6, 64)
