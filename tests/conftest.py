"""What several test folders share."""

import os
import sys
from pathlib import Path

# The suite runs one process a core; threads beside them only wait for each other (20 times slower, measured).
for _pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_pool, "1")

sys.path.insert(0, str(Path(__file__).parent))  # so that `doubles` can be imported from every folder of tests
