"""Compile every kernel for an H100, as the operations launch them, where there is no GPU.

``python tests/support/compile_for_gpu.py`` prints the name of each kernel and the type of its first argument.
"""

from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from nar.ops.max_message import triton as max_message_triton
from nar.ops.max_plus import triton as tropical_triton
from nar.ops.pointer_logits import triton as pointers_triton

H100 = GPUTarget("cuda", 90, 32)
TYPES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16", torch.int32: "i32", torch.int16: "i16"}
B, N, H, K, F = 2, 16, 128, 3, 8


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


def run_all(dtype: torch.dtype, *, optional: bool) -> None:
    """Call every operation and its gradient, with or without what is optional."""

    def some(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, requires_grad=True)

    nodes, edges = [some(B, N, H) for _ in range(2)], some(B, N, N, K)
    layers = [some(H, H), some(H), some(H, H), some(H)]
    is_heard = torch.ones(B, N, N, dtype=torch.bool) if optional else None
    states = (some(B, N, N, F), some(H, F), some(H), some(H, H)) if optional else ()
    for made in (
        tropical_triton.max_plus(some(B, N, N, F), some(B, N, N, F)),
        max_message_triton.max_message(*nodes, edges, some(H, K), *layers, is_heard, -1e6),
        pointers_triton.edge_logits(*nodes, some(H), edges, some(H, K), some(H), *states),
        pointers_triton.product_logits(*nodes, some(H)),
    ):
        made.sum().backward()


if __name__ == "__main__":
    JITFunction.__getitem__ = lambda kernel, grid: lambda *args, **kwargs: compile_instead(kernel, *args, **kwargs)
    run_all(torch.float32, optional=True)
    run_all(torch.bfloat16, optional=False)
