"""`python -m uipad_cli` is the same program as `uipad`."""

import sys

from uipad_cli.cli import main

sys.exit(main())
