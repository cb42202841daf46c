"""`python -m flamingo_blocks.cli` does what `flamingo-blocks` does."""

import sys

from flamingo_blocks.cli import main

sys.exit(main())
