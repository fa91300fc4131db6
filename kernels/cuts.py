"""How a minibatch is cut, for threads to share the work: all of it follows from sizes alone.

It takes a tenth of the time to compile that all of training by tiles does, and is quickly worked out in Python. So
kernels for Python are handed the numbers.
"""

import numpy as np

from .blocking import (
    DIVIDED,
    HALVED,
    HALVED_LARGE,
    HALVES_ALONE,
    KC,
    MICROBATCH,
    MOST_ONLINE,
    MOST_SHARDS,
    NARROW_WIDTH,
    ONLINE_MUCH,
    SHARDED,
    SHARDED_NARROW,
    SHARDED_PARAMETERS,
    SHARE,
    SHARE_FEW,
    TOGETHER,
    UNITS_HANDED,
)
from .compiling import helper
from .parallel import product_work, sharers, worth_sharing
from .parameters import parameters_size
from .tasks import ZERO, outlined
from .wide import is_sliced, is_wide

# What `cuts_of` gives: how many threads gain from sharing a minibatch's shards or products; of whole minibatches, and
# of a smaller one that is left, into how many shards it is cut, whether two threads gain from its halves instead, and
# into slices of how many samples its sums are. And, for which there must be memory, whether parameters are stored in
# panels while many minibatches are trained (`stored`). Behind them may lie a plan.
THREADS, WHOLE, REST, STORED, PLAN = 0, 1, 4, 7, 8
SHARDS, HALVES, LENGTH = 0, 1, 2  # from WHOLE or REST on


@outlined
def cuts_of(sizes, batch, rest, grain):
    """The numbers above of minibatches of `batch` samples, of which `rest` are left in the end, or 0."""
    return (
        np.intp(threads_for(sizes, batch, grain)),
        np.intp(shards_of(sizes, batch)),
        np.intp(gain_from_halves(sizes, batch)),
        np.intp(gradient_length(sizes, batch)),
        np.intp(shards_of(sizes, rest)),
        np.intp(gain_from_halves(sizes, rest)),
        np.intp(gradient_length(sizes, rest)),
        ZERO,
    )


@helper
def shards_of(sizes, batch):
    """Into how many shards a minibatch is cut: 1 for those that are not, else a power of two, which most teams divide.

    Where the first layer is wide, threads divide that instead. The gradient of a shard takes no more memory than its
    rows have activations.
    """
    parameters, widths = parameters_size(sizes), sizes.data[0]
    most_whole = SHARDED_NARROW if all_narrow(sizes) else SHARDED
    if parameters > SHARDED_PARAMETERS or batch * parameters <= most_whole:
        return 1
    if is_wide(sizes.data[0], sizes.data[1], batch):
        return 1
    for layer in range(1, sizes.size):
        widths += sizes.data[layer]
    shards = 1
    while shards < MOST_SHARDS and batch >= 2 * shards * max(MICROBATCH, parameters // widths):
        shards *= 2
    return shards


@helper
def all_narrow(sizes):
    """Whether all layers are so narrow that tiles would be mostly empty."""
    widest = 0
    for layer in range(sizes.size):
        widest = max(widest, sizes.data[layer])
    return widest <= NARROW_WIDTH


@outlined
def is_halved(sizes, batch):
    """Whether two threads may take a half of such a minibatch each.

    That is where there is enough to do, but in products that they gain less from sharing (`together`, `divided`), and
    where they do not take halves of the hidden units instead: then sums over the minibatch need not be of two halves.
    """
    n_in, n_out = sizes.data[0], sizes.data[1]
    if is_wide(n_in, n_out, batch):
        enough = batch > 1 and batch * n_in * n_out >= DIVIDED
        return enough and not worth_sharing(largest_work(sizes, 2, batch), SHARE)
    work = 3 * batch * parameters_size(sizes)
    if work < HALVES_ALONE and has_few_outputs(sizes, batch):
        return False
    too_small = batch >= HALVED and not shares(sizes, batch, SHARE)
    return work >= TOGETHER and (too_small or is_quicker_halved(sizes, batch))


@helper
def is_quicker_halved(sizes, batch):
    """Whether two threads are quicker by halves of a minibatch, in rows, than by sharing products."""
    parameters = parameters_size(sizes)
    in_rows = batch * parameters <= MOST_ONLINE and 2 * parameters <= ONLINE_MUCH and shards_of(sizes, batch) == 1
    return sizes.size > 2 and batch >= HALVED_LARGE and in_rows and not has_few_outputs(sizes, batch)


@helper
def has_few_outputs(sizes, batch):
    """Whether what is handed over is less by halves of the only hidden layer's units (`units`) than of a minibatch."""
    if sizes.size != 3:
        return False
    units, n_out = sizes.data[1], sizes.data[2]
    return is_sliced(units, n_out) and UNITS_HANDED * batch * n_out <= parameters_size(sizes)


@outlined
def gain_from_halves(sizes, batch):
    """Whether two threads gain from taking such a minibatch's halves as shards, without weights of their own.

    The sum of both is the gradient as it is without shards: all sums over the minibatch are of two halves anyway.
    """
    n_in, n_out = sizes.data[0], sizes.data[1]
    enough = 3 * batch * parameters_size(sizes) >= HALVES_ALONE
    in_one_pass = sizes.size == 2 and n_out == 1  # as in `logistic`
    others = in_one_pass or is_wide(n_in, n_out, batch) or shares(sizes, batch, SHARE)
    return enough and not others and is_halved(sizes, batch)


@helper
def sharers_of_minibatch(cuts):
    """How many threads gain from sharing whole minibatches, by the numbers of `cuts_of`."""
    return max(cuts[THREADS], 2 * cuts[WHOLE + HALVES])


@helper
def gradient_length(sizes, batch):
    """Samples of a slice of the sums over a minibatch: the larger half, or KC.

    KC always for the weights of a first layer that is wide.
    """
    return larger_half(batch) if is_halved(sizes, batch) else KC


@helper
def range_of_part(part, parts, count):
    """Where a part of so many samples, inputs or units begins and ends; the first parts are the larger ones."""
    length = (count + parts - 1) // parts
    return part * length, min((part + 1) * length, count)


@helper
def larger_half(count):
    return (count + 1) // 2


@helper
def shares(sizes, batch, grain):
    """Whether threads, with `grain` multiply-adds for each, gain from sharing a batch."""
    return threads_for(sizes, batch, grain) > 1


@helper
def threads_for(sizes, batch, grain):
    """How many threads gain from sharing a batch, its shards or its products; more would be told of tasks in vain."""
    least = min(grain, SHARE if batch >= HALVED else SHARE_FEW)
    return max(shards_of(sizes, batch), sharers(largest_work(sizes, 1, batch), least))


@helper
def largest_work(sizes, lowest, batch):
    """Multiply-adds of the largest product of the layers from the `lowest` up."""
    largest = 0
    for layer in range(lowest, sizes.size):
        largest = max(largest, product_work(batch, sizes.data[layer - 1], sizes.data[layer]))
    return largest
