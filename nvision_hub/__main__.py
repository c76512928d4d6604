"""Entry point of `python -m nvision_hub`, which is the same as the `nvision-hub` command."""

import sys

from nvision_hub.cli import main

if __name__ == "__main__":
    sys.exit(main())
