"""`python -m syncer.cli`: the same as `syncline`."""

import sys

from syncer.cli import main

sys.exit(main())
