"""What the loops that Numba compiles have in common.

`loops_spikes.py` and `loops_filters.py` hold the loops: the arithmetic of the kernels on CPUs, on
flat arrays. No framework is in them. A loop lets go of the interpreter's lock, and works on one
part of the samples and units; `parallel.py` runs the parts side by side. In a sequence, the number
of a sample, step and unit lies at `sample * of_sample + step * of_step + unit`; in a state, it lies
at `sample * units + unit`.

Two things make vector code of the loops over units. Indices are unsigned, because Numba checks
whether signed ones are negative. And what is carried from step to step stands in `scratch`: the
compiler knows that nothing else writes there.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

# Units in `scratch`, which stay in a processor's first cache.
BLOCK = 256
# How many steps ahead a loop back in time fetches memory, and how many elements at once.
_AHEAD, _LINE = np.uint64(8), np.uint64(16)


def compiled(function: Any) -> Any:
    function = numba.njit(function, nogil=True, error_model="numpy")
    try:
        function.enable_caching()
    except RuntimeError:  # There is no folder that Numba may write to.
        return function
    return function


@intrinsic
def scratch(context: Any, like: Any) -> Any:
    """A row of `BLOCK` numbers of an array's type."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        with builder.goto_entry_block():
            size = context.get_constant(types.intp, BLOCK)
            return builder.alloca(context.get_value_type(like.dtype), size=size)

    return types.CPointer(like.dtype)(like), generate


@intrinsic
def _prefetch(context: Any, array: Any, index: Any) -> Any:
    """Tells the processor that an element will be needed."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.PointerType(ir.IntType(8)))
        number = ir.IntType(32)
        to_read, into_second_cache, data_not_code = number(0), number(2), number(1)
        kind = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [address, to_read, into_second_cache, data_not_code])
        return context.get_dummy_value()

    return types.void(array, index), generate


@compiled
def fetch(array: Any, at: Any, count: Any, of_step: Any, step: Any) -> None:
    """Fetches a step that a loop back in time will need. Processors foresee only loops forward."""
    if step >= _AHEAD:
        for unit in range(np.uint64(0), count, _LINE):
            _prefetch(array, at - _AHEAD * of_step + unit)


@compiled
def unsigned(part: Any, shape: Any) -> Any:
    first_sample, end_sample, first_unit, end_unit = part
    steps, units, of_sample, of_step = shape
    return (
        np.uint64(first_sample),
        np.uint64(end_sample),
        np.uint64(first_unit),
        np.uint64(end_unit),
        np.uint64(steps),
        np.uint64(units),
        np.uint64(of_sample),
        np.uint64(of_step),
        np.uint64(BLOCK),
    )
