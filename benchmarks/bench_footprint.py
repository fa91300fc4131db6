"""fastmlp alone: how soon a fresh interpreter trains, and the memory that it takes."""

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from .peers import build
from .shapes import DTYPE, SHAPES

number = 1
repeat = (3, 10, 10.0)
warmup_time = 0  # `setup_cache` has done it
rounds = 2
timeout = 120

FIRST_MINIBATCH = """
import numpy as np
from fastmlp import Network

x, y = np.zeros((10, 784), np.float32), np.zeros((10, 10), np.float32)
Network([784, 30, 10]).fit(x, y, epochs=1, batch_size=10)
"""


def setup_cache():
    """Compile in a process of its own: what is measured here loads its kernels from the disk."""
    for shape in SHAPES:
        peer, arrays = build("fastmlp", shape._replace(minibatches=1))
        peer.epoch(*arrays)


setup_cache.timeout = 600


def timeraw_import():
    return "import fastmlp"


def timeraw_first_minibatch():
    return FIRST_MINIBATCH


def track_first_fit_ever():
    """Seconds of the first `fit` where nothing is compiled yet."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", FIRST_MINIBATCH], env={**os.environ, "NUMBA_CACHE_DIR": cache}, check=True
        )
        return time.perf_counter() - start


track_first_fit_ever.unit = "s"


def track_bytes_of_training(shape):
    """Memory that training needs beside the data: workspace, parameters, a copy of them or a plan, part of an order."""
    from fastmlp._memory import count_parameters
    from fastmlp.kernels import entry
    from fastmlp.kernels.order import stretch_size
    from fastmlp.kernels.plan import plan_size
    from fastmlp.kernels.programs import BY_TWO_IN_ROWS, fit_size, may_share, program_for

    threads = os.cpu_count() if may_share(shape.sizes, shape.batch_size) else 1
    given = threads, shape.minibatches * shape.batch_size
    program = program_for(shape.sizes, shape.batch_size, given[1], threads)
    workspace = fit_size(shape.sizes, shape.batch_size, DTYPE.itemsize, *given)
    beside = parameters = count_parameters(shape.sizes)
    if program in entry.LAID_OUT:
        beside = plan_size(shape.sizes, DTYPE.itemsize, together=program in BY_TWO_IN_ROWS)
    order = np.intp().itemsize * stretch_size(parameters, DTYPE.itemsize, shape.batch_size, given[1])
    return DTYPE.itemsize * (parameters + beside + workspace) + order


track_bytes_of_training.params = (SHAPES,)
track_bytes_of_training.param_names = ("shape",)
track_bytes_of_training.unit = "bytes"


class Embedded:
    """`kernels.predict` of one sample from compiled code."""

    def setup(self):
        from numba import njit

        from fastmlp import Network, kernels

        net = Network([64, 64, 10], seed=0)
        predict, team = kernels.predict, kernels.SERIAL

        @njit
        def run(times, g, parameters, x, sizes, workspace):
            for _ in range(times):
                predict(g, parameters, x, 1, sizes, workspace, team)

        sizes = np.array(net.sizes)
        workspace = np.empty(kernels.workspace_size(sizes, 1, 4), np.float32)
        arguments = np.empty((1, 10), np.float32), net.parameters, np.zeros((1, 64), np.float32), sizes, workspace
        run(1, *arguments)
        self.call = lambda: run(1000, *arguments)

    def time_1000_predictions(self):
        self.call()


def peakmem_epoch(shape):
    """Of the whole process: the interpreter, Numba and the samples are in it."""
    peer, arrays = build("fastmlp", shape)
    peer.epoch(*arrays)


peakmem_epoch.params = (SHAPES,)
peakmem_epoch.param_names = ("shape",)
