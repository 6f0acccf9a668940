"""``python -m assay`` is the same as ``assay``."""

import sys

from .cli.main import main

sys.exit(main())
