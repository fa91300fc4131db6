"""Compiled functions reached by their address: tasks, with a pointer to their arguments, and those that are `outlined`.

Numba compiles a function again into everything that calls it, and the body of a parallel loop three times. The kernels
call each other through an address instead, so that each is compiled once.
"""

import hashlib
import importlib
import inspect

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, type_callable

from .compiling import digest, internal

# As arguments of a task: Python numbers and Booleans would get types, and the task be compiled, of their own.
ZERO, ONE = np.intp(0), np.intp(1)


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
def references(typingctx, values):
    """Pointer to the first of copies of a tuple's numbers, all of one type, as `reference`."""

    def codegen(context, builder, signature, args):
        slot = cgutils.alloca_once_value(builder, args[0])
        return builder.bitcast(slot, context.get_value_type(signature.return_type))

    return types.CPointer(values.dtype)(values), codegen


@intrinsic
def address(typingctx, pointer):
    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], context.get_value_type(types.intp))

    return types.intp(pointer), codegen


def _symbol(context, dispatcher, args):
    """The symbol of a compiled function, that it has again whenever the code that is being compiled is loaded."""
    task = Task(dispatcher, args)
    task()
    context.active_code_library._reload_init.add(task)
    return task.symbol


@intrinsic
def task_address(typingctx, function, arguments):
    """Address of the compiled function(arguments, task, worker), for a pointer and two integers."""
    signature = function.get_call_type(typingctx, (arguments, types.intp, types.intp), {})

    def codegen(context, builder, _, args):
        symbol = _symbol(context, function.dispatcher, signature.args)
        declaration = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), []), symbol)
        return builder.ptrtoint(declaration, context.get_value_type(types.intp))

    return types.intp(function, arguments), codegen


def outlined(function):
    """Compile `function` once for all kernels that call it, with arguments by position; for Python it stays as it is.

    For what is long and not called all the time, as a `helper` is, which becomes part of its callers: with the helpers
    of a step outlined too, one of 784-30-10 by 1 takes 1.05 times as long.
    """
    function.dispatcher = dispatcher = internal(function)

    @type_callable(function)
    def type_call(context):
        def typer(*args):
            return types.Dispatcher(dispatcher).get_call_type(context, args, {})

        typer.pysig = inspect.signature(function)
        return typer

    @lower_builtin(function, types.VarArg(types.Any))
    def call(context, builder, signature, args):
        result, parameters = signature.return_type, signature.args
        symbol = _symbol(context, dispatcher, parameters)
        function_type = context.call_conv.get_function_type(result, parameters)
        pointer = cgutils.get_or_insert_function(builder.module, function_type, symbol)
        return context.call_conv.call_function(builder, pointer, result, parameters, args)[1]

    return function


class Task:
    """A compiled function that others reach by its symbol, so that they need not contain it.

    Numba calls it whenever it loads, from its cache, code that does so: then the symbol is given its address. Where
    that code, which may be a user's, was compiled against other sources of this package, it counts as not cached.
    """

    def __init__(self, dispatcher, signature):
        function = dispatcher.py_func
        self.place = function.__module__, function.__qualname__
        self.dispatcher, self.signature = dispatcher, signature
        name = hashlib.sha256(repr((*self.place, signature)).encode()).hexdigest()
        self.symbol = f"fastmlp.{function.__qualname__}.{name[:32]}"

    def __call__(self):
        self.dispatcher.compile(self.signature)
        compiled = self.dispatcher.overloads[self.signature]
        address = compiled.library.codegen._engine.get_function_address(compiled.fndesc.llvm_func_name)
        llvmlite.binding.add_symbol(self.symbol, address)

    def __eq__(self, other):
        return isinstance(other, Task) and self.symbol == other.symbol

    def __hash__(self):
        return hash(self.symbol)

    def __reduce__(self):
        return _task, (*self.place, self.signature, digest())


def _task(module, name, signature, compiled_from):
    if compiled_from != digest():
        raise OSError("compiled from other sources")  # which Numba takes for a missing file
    function = getattr(importlib.import_module(module), name)
    return Task(getattr(function, "dispatcher", function), signature)


@intrinsic
def call_task(typingctx, function, arguments, task, worker):
    """Call the function at an address with a pointer, given as an address too, and two integers."""

    def codegen(context, builder, signature, args):
        function, arguments, task, worker = args
        parameters = types.CPointer(types.none), types.intp, types.intp
        llvm_type = context.call_conv.get_function_type(types.none, parameters)
        arguments = builder.inttoptr(arguments, context.get_value_type(parameters[0]))
        function = builder.inttoptr(function, llvm_type.as_pointer())
        context.call_conv.call_function(builder, function, types.none, parameters, [arguments, task, worker])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen
