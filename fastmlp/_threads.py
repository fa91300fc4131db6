"""How many threads a call may use, and when it may use any.

A parallel region is unsafe in a forked child of a process that has started OpenMP threads, and in two threads at
once under Numba's workqueue layer: both end the process. There a call computes alone, with the same result.
"""

import contextlib
import os
import threading

import numba

from .kernels import SERIAL, Team
from .kernels.blocking import GRAIN
from .kernels.parallel import run_tasks_parallel

_in_parallel = threading.RLock()
_forked = False


def _after_fork():
    global _forked, _in_parallel
    _forked = _started()
    _in_parallel = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _started():
    try:
        return numba.threading_layer() == "omp"
    except ValueError:  # no parallel function has run yet
        return False


def _layer():
    try:
        return numba.threading_layer()
    except ValueError:
        run_tasks_parallel(0, 0, 0)
        return numba.threading_layer()


@contextlib.contextmanager
def team(largest_product):
    """The Team for calls whose largest product has that many multiply-adds.

    Only one thread of Python at a time gets a team of more than one.
    """
    threads = numba.get_num_threads()
    if threads == 1 or _forked or largest_product < 2 * min(GRAIN.values()) or not _in_parallel.acquire(blocking=False):
        yield SERIAL
        return
    try:
        yield Team(threads, GRAIN[_layer()])
    finally:
        _in_parallel.release()
