"""Sawtooth windows: the start moves in steps of a slide, counted from the Unix epoch. Microseconds.

Moments and durations are ints or int64 arrays that broadcast; of ints the result is an int.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@overload
def slide_start(moment_us: int, slide_us: int) -> int: ...
@overload
def slide_start(moment_us: Ints, slide_us: int | Ints) -> Ints: ...
def slide_start(moment_us: int | Ints, slide_us: int | Ints) -> int | Ints:
    """The largest multiple of the slide that is not after the moment."""
    return moment_us - moment_us % slide_us


@overload
def window_start(as_of_us: int, window_us: int, slide_us: int) -> int: ...
@overload
def window_start(as_of_us: Ints, window_us: int | Ints, slide_us: int | Ints) -> Ints: ...
def window_start(as_of_us: int | Ints, window_us: int | Ints, slide_us: int | Ints) -> int | Ints:
    """The first moment of the window as of a moment."""
    reaches_to = as_of_us - window_us
    return reaches_to - reaches_to % slide_us
