"""How many threads a call may use, and when it may use any.

A parallel region is unsafe in a forked child of a process that has started OpenMP or TBB threads, and in two threads
at once under Numba's workqueue layer: the process ends, or hangs. There a call computes alone, with the same result.
"""

import contextlib
import functools
import os
import threading

import numba
from numba.np.ufunc import parallel

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


def _number_of_threads():
    """What `numba.get_num_threads` says. That starts the threading layer, and 0.6 us of its 0.7 are locks to do so."""
    ask = getattr(parallel, "_get_num_threads", None)  # there is one as soon as the layer has been started
    return numba.get_num_threads() if ask is None else ask()


@functools.cache
def _team(threads):
    return Team(threads, GRAIN[numba.threading_layer()])


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
        team = _team(_number_of_threads())
        if team.threads == 1 or self.work < 2 * team.grain or not _in_parallel.acquire(False):
            return SERIAL
        self.lock = _in_parallel
        return team

    def __exit__(self, exception, value, traceback):
        if self.lock is not None:
            self.lock.release()
