"""`python -m flamingo_blocks.cli` does what `flamingo-blocks` does."""

import sys

from flamingo_blocks.cli import main

if __name__ == "__main__":
    sys.exit(main())
