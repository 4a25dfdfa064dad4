"""Operations on tensors: the plain formula of each beside its fast forms.

An operation that is compiled has a folder, and a new one needs no more than its own:

=============== ===================================================================================================
`__init__.py`   what others call: it checks shapes (:mod:`nar.ops.border`) and chooses among the three forms below
`reference.py`  the formula in PyTorch's operations, called ``plain_…``: what compilers and tracers see, the gradient
                that can be differentiated again, the fallback on other devices, and what tests compare with
`cpu.py`        an ``autograd.Function`` that gives parts of a batch to all cores (:mod:`nar.ops.parallel`)
`loops.py`      what one core does with one part, compiled by numba (:mod:`nar.ops.loops`)
`triton.py`     the operation in kernels for GPUs; imported only where it is used
=============== ===================================================================================================

Tests of all operations, of their shapes, memory layouts, first and second gradients and kernels, come from its line in
the table of `tests/support/operations.py`. The folder has to be named in `pyproject.toml`.

What is fast enough in PyTorch's operations is one file here.
"""
