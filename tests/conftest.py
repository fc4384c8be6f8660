"""What several test folders share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # so that `doubles` can be imported from every folder of tests
