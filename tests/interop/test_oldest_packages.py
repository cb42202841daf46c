"""What the oldest packages that may be installed beside us can do."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_floor_session_installs_the_lower_bounds():
    """Whatever extra names them, transformers and safetensors have one lower bound, and `nox -s floor` runs on it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = {word for words in extras.values() for word in words if word.startswith(("transformers", "safetensors"))}
    (line,) = re.findall(r"^OLDEST = (.*)$", (ROOT / "noxfile.py").read_text(), re.MULTILINE)
    floor = re.findall(r'"(\w+)==([\d.]+)"', line)
    bounds = [re.fullmatch(r"(\w+)>=([\d.]+)", word).groups() for word in sorted(wanted)]
    assert [name for name, _ in bounds] == ["safetensors", "transformers"]
    for name, bound in bounds:
        assert re.fullmatch(rf"{re.escape(bound)}(\.0)*", dict(floor)[name])
