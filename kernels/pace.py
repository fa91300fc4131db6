"""Runs of minibatches by one thread, or by all of a crew: by whichever took less time of late.

Threads that meet several times in some microseconds gain from each other only while all of them are really running.
With another program on one of the cores, or on a machine that lends half of one, a step by two threads takes longer
than by one; and which it is changes from one millisecond to the next. The parameters have the same bits either way.

Threads that sleep take longer to come than a trial takes: until one has come, nothing is tried and nothing measured.
"""

import os
import time

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import RUN, RUNS, TRIED_FIRST, TRIED_LAST
from .compiling import helper, internal
from .parallel import ARRIVED, atomic_load
from .tasks import call_task

# Ticks of a sample in the latest two runs by one thread, and by all; runs left until the slower is tried again, and how
# many there were between the last two trials.
ALONE, TOGETHER, LEFT, WAIT = 0, 2, 4, 5
PACE = (0.0,) * 6  # before the first run


@intrinsic
def ticks(typingctx):
    """The time of a clock: nanoseconds, or where the system has not that of POSIX, cycles of the processor's."""

    def codegen(context, builder, signature, args):
        result = context.get_value_type(types.int64)
        if os.name != "posix":
            return builder.call(
                builder.module.declare_intrinsic("llvm.readcyclecounter", fnty=ir.FunctionType(result, [])), []
            )
        now = cgutils.alloca_once(builder, ir.LiteralStructType([ir.IntType(64), ir.IntType(64)]))
        function_type = ir.FunctionType(ir.IntType(32), [ir.IntType(32), now.type])
        function = cgutils.get_or_insert_function(builder.module, function_type, "clock_gettime")
        builder.call(function, [ir.IntType(32)(time.CLOCK_MONOTONIC), now])
        seconds, rest = (builder.load(cgutils.gep_inbounds(builder, now, 0, i)) for i in range(2))
        return builder.add(builder.mul(seconds, result(10**9)), rest)

    return types.int64(), codegen


@helper
def may_gain(pace):
    """Whether threads are to be called together: if they were the quicker, or are to be tried again."""
    return together_is_quicker(pace) or pace[LEFT] < 1


@helper
def together_is_quicker(pace):
    """By the better of the latest two runs: a single one may have waited for another program."""
    return min(pace[TOGETHER], pace[TOGETHER + 1]) <= min(pace[ALONE], pace[ALONE + 1])


@internal
def run_by_the_quicker(arguments, last, memory):
    """Call one of two programs, alone(given, end, 0) or together(given, end, memory), for run after run.

    Each trains up to the sample `end`, and leaves in result[0] the loss and the sample that it reached; what comes
    short of `end` has to stop. `pace` points to what is known from earlier calls. When one has just become the slower
    it is tried again soon, then less and less often. `until_others` come, it is so many minibatches at a time.
    """
    alone, together, given, pace, result, batch_size, until_others = arguments[0]
    _, first = result[0]
    while first < last:
        preferred, tried, end = together_is_quicker(pace), False, last
        others = memory != 0 and atomic_load(memory, ARRIVED, 0) > 1
        if others:
            runs = min(np.int64(pace[LEFT]), RUNS)
            tried = runs <= 0
            end = min(last, first + max(runs, 1) * RUN * batch_size)
        elif memory != 0:
            end = min(last, first + until_others * batch_size)
        by_all = memory != 0 and preferred != tried
        start = ticks()
        call_task(together if by_all else alone, given, end, memory if by_all else 0)
        _, reached = result[0]
        if reached < end:
            return
        if others or memory == 0:
            which = TOGETHER if by_all else ALONE
            pace[which + 1] = pace[which]
            pace[which] = (ticks() - start) / (end - first)
            pace[LEFT] -= (end - first) / (RUN * batch_size)
        if together_is_quicker(pace) != preferred:
            pace[LEFT] = pace[WAIT] = TRIED_FIRST
        elif tried:
            pace[LEFT] = pace[WAIT] = min(max(2 * pace[WAIT], TRIED_FIRST), TRIED_LAST)
        first = end
