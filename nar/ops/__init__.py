"""Operations on tensors: the plain formula of each beside its fast forms.

An operation that is compiled has a folder, and a new one needs no more than its own:

=============== ===================================================================================================
`__init__.py`   what others call: it checks shapes (:mod:`nar.ops.border`) and chooses one of the forms below
`reference.py`  the formula in PyTorch's operations, called ``plain_…``: what compilers and tracers see, the gradient
                that can be differentiated again, the fallback on other devices, and what tests compare with
`cpu.py`        an ``autograd.Function`` that gives parts of a batch to all cores (:mod:`nar.ops.parallel`)
`loops.py`      what one core does with one part, compiled by numba (:mod:`nar.ops.loops`), unless PyTorch has as fast a
                form of that
`triton.py`     the operation in kernels for GPUs, if it has any; imported only where it is used
=============== ===================================================================================================

Tests of all operations, of their shapes, memory layouts, first and second gradients and kernels, come from its line in
the table of `tests/support/operations.py`. The folder has to be named in `pyproject.toml`.

What is fast enough in PyTorch's operations is one file here: `adaptive_temperature`, `affine`, `channels`, `linear`,
`pca`, `scatter` and `softmax_plus`. The other files are no operations but the machinery of all of them:

================ ==================================================================================================
`border.py`      the checks of shapes, dtypes and devices between a user's tensors and compiled code
`device.py`      whether an operation is computed by the library's own kernels for GPUs
`loops.py`       how loops are compiled by numba, and those that several operations share
`numba_cache.py` where numba keeps what it has compiled, and when that is compiled again
`parallel.py`    how the parts of an operation are shared out among cores
`precision.py`   the types that are computed in where half precision or several types are given
`process.py`     how a process is set up for training on a CPU
================ ==================================================================================================
"""
