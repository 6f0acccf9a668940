"""``python -m reproductions``."""

from reproductions.cli import main

raise SystemExit(main())
