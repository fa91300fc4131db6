"""A step allocates nothing, and memory stays flat."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from fastmlp import Network

ALLOCATIONS = """
import numpy as np
from numba import njit
from numba.core.runtime import _nrt_python, rtsys
from fastmlp import Network, kernels

@njit
def steps(count, parameters, x, y, sizes, workspace, gradient, g, order, team):
    loss = 0.0
    for _ in range(count):
        loss += kernels.train_step(parameters, x, y, 0.1, sizes, workspace, team)
        loss += kernels.gradients(gradient, x, False, parameters, x, y, sizes, workspace, team)
        kernels.predict(g, parameters, x, 5, sizes, workspace, team)
        loss += kernels.train_minibatches(parameters, x, y, order, 0, 20, 0.0, 6, 0.1, sizes, workspace, team)[0]
    return loss

rng = np.random.default_rng(0)
sizes = np.array([7, 300, 300, 3])
x, y = rng.random((20, 7)), rng.random((20, 3))
parameters = Network(sizes, dtype=np.float64, seed=0).parameters
g, gradient, order = np.empty((20, 3)), np.empty_like(parameters), rng.permutation(20)
for team in (kernels.SERIAL, kernels.Team(2, 1)):
    workspace = np.empty(kernels.workspace_size(sizes, 20, 8, team.threads))
    counts = []
    steps(1, parameters, x, y, sizes, workspace, gradient, g, order, team)
    for count in (1, 100):
        before = rtsys.get_allocation_stats()
        steps(count, parameters, x, y, sizes, workspace, gradient, g, order, team)
        after = rtsys.get_allocation_stats()
        counts.append((after.alloc - before.alloc, after.mi_alloc - before.mi_alloc))
    print(counts[0] == counts[1] and after.mi_alloc > 0, counts)
"""

FLAT = """
import numpy as np
from fastmlp import Network

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

rng = np.random.default_rng(0)
net = Network([10, 20, 3], seed=0)
X, Y = rng.random((64, 10), dtype=np.float32), rng.random((64, 3), dtype=np.float32)

def work(times):
    for _ in range(times):
        net.train_step(X, Y, learning_rate=0.1)
    net.fit(X, Y, epochs=times // 10, batch_size=1)

work(1000)
before = resident()
work(50_000)  # 50,000 single steps, and 320,000 in fits
print(resident() - before)
"""


def output(script, **environment):
    import os

    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_step_allocates_nothing():
    """As many allocations in a call of a hundred rounds of every kernel as in a call of one: those of the call."""
    serial, parallel = output(ALLOCATIONS, NUMBA_NRT_STATS="1").splitlines()
    assert serial.startswith("True"), serial
    assert parallel.startswith("True"), parallel


def test_memory_is_flat_over_a_hundred_thousand_steps():
    assert int(output(FLAT)) < 2**20  # the interpreter's own arenas come and go by 256 KiB


def test_training_does_not_copy_the_data():
    script = """
import numpy as np, resource
from fastmlp import Network
net = Network([100, 4, 1], seed=0)
small = np.ones((10_000, 100), np.float32), np.ones((10_000, 1), np.float32)
net.fit(*small, epochs=1, batch_size=256)  # compiles
X, Y = np.ones((1_000_000, 100), np.float32), np.ones((1_000_000, 1), np.float32)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
net.fit(X, Y, epochs=1, batch_size=256)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    assert int(output(script)) < 16 * 2**20  # X takes 400 MB


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        ([64, 64, 10], 32),
        ([784, 30, 10], 10),
        ([784, 8], 30),
        ([784, 128, 10], 128),
        ([16] * 20, 64),
        ([4, 8, 3], 5000),
        ([10, 1000, 10], 256),
        ([1, 953, 12], 200),
        ([38, 1], 3000),
    ],
)
def test_a_fit_takes_no_more_than_four_times_the_parameters_and_two_minibatches_of_activations(sizes, batch, dtype):
    rng = np.random.default_rng(0)
    X, Y = (rng.random((100 * batch, columns), dtype) for columns in (sizes[0], sizes[-1]))
    Network(sizes, dtype=dtype, seed=0).fit(X, Y, epochs=1, batch_size=batch)  # compiles
    net = Network(sizes, dtype=dtype, seed=0)
    tracemalloc.start()
    try:
        net.fit(X, Y, epochs=1, batch_size=batch)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_python = 4096  # the objects of a call
    assert most <= dtype.itemsize * (4 * net.n_parameters + 2 * batch * sum(sizes)) + of_python
