"""The order in which an epoch takes the samples."""

import numpy as np

from .blocking import ORDER_AHEAD
from .compiling import helper, jit
from .matrix import advance, pointer
from .simd import prefetch
from .tasks import address


@jit
def shuffle(order, start, end, uniform):
    """Put i = start ... end-1 in turn at one of the places up to i of a contiguous `order`, and what was there at i.

    The place is chosen by uniform[i-start] in [0, 1). From 0 on, that is a uniformly random order (Fisher and Yates,
    inside out), but for the 2⁻⁵³ that numbers of float64 differ by. The places lie anywhere in memory. Those of a first
    call, with a `start` of 0, are near; others are asked for some samples ahead. With the numbers it takes 8 ns a
    sample, 11 where there are 10⁶; `Generator.permutation` 16 and 78.
    """
    for i in range(start, end):
        if start > 0:
            ahead = min(i + ORDER_AHEAD, end - 1)
            prefetch(address(advance(pointer(order), place(ahead, uniform[ahead - start]))))
        j = place(i, uniform[i - start])
        order[i] = order[j]
        order[j] = i


@helper
def place(i, uniform):
    return np.intp(uniform * (i + 1))
