"""How many threads a call may use, and when it may use any.

A parallel region is unsafe in a forked child of a process that has started OpenMP or TBB threads, and in two threads
at once under Numba's workqueue layer: the process ends, or hangs. There a call computes alone, with the same result.
"""

import contextlib
import os
import threading

import numba

from .kernels import SERIAL, Team
from .kernels.blocking import GRAIN

_in_parallel = threading.RLock()
_forked = False


def _after_fork():
    global _forked, _in_parallel
    with contextlib.suppress(ValueError):  # no threading layer has been started, here or in the parent
        _forked = numba.threading_layer() != "workqueue"
    _in_parallel = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def team(work):
    """The Team for a call of so many multiply-adds.

    Only one thread of Python at a time gets a team of more than one.
    """
    threads = numba.get_num_threads()  # starts the threading layer
    grain = GRAIN[numba.threading_layer()]
    if threads == 1 or _forked or work < 2 * grain or not _in_parallel.acquire(blocking=False):
        yield SERIAL
        return
    try:
        yield Team(threads, grain)
    finally:
        _in_parallel.release()
