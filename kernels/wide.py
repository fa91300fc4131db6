"""Layers of many inputs and few outputs: the sum over the inputs is in slices, which are added in order.

Threads can then share it, though a small minibatch has too few rows and such a layer too few columns. Into how many
slices it is cut depends on the layer alone: so the bits do not depend on who computes.
"""

from .ahead import BYTES_OF_LINES
from .blocking import DIVIDED, HOST, KC, MOST_SLICES, MR, RUN, SLICE, SLICED_WEIGHTS
from .compiling import helper
from .gemm import is_packed, worker_size
from .matrix import padded, row_stride
from .thin import thin_size


@helper
def slices_of(n_in, n_out):
    """Into how many slices: 1, or a power of two, which most teams divide."""
    slices = 1
    while slices < MOST_SLICES and n_in >= 2 * slices * SLICE and n_in * n_out <= SLICED_WEIGHTS:
        slices *= 2
    return slices


@helper
def slice_length(n_in, n_out):
    """Inputs of a slice; the last has perhaps fewer."""
    slices = slices_of(n_in, n_out)
    return (n_in + slices - 1) // slices if slices > 1 else KC


@helper
def parts_of(slices, threads):
    """Into how many parts of so many slices each, a power of two, threads divide a layer."""
    parts = 1
    while 2 * parts <= min(slices, threads):
        parts *= 2
    return parts


@helper
def is_wide(n_in, n_out, batch):
    """Whether the sums of all slices are fewer than the weights."""
    slices = slices_of(n_in, n_out)
    return slices > 1 and batch * slices <= n_in


def is_divided(sizes, batch_size, samples, threads):
    """Whether threads divide a wide first layer, in a run of minibatches: they do if there is enough to do."""
    n_in, n_out = sizes[:2]
    enough = batch_size * n_in * n_out >= DIVIDED and samples >= RUN * batch_size
    return enough and is_wide(n_in, n_out, batch_size) and parts_of(slices_of(n_in, n_out), threads) > 1


def parts_size(n_in, n_out, batch, itemsize, threads):
    """Elements of memory for all slices' products, and for the parts that so many threads, or fewer, divide it into."""
    slices, lanes = slices_of(n_in, n_out), HOST.lanes(itemsize)
    number = range(1, parts_of(slices, threads) + 1)
    parts = max(p * part_size(n_in, n_out, batch, p, itemsize, HOST.vectors * lanes, 2 * lanes) for p in number)
    return slices * batch * padded(n_out) + parts


@helper
def part_size(n_in, n_out, batch, parts, itemsize, nr, two):
    """Elements for a part: what is expected, its columns of x, and panels for its products."""
    length = slice_length(n_in, n_out)
    columns = slices_of(n_in, n_out) // parts * length
    width = two if n_out <= two else nr
    packed = (columns + 2 * MR) * batch if is_packed(columns, n_out, batch, nr) else 0
    worker = max(worker_size(max(columns, batch), max(length, batch), MR, width), thin_size(n_out, length, nr, two))
    panels = padded(packed + nr) + padded(worker)
    return BYTES_OF_LINES // itemsize + padded(batch * row_stride(columns, itemsize)) + panels
