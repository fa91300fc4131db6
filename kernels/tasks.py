"""Compiled functions reached by their address: tasks, with a pointer to their arguments, and those that are `outlined`.

Numba compiles a function again into everything that calls it, and the body of a parallel loop three times. The kernels
call each other through an address instead, so that each is compiled once.
"""

import ctypes
import hashlib
import importlib
import inspect

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature as typed_as
from numba.extending import intrinsic, lower_builtin, type_callable

from . import beside
from .compiling import KernelCache, digest, internal

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


def _load_address(context, builder, dispatcher, args):
    """The address of a compiled function, which is known before the code that is being compiled, or loaded, runs."""
    task = Task(dispatcher, args)
    task()
    context.active_code_library._reload_init.add(task)
    cell = builder.module.globals.get(task.symbol)
    if cell is None:
        cell = ir.GlobalVariable(builder.module, context.get_value_type(types.intp), task.symbol)
    return builder.load(cell)


@intrinsic
def task_address(typingctx, function, arguments):
    """Address of the compiled function(arguments, task, worker), for a pointer and two integers."""

    def codegen(context, builder, _, args):
        return _load_address(context, builder, function.dispatcher, (arguments, types.intp, types.intp))

    return types.intp(function, arguments), codegen


def outlined(function):
    """Compile `function` once for all kernels that call it, with arguments by position; for Python it stays as it is.

    For what is long and not called all the time, as a `helper` is, which becomes part of its callers: with the helpers
    of a step outlined too, one of 784-30-10 by 1 takes 1.05 times as long. One that is annotated to return nothing need
    not be compiled to find out what: that may be left to another process.
    """
    function.dispatcher = dispatcher = internal(function)

    @type_callable(function)
    def type_call(context):
        def typer(*args):
            if returns_nothing(function):
                return typed_as(types.none, *args)
            return types.Dispatcher(dispatcher).get_call_type(context, args, {})

        typer.pysig = inspect.signature(function)
        return typer

    @lower_builtin(function, types.VarArg(types.Any))
    def call(context, builder, signature, args):
        result, parameters = signature.return_type, signature.args
        function_type = context.call_conv.get_function_type(result, parameters)
        pointer = builder.inttoptr(_load_address(context, builder, dispatcher, parameters), function_type.as_pointer())
        return context.call_conv.call_function(builder, pointer, result, parameters, args)[1]

    return function


def returns_nothing(function):
    """Whether it is annotated to."""
    return inspect.signature(function).return_annotation is None


_CELLS = {}
"""By its symbol, the memory that a task's address is in, or 0 as long as it has none."""


class Task:
    """A compiled function that others reach by its address, which they find under its symbol, and need not contain.

    Numba calls it whenever it loads, from its cache, code that does so: then the symbol is given the address. Where
    that code, which may be a user's, was compiled against other sources of this package, it counts as not cached.
    """

    def __init__(self, dispatcher, signature):
        function = dispatcher.py_func
        self.place = function.__module__, function.__qualname__
        self.dispatcher, self.signature = dispatcher, signature
        name = hashlib.sha256(repr((*self.place, signature)).encode()).hexdigest()
        self.symbol = f"fastmlp.{function.__qualname__}.{name[:32]}"

    def __call__(self):
        if self.symbol not in _CELLS:
            _CELLS[self.symbol] = ctypes.c_ssize_t(0)
            llvmlite.binding.add_symbol(self.symbol, ctypes.addressof(_CELLS[self.symbol]))
        if _CELLS[self.symbol].value == 0:
            beside.agenda.ask(self)

    def is_to_be_cached(self):
        """Whether to compile it leaves a file that is not there yet."""
        cache = self.dispatcher._cache
        codegen = self.dispatcher.targetctx.codegen()
        return isinstance(cache, KernelCache) and not cache.has(self.signature, codegen)

    def compile(self):
        self.dispatcher.compile(self.signature)

    def locate(self):
        """Compile it, or load it, and put its address into its memory; ask for what it calls itself."""
        self.compile()
        compiled = self.dispatcher.overloads[self.signature]
        if returns_nothing(self.dispatcher.py_func) and compiled.signature.return_type != types.none:
            raise TypeError(f"{self.place[1]} is annotated to return nothing, but returns a value")
        beside.ask_for_tasks_of(compiled.library)
        engine = compiled.library.codegen._engine
        _CELLS[self.symbol].value = engine.get_function_address(compiled.fndesc.llvm_func_name)

    def lose_address(self):
        _CELLS[self.symbol].value = 0

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
