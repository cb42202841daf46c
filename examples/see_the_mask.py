"""Draw which word of a text sees which image.

Run `python examples/see_the_mask.py` with a text of your own, or without; `--scope all` shows all images so far, and
`--direction next` shows each text the image after it. It prints one line a word and one column an image:

    row 0  items 0 1
      Look:      . .
      <image>    # .
      a          # .
      dog        # .
      <image>    . #
      two        . #
      cats       . #
"""

import argparse

import torch

from flamingo_blocks import MediaLayout


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, and draw."""
    parser = argparse.ArgumentParser(description="Draw which word of a text sees which image.")
    parser.add_argument("text", nargs="?", default="Look: <image> a dog <image> two cats")
    parser.add_argument("--scope", choices=("last", "all", "grouped"), default="last")
    parser.add_argument("--direction", choices=("previous", "next"), default="previous")
    options = parser.parse_args(arguments)
    words = options.text.split()
    is_media = torch.tensor([[word == "<image>" for word in words]])
    layout = MediaLayout.from_tokens(is_media, scope=options.scope, direction=options.direction)
    print(layout.explain([words]))


if __name__ == "__main__":
    main()
