"""Which of the programs trains a network, whether threads may gain from it, and what memory it takes."""

import functools
import itertools
import math

import numpy as np

from .blocking import (
    FAR,
    FEW_ROWS,
    FEW_TERMS,
    GRAIN,
    LAID_OUT_FOR_EACH,
    LAID_OUT_FROM,
    MANY_PAGES,
    MR,
    PAGE,
    PREDICT_ROWS,
    PREDICTED_ELEMENTS,
    PREDICTED_IN_ROWS,
    PREDICTED_ONE,
    SHARE,
    SIGMOID,
    STORED_FROM,
)
from .cuts import HALVES, REST, SHARDS, STORED, WHOLE, cuts_of, gain_from_halves, is_halved, shares
from .divided import divided_size, is_divided
from .divided_rows import is_divided_rows
from .entry import IN_BLOCKS, IN_TILES, LAID_OUT, STREAMED
from .few_rows import most_rows
from .gemm import fits_in_a_block
from .host import HOST
from .matrix import Vector
from .network import minibatch_size, promised, shared_by_predict, workspace_size
from .online import is_online
from .parallel import product_work, worth_sharing
from .parameters import is_dotted, parameters_size, stored_shape
from .plan import by_two_size, by_units_size, is_apart, small_size
from .stored import all_stored_size, lies_in_panels
from .together import is_together
from .units import is_by_units

BY_TWO_IN_ROWS = "train_together", "train_divided_rows", "train_by_units"
"""The programs of two threads among entry.LAID_OUT, whose plans have a table for each of them too."""


def program_for(sizes, batch_size, samples, threads):
    """The name in `entry` of what is the quickest to train such a network on samples in an order."""
    by_two = program_for_two(sizes, batch_size, samples, threads)
    if by_two is not None:
        return by_two
    if not is_online(sizes, batch_size):
        return "train_in_turn"
    if is_apart(sizes, batch_size):
        return "train_apart"
    # By two threads a step takes from 0.6 (400-400-400-10 by 3) to 1.8 times (2249-123-133 by 4) as long in turn.
    shared = threads > 1 and shares(Vector(sizes, len(sizes)), batch_size, SHARE)
    return "train_in_turn_or_online" if shared and is_online(sizes, batch_size, copies=1) else "train_online"


def program_for_two(sizes, batch_size, samples, threads):
    """The name of one by which two threads take a half of every minibatch each, or None."""
    if is_by_units(sizes, batch_size, samples, threads):
        return "train_by_units"
    if is_divided_rows(sizes, batch_size, samples, threads):
        return "train_divided_rows"
    if is_divided(sizes, batch_size, samples, threads):
        return "train_divided"
    return "train_together" if is_together(sizes, batch_size, samples, threads) else None


def left_in_turn(program, sizes, batch_size, samples):
    """The samples of a last and smaller minibatch that a program leaves to `train_in_turn`: too few to be halved."""
    rest = samples % batch_size
    return 0 if program != "train_divided" or is_halved(Vector(sizes, len(sizes)), rest) else rest


def may_share(sizes, batch_size, samples=math.inf):
    """Whether threads, however soon they come, may gain from sharing the work on a batch, or on so many samples."""
    by_two, vector = program_for_two(sizes, batch_size, samples, 2), Vector(sizes, len(sizes))
    return by_two is not None or shares(vector, batch_size, SHARE) or gain_from_halves(vector, batch_size)


def may_stream(sizes, batch_size, itemsize):
    """Whether some products of such batches have few rows or terms, as `thin` has it, and are quicker if streamed.

    A layer of dot products is always streamed: its sums have an order of their own.
    """
    if batch_size == 1 or 1 in sizes or is_dotted(1, *sizes[:2]):
        return True
    for n_in, n_out in itertools.pairwise(sizes):
        rows, columns = stored_shape(n_in, n_out)
        few = max(most_rows(n_in * n_out, columns * itemsize % PAGE == 0), FEW_TERMS)
        if batch_size <= few and n_in * n_out > FAR:
            return True
        if rows <= 2 * FEW_ROWS and batch_size * columns > FAR:
            return True
    return False


def are_single_tasks(sizes, batch_size, itemsize, shared):
    """Whether none of the products of such batches is `shared` by threads, or cut into blocks."""
    nr, grain = HOST.vectors * HOST.lanes(itemsize), min(GRAIN.values())
    products = [(batch_size, n_in, n_out) for n_in, n_out in itertools.pairwise(sizes[1:])]
    for n_in, n_out in itertools.pairwise(sizes):
        rows, columns = stored_shape(n_in, n_out)
        products += [(batch_size, n_out, n_in), (rows, columns, batch_size)]
    if shared and any(worth_sharing(product_work(*product), grain) for product in products):
        return False
    return all(fits_in_a_block(*product, nr) for product in products)


@functools.lru_cache(maxsize=1024)
def given_sizes(sizes, itemsize, batch_size, rest=0, shared=True, stored=False):
    """The arguments `sizes`, `cuts` and `products` of the kernels in `entry`, for a network.

    It is given batches of so many samples, and perhaps one of a smaller `rest`; products may be `shared` by threads.
    Parameters are `stored` in panels if there is memory for it.
    """
    cuts = np.array(cuts_of(Vector(sizes, len(sizes)), batch_size, rest, SHARE))
    cuts[STORED] = stored
    if may_stream(sizes, batch_size, itemsize):
        products = STREAMED
    elif are_single_tasks(sizes, batch_size, itemsize, shared):
        products = IN_TILES
    else:
        products = IN_BLOCKS
    return np.array(sizes, np.int64), cuts, products


def predicted_in_tiles(sizes, itemsize, samples, threads=1):
    """What `network.predict` takes so many samples with: the rows of a batch, the network's sizes and how products are
    computed, elements of workspace, and the multiply-adds that threads share, if any.
    """
    most = min(samples, PREDICT_ROWS)
    many = threads if most < samples else 1  # that take batches
    rows = evenly(samples, most, many, MR)
    given, _, products = given_sizes(sizes, itemsize, most)
    size = many * workspace_size(sizes, rows, itemsize, threads // many)
    return rows, (given, products), size, shared_by_predict(parameters_size(Vector(sizes, len(sizes))), samples, most)


def evenly(samples, most, threads, unit):
    """Samples of a batch, so many at most, of which all threads get about as many; a number of whole units, if not all.

    Of the time with batches of the most, 256, 300 predictions by two threads take 0.66 on 1360-113-5-65.
    """
    batches = threads * -(-samples // (most * threads))
    return min(most, -(-samples // (batches * unit)) * unit)


def fit_size(sizes, batch_size, itemsize, threads, samples, any_x=False):
    """Elements of workspace for the program that trains so; x may have any layout, or is gathered in rows."""
    program = program_for(sizes, batch_size, samples, threads)
    if program in LAID_OUT:
        size = small_size(sizes, batch_size, itemsize)
        if program not in BY_TWO_IN_ROWS:
            return size
        if program == "train_by_units":
            return max(size, by_units_size(sizes, batch_size, itemsize))
        return max(size, by_two_size(sizes, batch_size, itemsize, program == "train_divided_rows"))
    size = minibatches_size(sizes, batch_size, itemsize, threads, samples, any_x)
    if is_stored(sizes, batch_size, itemsize, threads, samples):
        size += 16 + all_stored_size(Vector(sizes, len(sizes)), 1, itemsize)
    if program == "train_in_turn_or_online":
        return max(size, small_size(sizes, batch_size, itemsize))
    return max(size, divided_size(sizes, batch_size, itemsize)) if program == "train_divided" else size


def minibatches_size(sizes, batch_size, itemsize, threads, samples, any_x):
    """Elements of workspace for minibatches of so many samples and for what is left of all."""
    batches = {batch_size, samples % batch_size or batch_size}
    return max(minibatch_size(sizes, batch, itemsize, threads, any_x) for batch in batches)


def is_stored(sizes, batch_size, itemsize, threads, samples):
    """Whether parameters are stored in panels while so many samples are trained, in the memory that is promised."""
    vector = Vector(sizes, len(sizes))
    layers = [layer for layer in itertools.pairwise(sizes) if lies_in_panels(*layer, itemsize)]
    on_pages = any(n_out * itemsize % PAGE == 0 for _, n_out in layers)
    far = parameters_size(vector) * itemsize > MANY_PAGES and not on_pages
    many = batch_size > (FEW_ROWS if far else max(2 * FEW_ROWS, FEW_TERMS)) and samples >= STORED_FROM * batch_size
    if not (layers and many) or program_for(sizes, batch_size, samples, threads) != "train_in_turn":
        return False
    cuts = cuts_of(vector, batch_size, samples % batch_size, SHARE)
    if any(cuts[batch + SHARDS] > 1 or cuts[batch + HALVES] for batch in (WHOLE, REST)):
        return False  # gradients of shards are laid out as the parameters
    size = minibatches_size(sizes, batch_size, itemsize, 1, samples, any_x=False) + all_stored_size(vector, 1, itemsize)
    return size <= promised(sizes, batch_size)


def samples_in_rows(sizes):
    """How many samples at a time are predicted with the network laid out in rows, or 0 where that is not quicker."""
    if parameters_size(Vector(sizes, len(sizes))) > PREDICTED_IN_ROWS:
        return 0
    return min(PREDICT_ROWS, max(PREDICT_ROWS // 4, PREDICTED_ELEMENTS // max(sizes) // 16 * 16))


def least_in_rows(sizes):
    """How many samples are predicted so, or more: to lay out many weights takes longer than to predict few samples."""
    if samples_in_rows(sizes) == 0:
        return math.inf
    parameters = parameters_size(Vector(sizes, len(sizes)))
    return 1 if parameters <= PREDICTED_ONE else max(LAID_OUT_FROM, parameters // LAID_OUT_FOR_EACH)


def least_losses_in_rows(sizes):
    """The same of losses; but for few samples of a small network nothing with tiles is compiled besides."""
    least = least_in_rows(sizes)
    return 1 if least <= LAID_OUT_FROM else least


def work_in_rows(sizes):
    """Multiply-adds that take as long as all of that for a sample."""
    return parameters_size(Vector(sizes, len(sizes))) + SIGMOID * sum(sizes[1:])
