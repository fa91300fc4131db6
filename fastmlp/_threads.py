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

LEAST_WORK = 2 * min(GRAIN.values())

_in_parallel = threading.RLock()
_forked = False


def _after_fork():
    global _forked, _in_parallel
    with contextlib.suppress(ValueError):  # no threading layer has been started, here or in the parent
        _forked = numba.threading_layer() != "workqueue"
    _in_parallel = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class TeamFor:
    """A context: the Team for a call of so many multiply-adds.

    Only one thread of Python at a time gets a team of more than one.
    """

    __slots__ = "lock", "work"

    def __init__(self, work):
        self.work, self.lock = work, None

    def __enter__(self):
        if self.work < LEAST_WORK or _forked:
            return SERIAL
        threads = numba.get_num_threads()  # starts the threading layer
        grain = GRAIN[numba.threading_layer()]
        if threads == 1 or self.work < 2 * grain or not _in_parallel.acquire(blocking=False):
            return SERIAL
        self.lock = _in_parallel
        return Team(threads, grain)

    def __exit__(self, *exception):
        if self.lock is not None:
            self.lock.release()
