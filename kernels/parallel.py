"""Tasks shared among threads: one loop, compiled serial and parallel, that calls a function by its address.

Numba compiles the body of a parallel loop three times, and again into every caller. Reached through an address,
the kernels are compiled once and the loop is compiled once for all of them: 1 s in place of 4.
"""

from collections import namedtuple

from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .blocking import GRAIN
from .compiling import jit

Team = namedtuple("Team", "threads grain")
"""Who computes: at most `threads` threads share a product, and each of them gets `grain` multiply-adds or more."""

SERIAL = Team(1, GRAIN["omp"])
"""The team that never starts a thread: safe in a forked process, a signal handler, another thread or a prange."""


@intrinsic
def reference(typingctx, value):
    """Pointer to a copy of `value` on the stack of the function that asks, valid until it returns."""

    def codegen(context, builder, signature, args):
        data = context.data_model_manager[value].as_data(builder, args[0])
        slot = cgutils.alloca_once(builder, data.type)
        builder.store(data, slot)
        return builder.bitcast(slot, context.get_value_type(signature.return_type))

    return types.CPointer(value)(value), codegen


@intrinsic
def address(typingctx, pointer):
    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], context.get_value_type(types.uintp))

    return types.uintp(pointer), codegen


@intrinsic
def task_address(typingctx, function, arguments):
    """Address of the compiled function(arguments, task), for the types of a pointer and of an integer."""
    signature = function.get_call_type(typingctx, (arguments, types.intp), {})

    def codegen(context, builder, _, args):
        compiled = function.dispatcher.overloads[signature.args]
        context.active_code_library.add_linking_library(compiled.library)
        llvm = context.declare_function(builder.module, compiled.fndesc)
        return builder.ptrtoint(llvm, context.get_value_type(types.uintp))

    return types.uintp(function, arguments), codegen


@intrinsic
def call_task(typingctx, function, arguments, task):
    """Call the function at an address with a pointer, given as an address too, and the number of the task."""

    def codegen(context, builder, signature, args):
        function, arguments, task = args
        parameters = types.CPointer(types.none), types.intp
        llvm_type = context.call_conv.get_function_type(types.none, parameters)
        arguments = builder.inttoptr(arguments, context.get_value_type(parameters[0]))
        context.call_conv.call_function(
            builder, builder.inttoptr(function, llvm_type.as_pointer()), types.none, parameters, [arguments, task]
        )
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp), codegen


def run_tasks(function, arguments, tasks):
    for task in prange(tasks):
        call_task(function, arguments, task)


run_tasks_serial = jit(run_tasks, name="run_tasks_serial")
run_tasks_parallel = jit(run_tasks, name="run_tasks_parallel", parallel=True)
