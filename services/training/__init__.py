"""From a range of time to a registered version."""

import os

# OpenMP's threads spin at each barrier by default. Beside other busy processes that took three times the CPU for the
# same trees (21.6 s against 7.3 s). libgomp reads this when LightGBM loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
