"""Arrays against unreadable pages: a script that ends by a signal if a kernel touches memory outside its arrays."""

import ctypes
import itertools
import mmap
import sys

import numpy as np
from conftest import hard_extents
from harness import EAGER, SERIAL, layer_delta, layer_forward, layer_update, panels_for, product

from fastmlp import kernels
from fastmlp._memory import count_parameters
from fastmlp.kernels import entry
from fastmlp.kernels.plan import predict_plan, small_size
from fastmlp.kernels.tiny import tiny

PAGE = mmap.PAGESIZE
PROT_NONE = 0
LIBC = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """A stretch of memory between two pages that can't be touched."""

    def __init__(self, size):
        self.pages = -(-size // PAGE)
        self.memory = mmap.mmap(-1, (self.pages + 2) * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        for page in (0, self.pages + 1):
            address = ctypes.c_void_p(start + page * PAGE)
            if LIBC.mprotect(address, ctypes.c_size_t(PAGE), PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def array(self, values, at_end):
        """A copy of `values`, in its order in memory, that begins behind the first page or ends before the last."""
        offset = (self.pages + 1) * PAGE - values.nbytes if at_end else PAGE
        order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
        flat = np.frombuffer(self.memory, values.dtype, values.size, offset)
        array = flat.reshape(values.shape, order=order)
        array[...] = values
        return array


def main(dtype):
    rng = np.random.default_rng(0)
    extents = hard_extents(dtype)
    largest = max(extents)
    stretches = [Guarded(largest * largest * dtype.itemsize) for _ in range(4)]
    panels_stretch = Guarded(panels_for(EAGER, np.empty((largest, largest), dtype)).nbytes)

    def matrix(rows, columns):
        return rng.standard_normal((rows, columns)).astype(dtype)

    for m, n, k, at_end, order in itertools.product(extents, extents, extents, (False, True), "CF"):
        team = EAGER if k == 33 else SERIAL
        panels = panels_stretch.array(panels_for(team, np.empty((m, n), dtype), np.empty((n, k), dtype)), at_end)

        def place(*arrays, at_end=at_end, order=order):
            pairs = zip(stretches, arrays, strict=False)
            return [stretch.array(np.asarray(array, order=order), at_end) for stretch, array in pairs]

        c, a, b = place(matrix(m, n), matrix(m, k), matrix(k, n))
        product(c, a, b, team, panels)
        g, x, W, bias = place(matrix(m, n), matrix(m, k), matrix(n, k), matrix(1, n))
        layer_forward(g, x, W, bias[0], team, panels)
        delta_below, delta, g_below, W = place(matrix(m, k), matrix(m, n), matrix(m, k), matrix(n, k))
        layer_delta(delta_below, delta, g_below, W, team, panels)
        W, bias, delta, x = place(matrix(n, k), matrix(1, n), matrix(m, n), matrix(m, k))
        layer_update(W, bias[0], delta, x, 0.1, team, panels)


def many_panels(dtype):
    """Products wide enough for several panels of B at once, and for some that are left."""
    rng = np.random.default_rng(0)
    stretches = [Guarded(300 * 300 * dtype.itemsize) for _ in range(4)]
    panels_stretch = Guarded(panels_for(EAGER, np.empty((300, 300), dtype)).nbytes)
    for (m, n, k), team, at_end, order in itertools.product(
        ((180, 300, 70), (200, 16 * 16 + 5, 60)), (SERIAL, EAGER), (False, True), "CF"
    ):
        shapes = (n, m), (1, n), (k, n), (k, m)
        arrays = [np.asarray(rng.standard_normal(shape).astype(dtype), order=order) for shape in shapes]
        W, bias, delta, x = (stretch.array(array, at_end) for stretch, array in zip(stretches, arrays, strict=True))
        panels = panels_stretch.array(panels_for(team, W, delta, x), at_end)
        layer_update(W, bias[0], delta, x, 0.1, team, panels)
        product(W.T, x.T, delta, team, panels)


def networks(dtype):
    """Steps and predictions of few samples, with layers of many inputs or outputs."""
    rng = np.random.default_rng(0)
    stretches = [Guarded(1_000_000) for _ in range(5)]
    for sizes, batch, at_end in itertools.product(([3, 70, 5], [40, 557, 3], [1100, 70, 1]), (1, 2), (False, True)):
        shapes = (
            (count_parameters(sizes),),
            (batch, sizes[0]),
            (batch, sizes[-1]),
            (batch, sizes[-1]),
            (kernels.workspace_size(sizes, batch, dtype.itemsize),),
        )
        arrays = [
            stretch.array(rng.random(shape).astype(dtype), at_end)
            for stretch, shape in zip(stretches, shapes, strict=True)
        ]
        parameters, x, y, g, workspace = arrays
        kernels.train_step(parameters, x, y, 0.1, np.array(sizes), workspace, SERIAL)
        kernels.predict(g, parameters, x, batch, np.array(sizes), workspace, SERIAL)


def networks_in_rows(dtype):
    """Predictions and losses of many samples, in batches of which the last is smaller."""
    rng = np.random.default_rng(0)
    stretches = [Guarded(100_000) for _ in range(6)]
    cases = (1, 1), (50, 1), (3, 5, 1), (17, 20, 6)
    for sizes, batch, order, at_end in itertools.product(cases, (3, 21), "CF", (False, True)):
        samples = 2 * batch + 1
        shapes = (count_parameters(sizes),), (samples, sizes[0]), (samples, sizes[-1]), (samples, sizes[-1])
        arrays = [np.asarray(rng.random(shape).astype(dtype), order=order) for shape in shapes]
        arrays += [np.empty(small_size(sizes, batch, dtype.itemsize), dtype), np.empty(3)]
        placed = [stretch.array(array, at_end) for stretch, array in zip(stretches, arrays, strict=True)]
        parameters, x, y, _, workspace, losses = placed
        plan, g = predict_plan(sizes, batch, 1, workspace), stretches[3].array(np.ascontiguousarray(arrays[3]), at_end)
        x, y = entry.operand(x), entry.operand(y)
        entry.predict_in_rows(g, parameters, x, batch, 0, plan, *SERIAL)
        entry.mean_loss_in_rows(losses, parameters, x, y, batch, 0, plan, *SERIAL)


def tiny_networks(dtype):
    """Training by code for one network alone, with a smaller last minibatch."""
    rng = np.random.default_rng(0)
    stretches = [Guarded(4096) for _ in range(5)]
    for (sizes, batch), at_end in itertools.product((((3, 5, 1), 4), ((5, 3), 2)), (False, True)):
        samples, count = 3 * batch + 1, count_parameters(sizes)
        arrays = [rng.random(shape) for shape in (count, count, (samples, sizes[0]), (samples, sizes[-1]))]
        arrays = [stretch.array(a.astype(dtype), at_end) for stretch, a in zip(stretches, arrays, strict=False)]
        order = stretches[-1].array(rng.permutation(samples), at_end)
        parameters, before, x, y = arrays
        tiny(sizes, batch)(before, True, True, parameters, x, y, order, 0, samples, 0.0, 0.1, batch, 1)


if __name__ == "__main__":
    if sys.argv[1] == "touch":  # the pages do guard
        Guarded(8).array(np.zeros(1), at_end=True).ctypes.data_as(ctypes.POINTER(ctypes.c_double))[1] = 1
    main(np.dtype(sys.argv[1]))
    many_panels(np.dtype(sys.argv[1]))
    networks(np.dtype(sys.argv[1]))
    networks_in_rows(np.dtype(sys.argv[1]))
    tiny_networks(np.dtype(sys.argv[1]))
