"""``python -m mmbeit3``, for torchrun: the same as the ``mmbeit3`` command."""

import sys

from mmbeit3.cli import main

if __name__ == "__main__":
    sys.exit(main())
