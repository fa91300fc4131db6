"""The order in which a program takes samples, whose numbers are worked out a stretch at a time.

So it takes no more memory where there are more samples.
"""

from collections import namedtuple

import numpy as np
from numba import types

from .ahead import may_be_fetched
from .blocking import STRETCH_LEAST, STRETCH_MOST
from .compiling import helper, implements
from .matrix import Vector, advance, vector
from .parameters import parameters_size
from .shuffle import Orders, take_in_order
from .tasks import call_task, reference

NO_KEYS = np.empty(0, np.uint32)

Order = namedtuple("Order", "numbers samples a b keys")
"""In compiled code: a Vector for the numbers of a stretch, and what `shuffle.Orders` has, of a random order.

Without keys samples come as they are; where `samples` is 0, the numbers are those of all samples, and are there.
"""


def as_they_are(samples):
    """What stands for `Orders` where samples come so."""
    return Orders(samples, 1, 1, NO_KEYS)


def order_of(numbers):
    """An order of such numbers, for a kernel."""
    return (numbers, *as_they_are(0))


def in_stretches(orders, size):
    """An order, for a kernel, with memory for so many numbers. Zeros: rows of some behind the last may be fetched."""
    return (np.zeros(size, np.intp), *orders)


def stretch_size(sizes, itemsize, batch_size, samples):
    """How many numbers to have memory for: a few minibatches, of half the bytes that many parameters have, and one.

    Or of a single minibatch, if it is so large that none is fetched ahead.
    """
    parameters = parameters_size(Vector(sizes, len(sizes)))
    most = min(max(STRETCH_LEAST, parameters * itemsize // (2 * np.intp().itemsize)), STRETCH_MOST)
    whole = max(1, min(most, samples) // batch_size)
    alone = whole == 1 and not may_be_fetched(batch_size, sizes[0] + sizes[-1], itemsize)
    return batch_size * (1 if alone else whole + 1)


def as_order(order):
    raise NotImplementedError("for compiled code")


@implements(as_order)
def _as_order(order):
    """An Order of the tuple that kernels are given, or of a vector of all numbers."""
    if isinstance(order, types.BaseTuple):

        def from_tuple(order):
            numbers, samples, a, b, keys = order
            return Order(vector(numbers), samples, a, b, vector(keys))

        return from_tuple
    return lambda order: Order(vector(order), 0, 1, 1, Vector(reference(np.uint32(0)), 0))


@helper
def next_stretch(order, begun, first, last, batch_size):
    """Work out the numbers of samples from `first` on; where among them a stretch begins, and where it, or `last`, is.

    Those of the minibatch behind are there too, to be fetched, and to be the first of the next stretch: so they are
    where another one has `begun`, before `first`. But where there is memory for a single minibatch, it has no more.
    """
    numbers, samples, a, b, keys = order
    if samples == 0:
        return first, last
    more = batch_size if numbers.size > batch_size else 0
    behind, known = numbers.size - more, 0
    if first > begun:
        known = more
        for i in range(known):
            numbers.data[i] = numbers.data[behind + i]
    count = min(behind, last - first)
    wanted = Vector(advance(numbers.data, known), min(count + more, samples - first) - known)
    take_in_order(wanted, first + known, samples, a, b, keys)
    return 0, count


@helper
def train_in_order(program, run, result, order, last, batch_size, memory):
    """Call the task program(run, end, memory), as `train.train_in_turn` is one, for one stretch after the other.

    It begins with the loss and the sample in result[0], and leaves those at which training stopped.
    """
    loss, begun = result[0]
    first = begun
    while first < last:
        begin, end = next_stretch(order, begun, first, last, batch_size)
        result[0] = (loss, begin)
        call_task(program, run, end, memory)
        loss, reached = result[0]
        first += reached - begin
        if reached < end:
            break
    result[0] = (loss, first)
