"""The few-shot demo: a small Flamingo that learns, in minutes on one CPU core, to name images it is shown."""

from flamingo_blocks.demo.completion import complete, load_demo_model, save_demo_model
from flamingo_blocks.demo.errors import DemoError
from flamingo_blocks.demo.report import DemoResult, format_table
from flamingo_blocks.demo.run import DemoConfig, quick_config, run_demo
from flamingo_blocks.demo.words import Vocabulary

__all__ = [
    "DemoConfig",
    "DemoError",
    "DemoResult",
    "Vocabulary",
    "complete",
    "format_table",
    "load_demo_model",
    "quick_config",
    "run_demo",
    "save_demo_model",
]
