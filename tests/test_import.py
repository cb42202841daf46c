"""Importing the library is cheap and does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

OWN = {"flamingo_blocks", "torch", "einops", "jaxtyping"}  # parts of torch and the others that only we ask for included


def run_python(code: str, environment: dict[str, str] | None = None) -> dict[str, object]:
    """Run `code` in an interpreter of its own; its one line of output is JSON."""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def test_import_brings_nothing_but_the_core_dependencies():
    """`import flamingo_blocks` loads no package beside torch, einops, jaxtyping and what they load by themselves."""
    code = """
import sys, json
import torch, einops, jaxtyping
before = set(sys.modules)
import flamingo_blocks
new = {name.partition(".")[0] for name in set(sys.modules) - before}
heavy = {"transformers", "xformers", "safetensors", "sklearn", "matplotlib", "PIL"} & set(sys.modules)
print(json.dumps({"new": sorted(new - set(sys.stdlib_module_names)), "heavy": sorted(heavy)}))
"""
    loaded = run_python(code)
    assert set(loaded["new"]) <= OWN
    assert loaded["heavy"] == []


def test_import_costs_at_most_a_tenth_of_a_second_beyond_torch(tmp_path: Path):
    """The least of five fresh interpreters, in CPU time: a busy machine adds to both, and neither is ours.

    The byte code is written first, as an installer does, wherever the environment forbids to write it: without it the
    time is that of the compiler.
    """
    code = """
import json, time
import torch
start = time.process_time()
import flamingo_blocks
print(json.dumps({"seconds": time.process_time() - start}))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(tmp_path)
    run_python(code, environment)
    assert list(tmp_path.rglob("flamingo_blocks/**/*.pyc"))
    seconds = min(run_python(code, environment)["seconds"] for _ in range(5))
    assert seconds <= 0.1, f"import flamingo_blocks took {seconds:.3f} s of CPU time beyond torch"


def test_import_has_no_side_effects():
    """Importing leaves environment, random state, defaults and thread count as they are, and starts no CUDA."""
    code = """
import json, os, torch
def state():
    return [dict(os.environ), torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(),
            torch.random.get_rng_state().tolist(), torch.are_deterministic_algorithms_enabled(),
            torch.cuda.is_initialized()]
before = state()
import flamingo_blocks
print(json.dumps({"same": state() == before}))
"""
    assert run_python(code) == {"same": True}
