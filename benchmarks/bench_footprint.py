"""fastmlp alone: how soon a fresh interpreter trains, and the memory that it takes."""

from .peers import build
from .shapes import SHAPES

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


def peakmem_epoch(shape):
    """Of the whole process: the interpreter, Numba and the samples are in it."""
    peer, arrays = build("fastmlp", shape)
    peer.epoch(*arrays)


peakmem_epoch.params = (SHAPES,)
peakmem_epoch.param_names = ("shape",)
