"""Functions of NumPy arrays as operations of XLA on CPUs, which copy nothing.

XLA's foreign function interface calls a C function with a frame of addresses, as
`xla/ffi/api/c_api.h` says, which comes with JAX. `ctypes` makes that C function of a Python one,
and knows the layout of the frame; the arrays lie on XLA's own memory.

A call waits for the interpreter's lock. But JAX, when the process ends, holds the lock until all
that is under way is done: so a gate, which Numba compiles, keeps calls out by then. (JAX holds it
too while `unsafe_buffer_pointer` waits for an array: call `block_until_ready` before that.)
"""

import atexit
import ctypes
import functools
import math
import pathlib
import re
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_TARGET = "keras_spiking"
# Between the oldest and the newest of these, no structure below has changed.
_KNOWN_VERSIONS = ((0, 1), (0, 2), (0, 3))
_EXECUTE, _METADATA, _INTERNAL_ERROR = 3, 1, 13
# NumPy's type for each of XLA's numbers for types. The loops take a Boolean as a byte.
_DTYPES: dict[int, Any] = {1: np.dtype("uint8"), 11: np.dtype("float32"), 12: np.dtype("float64")}


@functools.cache
def is_supported() -> bool:
    """Whether this JAX has the interface, in a version whose layout is known."""
    if not hasattr(jax, "ffi"):
        return False
    header = pathlib.Path(jax.ffi.include_dir(), "xla", "ffi", "api", "c_api.h")
    if ctypes.sizeof(ctypes.c_void_p) != 8 or not header.is_file():
        return False
    numbers = re.findall(r"#define XLA_FFI_API_(?:MAJOR|MINOR) (\d+)", header.read_text())
    return tuple(map(int, numbers)) in _KNOWN_VERSIONS


def _structure(name: str, **fields: Any) -> Any:
    """A structure of the interface: all of them begin with the same two fields."""
    common = [("struct_size", ctypes.c_size_t), ("extension", ctypes.c_void_p)]
    return type(name, (ctypes.Structure,), {"_fields_": [*common, *fields.items()]})


def _list(name: str, element: Any) -> Any:
    """A list of addresses of structures, with the type of each one."""
    elements = ctypes.POINTER(ctypes.POINTER(element))
    return _structure(name, size=ctypes.c_int64, types=ctypes.c_void_p, elements=elements)


class _Bytes(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_Version = _structure("_Version", major=ctypes.c_int, minor=ctypes.c_int)


class _Metadata(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("version", _Version),
        ("traits", ctypes.c_uint32),
    ]


class _Extension(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),  # if it is of that type
    ]


_Buffer = _structure(
    "_Buffer",
    dtype=ctypes.c_int,
    data=ctypes.c_void_p,
    rank=ctypes.c_int64,
    shape=ctypes.POINTER(ctypes.c_int64),
)
_Error = _structure("_Error", message=ctypes.c_char_p, code=ctypes.c_int)
_Api = _structure(
    "_Api",
    version=_Version,
    internal=ctypes.c_void_p,
    create_error=ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error)),
)
_Buffers = _list("_Buffers", _Buffer)
_Frame = _structure(
    "_Frame",
    api=ctypes.POINTER(_Api),
    context=ctypes.c_void_p,
    stage=ctypes.c_int,
    operands=_Buffers,
    results=_Buffers,
    attributes=_structure(
        "_Attributes",
        size=ctypes.c_int64,
        types=ctypes.c_void_p,
        names=ctypes.c_void_p,
        values=ctypes.POINTER(ctypes.POINTER(_Bytes)),
    ),
)


def _error(text: str) -> Any:
    return _Error(ctypes.sizeof(_Error), None, text.encode(), _INTERNAL_ERROR)


def _arrays(buffers: Any) -> list[Any]:
    return [_array(pointer.contents) for pointer in buffers.elements[: buffers.size]]


def _array(buffer: Any) -> Any:
    dtype, shape = _DTYPES[buffer.dtype], tuple(buffer.shape[: buffer.rank])
    memory = ctypes.c_char * (math.prod(shape) * dtype.itemsize)
    return np.ndarray(shape, dtype, memory.from_address(buffer.data))


_functions: dict[bytes, Callable[..., None]] = {}


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Frame))
def _handle(pointer: Any) -> Any:
    frame = pointer.contents
    try:
        if frame.extension:
            return _describe(_Extension.from_address(frame.extension), frame.api.contents)
        if frame.stage == _EXECUTE:
            name = frame.attributes.values[0].contents
            function = _functions[ctypes.string_at(name.address, name.length)]
            function(_arrays(frame.operands), _arrays(frame.results))
    # `ctypes` drops all exceptions, interrupts too, so XLA gets them.
    except BaseException:  # noqa: BLE001
        message = f"keras_spiking: a loop of Numba failed.\n{traceback.format_exc()}"
        return frame.api.contents.create_error(_error(message))
    return None


def _describe(extension: Any, api: Any) -> None:
    """Answers XLA's question about the version of the interface: it is XLA's own."""
    if extension.type == _METADATA:
        metadata = extension.metadata.contents
        metadata.version = api.version
        metadata.traits = 0


@intrinsic
def _read(context: Any, address: Any) -> Any:
    """The 8 bytes at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        return builder.load(builder.inttoptr(arguments[0], number.as_pointer()))

    return types.int64(types.int64), generate


@intrinsic
def _add(context: Any, address: Any, number: Any) -> Any:
    """Adds to the number at an address, in one atomic step; returns the number before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _call(context: Any, function: Any, argument: Any) -> Any:
    """Calls the C function at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = ir.IntType(64)
        kind = ir.FunctionType(number, [number]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], kind), [arguments[1]])

    return types.int64(types.int64, types.int64), generate


# How many calls are running, and whether no more may begin.
_under_way, _closed = ctypes.c_int64(0), ctypes.c_int64(0)
_is_closed = _error("keras_spiking: this process is about to end, and computes no more.")


def _make_gate() -> Any:
    counter, closed = map(ctypes.addressof, (_under_way, _closed))
    handler, refusal = ctypes.cast(_handle, ctypes.c_void_p).value, ctypes.addressof(_is_closed)
    to_api, to_create = _Frame.api.offset, _Api.create_error.offset

    @numba.cfunc(types.int64(types.int64))
    def gate(frame: Any) -> Any:
        _add(counter, 1)
        if _add(closed, 0):
            result = _call(_read(_read(frame + to_api) + to_create), refusal)
        else:
            result = _call(handler, frame)
        _add(counter, -1)
        return result

    return gate


@functools.cache
def _register() -> Any:
    """Registers the gate with XLA. The result must live as long as the process."""
    gate = _make_gate()
    jax.ffi.register_ffi_target(_TARGET, jax.ffi.pycapsule(gate.ctypes), platform="cpu")
    # JAX registered its own function first, so this one runs before it.
    atexit.register(_close)
    return gate


def _close() -> None:
    _closed.value = 1
    while _under_way.value:
        time.sleep(0.001)


def call(function: Callable[..., None], results: Any, *operands: Any, **options: Any) -> Any:
    """Runs `function(operands, results, **options)` of NumPy arrays, whenever XLA gets there.

    `results` are shapes and types, to be filled. Of the options, which are plain values, the name
    is made that a compiled program knows the function by: so a program that JAX kept on disk finds
    it in another process.
    """
    _register()
    name = f"{function.__name__} {sorted(options.items())}"
    _functions[name.encode()] = functools.partial(function, **options)
    # `vmap` calls it once for each element of the new axis.
    run = jax.ffi.ffi_call(_TARGET, results, vmap_method="sequential")
    return run(*operands, name=name)
