"""Compiles every Triton kernel for an H100, which needs no GPU, and says what is in it."""

from triton import compile as compile_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from gpu import triton_kernels as kernels

H100 = GPUTarget("cuda", 90, 32)
INSTRUCTIONS = ("ld.global", "st.global", "fma.")
SIZES = {"num_steps": "i32", "num_units": "i32"}
FILTER = (
    "inputs leak coupling first_gain second_gain first_start second_start first_levels "
    "second_levels"
).split()
ADJOINT = [*FILTER, "first_upstream", "second_upstream", "for_inputs", "sums"]


def count(kernel, arguments, **constants):
    """How often each instruction stands in the compiled program."""
    constants["BLOCK"] = kernels.BLOCK
    signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"enable_fp_fusion": kernels.OPTIONS["enable_fp_fusion"]}
    program = compile_kernel(source, target=H100, options=options).asm
    assert program["cubin"]
    return {each: program["ptx"].count(each) for each in INSTRUCTIONS}


def programs():
    """Every kernel with every choice of its constants, by name."""
    for dtype in ("fp32", "fp16", "bf16"):
        for rectify in (False, True):
            arguments = {"rates": f"*{dtype}", "voltage": "*i32", "spikes": f"*{dtype}"}
            arguments |= {"final": "*fp32", **SIZES, "dt": "fp32", "per_second": "fp32"}
            name = f"spikes, {dtype}, rectify={rectify}"
            yield name, count(kernels._fire_kernel, arguments, RECTIFY=rectify)
    for order in (1, 2):
        for name, kernel, tensors in (
            ("filter", kernels._filter_kernel, FILTER),
            ("adjoint", kernels._adjoint_kernel, ADJOINT),
        ):
            arguments = {**dict.fromkeys(tensors, "*fp32"), **SIZES, "period": "i32"}
            yield f"{name}, order {order}", count(kernel, arguments, ORDER=order)


if __name__ == "__main__":
    for name, counted in programs():
        print(f"{name}: {counted}")  # noqa: T201
