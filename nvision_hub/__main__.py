"""`python -m nvision_hub` is `nvision-hub`."""

import sys

from nvision_hub.cli import main

if __name__ == "__main__":
    sys.exit(main())
