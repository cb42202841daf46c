"""`flamingo-blocks generate`: continue a prompt with images, by a model that the demo saved."""

import argparse
from pathlib import Path
from typing import Any

from flamingo_blocks.cli._arguments import positive
from flamingo_blocks.cli._device import DEVICE_HELP, device_of
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.demo import DemoError, complete, load_demo_model


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "generate",
        help="continue a prompt with images",
        description="Continue a prompt with images, by a model that `flamingo-blocks demo` saved.",
        epilog=closing(
            'flamingo-blocks generate runs/demo/model --image runs/demo/images/red-zero-0.png --prompt "<image> an"',
            "flamingo-blocks generate runs/demo/model --image blue.png --image red.png "
            '--prompt "<image> this is a kulm <EOC> <image> this is a"',
        ),
    )
    parser.add_argument("model", type=Path, metavar="MODEL_DIR", help="folder of the model")
    parser.add_argument(
        "--image",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="image file, one for each <image> of the prompt, in order",
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="text with an <image> for each image")
    parser.add_argument(
        "--max-new-tokens",
        type=positive,
        default=8,
        metavar="N",
        help="most words to write (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help=f"{DEVICE_HELP} (default: %(default)s)")
    add_json(parser, "prompt and continuation")
    parser.set_defaults(run=run, kept="nothing was to be written")


def run(arguments: argparse.Namespace) -> int:
    """Load the model, print the continuation."""
    device = device_of(arguments.device, error=DemoError)
    flamingo, vocabulary = load_demo_model(arguments.model)
    flamingo.to(device)
    written = complete(
        flamingo,
        vocabulary,
        prompt=arguments.prompt,
        images=arguments.image,
        max_new_tokens=arguments.max_new_tokens,
    )
    if arguments.json:
        print_json({"prompt": arguments.prompt, "images": arguments.image, "continuation": written})
    else:
        print(written)
    return 0
