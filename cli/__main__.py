"""`python -m mgnas.cli` is `mgnas`."""

import sys

from .main import main

sys.exit(main())
