"""The kernel for GPUs: on a GPU if there is one, else by Triton's interpreter on the CPU, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

# It equals the formula, with gradients, for widths that are no power of two, with and without features of edges, for
# nodes that hear no one, one and more than are taken at a time, and where maxima are equal and 0.
CODE = """
import torch
from nar.ops.edge_max_message import by_receiver, triton
from nar.ops.edge_max_message.reference import plain_edge_max_message

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
triton.EDGES_BACKWARD = 20
for num_nodes, num_edges, width, num_features, has_ties in [(6, 60, 20, 3, 0), (9, 20, 16, 0, 0), (3, 9, 5, 2, 1)]:
    edge_index = torch.randint(num_nodes, (2, num_edges)).clamp(max=num_nodes - 2)
    shapes = [(num_nodes, width), (num_nodes, width), (num_edges, num_features), (width, num_features)]
    shapes += [(width, width), (width,), (width, width), (width,)]
    arguments = [torch.randn(shape, device=device) for shape in shapes]
    if has_ties:
        for x in (arguments[0], arguments[2], arguments[6], arguments[7]):
            x.zero_()
    edges = by_receiver(edge_index.to(device), num_nodes)
    given = [x.requires_grad_() for x in arguments]
    expected = plain_edge_max_message(*given, edges)
    found = triton.edge_max_message(*given, edges)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    cotangent = torch.randn_like(expected)
    gradients = (torch.autograd.grad(x, given, cotangent) for x in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
print("equal")
"""


def test_the_kernel_equals_the_formula(tmp_path: Path) -> None:
    interpreted = {} if torch.cuda.is_available() else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, **interpreted}, capture_output=True, text=True)
    assert result.stdout == "equal\n", result.stderr
