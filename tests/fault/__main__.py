"""`make fault`: one run, its seed printed first."""

import sys

from tests.fault.run import main

sys.exit(main())
