"""Code that is a part of other kernels is compiled with them, and not alone."""

from numba import njit

from fastmlp.kernels.compiling import helper
from fastmlp.kernels.pipeline import Part


@helper
def twice(x):
    return 2 * x


def test_no_machine_code_is_made_of_a_helper_alone():
    @njit
    def caller(x):
        return twice(x) + 1

    assert caller(3) == 7
    [compiled] = caller.overloads.values()
    library = compiled.library
    parts = [part for part in library._linking_libraries if isinstance(part, Part)]
    engine = library.codegen._engine
    [function] = [function.name for part in parts for function in part.get_defined_functions()]
    assert "twice" in function
    assert not engine.is_symbol_defined(function)
    assert engine.is_symbol_defined(compiled.fndesc.llvm_func_name)
