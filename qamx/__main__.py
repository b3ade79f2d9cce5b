"""`python -m qamx`."""

import sys

from qamx.cli import main

sys.exit(main())
