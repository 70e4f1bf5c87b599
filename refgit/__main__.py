"""``python -m refgit``: the same as the command ``refgit``."""

import sys

from refgit.cli.main import main

sys.exit(main())
