"""Sawtooth windows: the start moves in steps of a slide, counted from the Unix epoch. Microseconds.

Each function takes an int or an int64 array and returns the same kind.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Moments = TypeVar("Moments", int, NDArray[np.int64])


def slide_start(moment_us: Moments, slide_us: int) -> Moments:
    """The largest multiple of the slide that is not after the moment."""
    return moment_us - moment_us % slide_us


def window_start(as_of_us: Moments, window_us: int, slide_us: int) -> Moments:
    """The first moment of the window as of a moment."""
    return slide_start(as_of_us - window_us, slide_us)
