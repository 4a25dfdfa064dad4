"""Compile every kernel for an H100, as the operations launch them, where there is no GPU.

``python tests/support/compile_for_gpu.py`` prints the name of each kernel and the type of its first argument.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

sys.path.append(str(Path(__file__).parent))  # which Python leaves out where it is told to be safe
from operations import OPERATIONS, random_arguments

H100 = GPUTarget("cuda", 90, 32)
TYPES = {
    **{torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16"},
    **{torch.int64: "i64", torch.int32: "i32", torch.int16: "i16"},
}
SIZES = {
    "B": 2,
    "N": 16,
    "S": 16,
    "R": 16,
    "M": 16,
    "E": 40,
    "H": 128,
    "K": 3,
    "F": 8,
    "W": 128,
    "P": 2,
    "D": 256,
    "C": 257,
}
ONLY_FLOAT32 = ["edge_max_message"]


def compile_instead(kernel: Any, *args: Any, **kwargs: Any) -> None:
    """Compile a kernel for the arguments that it would be launched with."""
    signature, constants = {}, {}
    values = dict(zip(kernel.arg_names, args, strict=False)) | kwargs
    for parameter in kernel.params:
        value = values[parameter.name]
        if isinstance(value, torch.Tensor):
            signature[parameter.name] = "*" + TYPES.get(value.dtype, "i1")
        elif parameter.is_constexpr or value is None:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        else:
            signature[parameter.name] = "i32" if isinstance(value, int) else "fp32"
    triton.compile(ASTSource(kernel, signature, constants), target=H100)
    print(kernel.fn.__name__, signature[kernel.arg_names[0]], flush=True)


def run_all(dtype: torch.dtype) -> None:
    """Call every operation that has kernels, and its gradient."""
    for name, operation in OPERATIONS.items():
        if operation.kernels is not None and (dtype == torch.float32 or name not in ONLY_FLOAT32):
            operation.kernels(*random_arguments(name, SIZES, dtype)).sum().backward()


if __name__ == "__main__":
    JITFunction.__getitem__ = lambda kernel, grid: lambda *args, **kwargs: compile_instead(kernel, *args, **kwargs)
    run_all(torch.float32)
    run_all(torch.bfloat16)
