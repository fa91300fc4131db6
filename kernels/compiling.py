"""The options that every kernel is compiled with, and an on-disk cache that never runs stale code.

Numba's own cache looks only at the file that defines a function: edit the micro-kernel, and every cached
function that inlined it goes on running the old one. It also numbers its files, so that two processes that
compile different signatures at the same moment can swap them. `KernelCache` keeps one file for each
function, signature, target and width of vector, with a digest inside it of all that the machine code was made of: the
sources of this package, Numba and llvmlite. Where no directory can be written, kernels are not cached.
"""

import contextlib
import gc
import hashlib
import os
import pickle
import uuid
from functools import cache
from pathlib import Path
from types import FunctionType

import llvmlite.binding
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.runtime import rtsys
from numba.extending import overload, register_jitable

from . import beside
from .host import HOST
from .pipeline import PartCompiler, WholeCompiler


@cache
def digest():
    """Digest of everything that any kernel is compiled from."""
    sha = hashlib.sha256(repr((numba.__version__, llvmlite.__version__)).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        sha.update(source.name.encode())
        sha.update(source.read_bytes())
    return sha.digest()


class _File:
    """One compiled signature a file; an unreadable, damaged or outdated one counts as missing."""

    HEADER = 64  # bytes of the two digests that it begins with

    def __init__(self, directory, name):
        self.directory = Path(directory)
        self.name = name

    @staticmethod
    def header(data):
        """What the file must begin with: a digest of what its code was compiled from, and one of itself."""
        return digest() + hashlib.sha256(data).digest()

    def path(self, key):
        return self.directory / f"{self.name}.{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}.nbc"

    def load(self, key):
        try:
            content = self.path(key).read_bytes()
        except OSError:
            return None
        header, data = content[: self.HEADER], content[self.HEADER :]
        return pickle.loads(data) if header == self.header(data) else None

    def has(self, key):
        """Whether there is one of these sources, damaged or not."""
        try:
            with self.path(key).open("rb") as file:
                return file.read(len(digest())) == digest()
        except OSError:
            return False

    def save(self, key, data):
        data = pickle.dumps(data, protocol=-1)
        path = self.path(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(self.header(data) + data)
            os.replace(temporary, path)  # atomic: a reader sees a whole file, of this process or another
        except OSError:
            temporary.unlink(missing_ok=True)

    def flush(self):
        for path in self.directory.glob(f"{self.name}.*.nbc"):
            path.unlink(missing_ok=True)


class KernelCache(FunctionCache):
    """Numba's cache of a function's compiled signatures, over `_File` in place of Numba's index."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _File(self.cache_path, self._impl.filename_base)

    def load_overload(self, signature, target_context):
        # Numba's own would first import all that it compiles functions with: 0.4 s and 30 MB of a process that compiles
        # none. To load one, the runtime is enough.
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            compiled = self._load_overload(signature, target_context)
        if compiled is not None:
            # What loads the threading layer. Numba hands it on to callers of a function that it compiled, and forgets
            # it for one that it loaded: the callers' own cached code would then end the process that loads it.
            compiled.library._reload_init.update(compiled.reload_init)
        return compiled

    def has(self, signature, codegen):
        """Whether there is a file of this signature, and of these sources."""
        return self._cache_file.has(self._index_key(signature, codegen))

    def _index_key(self, signature, codegen):
        # The digest stands for the code.
        return self._py_func.__module__, signature, codegen.magic_tuple(), HOST


class _ByAddress(CompileResultCacheImpl):
    """Without the bitcode that Numba would link into callers: to load it takes half the time of loading a function."""

    def reduce(self, compiled):
        (name, kind, (code, _)), *rest = super().reduce(compiled)
        return (name, kind, (code, llvmlite.binding.parse_assembly("").as_bitcode())), *rest


class InternalCache(KernelCache):
    """`KernelCache` of a function that others only call by its address."""

    _impl_class = _ByAddress


OPTIONS = {"nogil": True, "error_model": "numpy", "pipeline_class": WholeCompiler}

# Of what only compiled code calls: without ways in from Python and C, with which a first compilation takes 1.3 times as
# long; and without rewriting of array expressions and reference counts, of which there are none: 1.15 times. All of it
# with the same options, because Numba compiles a function anew for every set of options of its callers.
INTERNAL = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "no_rewrites": True, "_nrt": False}
# Of what is only a part of other kernels.
CONTAINED = {**INTERNAL, "pipeline_class": PartCompiler}


def jit(function=None, *, name=None, parallel=False, inline=False, calls_many=False):
    """Compile `function` on first use: cached, without the GIL, with IEEE arithmetic as written.

    `name` tells apart the cached forms of one Python function, such as a serial and a parallel one. `inline`
    puts the body into every compiled caller, which spares a thin layer's compilation of what it calls. One that
    `calls_many` others by their address is compiled with the other process at hand.
    """
    if function is None:
        return lambda function: jit(function, name=name, parallel=parallel, inline=inline, calls_many=calls_many)
    if name is not None:
        function = FunctionType(function.__code__, function.__globals__, name, None, function.__closure__)
        function.__qualname__ = name
    options = OPTIONS | ({"inline": "always"} if inline else {"parallel": parallel})
    return _cached(function, options, calls_many=calls_many)


def internal(function):
    """`jit` for a function that only other kernels call, by its address, as in `tasks`."""
    return _cached(function, INTERNAL, InternalCache)


def helper(function):
    """Compile `function` as part of every kernel that calls it; for Python it stays as it is."""
    return register_jitable(**CONTAINED)(function)


def implements(function):
    """`overload`: choose, by the types of the arguments, what `function` is as part of the kernels that call it."""
    return overload(function, jit_options=CONTAINED)


def without_collections(compile_function):
    """The same without Python's search for cycles among objects meanwhile: that takes 0.07 of a first compilation."""

    def compiled(*arguments):
        if not gc.isenabled():
            return compile_function(*arguments)
        gc.disable()
        try:
            return compile_function(*arguments)
        finally:
            gc.enable()

    return compiled


def with_what_it_calls(compile_function, callable_alone, calls_many):
    """The same, and what the function calls by address is compiled too before anyone can call it."""

    def compiled(*arguments):
        with beside.agenda.compilation(callable_alone, calls_many):
            result = compile_function(*arguments)
            beside.ask_for_tasks_of(result.library)
            return result

    return compiled


def _cached(function, options, cache=KernelCache, calls_many=False):
    dispatcher = numba.njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # Numba found no directory that it may write to
        dispatcher._cache = cache(function)
    is_cached = isinstance(dispatcher._cache, cache)
    compile_function = with_what_it_calls(dispatcher._compiler.compile, cache is KernelCache, calls_many and is_cached)
    dispatcher._compiler.compile = without_collections(compile_function)
    return dispatcher
