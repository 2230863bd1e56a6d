"""Numbers that several parts of the core share."""

from __future__ import annotations

import numpy as np

HIGH = 0.99
"""Quantile of normal readings that is a signal's usual size."""
FLOOR = 0.1
"""No divisor is below this part of what it is compared with, the median of all channels' or a term's value: what hardly varied must not
explode. FLOOR^2 is the least size and the least weight of a channel, scaled units."""
CLIP = 10.0
"""Winsorization limit: a value teaches as if it were at most so many usual sizes out, so that one absurd value teaches little. At 5 the
universal model loses .09 on SMD."""
RESOLUTION = 4 * float(np.finfo(np.float32).eps)
"""Differences below this part of a value are rounding: values are 32-bit floats."""
TRAINING_READINGS = 500
"""What training knew of a range, or of a term, weighs as much as so many readings of the stream's own."""
COUNT_MAX = 2**24
"""Counters stop here, up to which a 32-bit float is exact: no longer past is counted."""
