"""Runs of minibatches by one thread, or by all of a crew: by whichever took less time of late.

Threads that meet several times in some microseconds gain from each other only while all of them are really running.
With another program on one of the cores, or on a machine that lends half of one, a step by two threads takes longer
than by one; and which it is changes from one millisecond to the next. The parameters have the same bits either way.
"""

import os
import time

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import RUN, TRIED
from .compiling import helper
from .tasks import call_task

ALONE, TOGETHER, NEXT_TRIAL = range(
    3
)  # ns of a sample in the latest run by one thread, and by all; and the time of the next trial
PACE = (0.0,) * 3


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
def run_by_the_quicker(alone, together, arguments, pace, result, last, batch_size, memory):
    """Call one of two tasks, alone(arguments, end, 0) or together(arguments, end, memory), for run after run.

    Each trains up to the sample `end`, and leaves in result[0] the loss and the sample that it reached; what comes
    short of `end` has to stop. `pace` points to what is known from earlier calls, zeros before the first.
    """
    _, first = result[0]
    while first < last:
        end = min(last, first + RUN * batch_size)
        start = ticks()
        tried = start >= pace[NEXT_TRIAL]  # the slower one, again
        by_all = memory != 0 and (pace[TOGETHER] <= pace[ALONE]) != tried
        call_task(together if by_all else alone, arguments, end, memory if by_all else 0)
        _, reached = result[0]
        if reached < end:
            return
        took = ticks() - start
        pace[TOGETHER if by_all else ALONE] = took / (end - first)
        if tried:
            pace[NEXT_TRIAL] = start + TRIED * took
        first = end
