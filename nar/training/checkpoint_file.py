"""Files of checkpoints: written whole, read without running what they may hold, and refused if they are damaged."""

import errno
import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule
from torch import Tensor

from nar.errors import UserError, one_line
from nar.files import check_archive, replacing
from nar.training import folders
from nar.training.saving import CONFIG, RUN, Kind

_FORMER_NAMES = {"train_lengths": "train_sizes", "test_lengths": "test_sizes"}
"""What arguments of the data of language models are now called."""

KINDS: tuple[Kind, ...] = ("dense", "sparse", "text")
TO_GO_ON = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers", "state_dict")
"""What a checkpoint has from which training goes on."""


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints beside those that they replace, so that one of both is there however a run ends, and reads
    none that is damaged.

    For Lightning's ``Trainer(plugins=[...])``; `nar fit` has it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; what is no path of this machine is Lightning's to write.

        Raises:
            UserError: If it cannot be written.
        """
        if storage_options is not None or "://" in str(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        content = content_of(checkpoint)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(content)

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            UserError: If it is damaged.
        """
        if "://" not in str(path):
            try:
                check_archive(path)
            except Exception as error:
                raise _damaged(path) from error
        checkpoint: dict[str, Any] = super().load_checkpoint(path, *args, **kwargs)
        return checkpoint


def content_of(checkpoint: Mapping[str, Any]) -> memoryview:
    """The bytes of a checkpoint: of a full disk torch.save would say nothing that could be understood."""
    content = io.BytesIO()
    torch.save(checkpoint, content)
    return content.getbuffer()


def holds_weights_only(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has nothing to train the model further with, so that no run can go on from it."""
    return "optimizer_states" not in checkpoint


@contextmanager
def making_model_of(path: str | Path) -> Iterator[None]:
    """Turn any error, while a model is made of what the checkpoint at `path` says, into a one-line UserError."""
    try:
        yield
    except Exception as error:  # a class may raise anything, given what it does not expect
        raise UserError(f"the model of {path} cannot be made: {one_line(error)}") from error


def load_weights(
    model: LightningModule, weights: Mapping[str, Tensor], path: str | Path, *, same_dtypes: bool = False
) -> None:
    """Give a model the weights of a checkpoint.

    Args:
        model: What is given the weights.
        weights: By name.
        path: Of the checkpoint.
        same_dtypes: Whether weights of another dtype are refused; they become the model's otherwise.

    Raises:
        UserError: If they are not those of this model, or one of them is no number, in one line that names it.
    """
    own = model.state_dict()
    wrong = [f"has no {name}" for name in own if name not in weights]
    wrong += [f"has {name}, which its model has not" for name in weights if name not in own]
    for name, value in weights.items():
        expected = own.get(name)
        if isinstance(expected, torch.nn.UninitializedParameter) or expected is None:
            continue
        if value.shape != expected.shape:
            wrong.append(f"has {name} of the shape {list(value.shape)}, where {list(expected.shape)} is expected")
        elif value.is_floating_point() != expected.is_floating_point() or (
            same_dtypes and value.dtype != expected.dtype
        ):
            wrong.append(f"has {name} as {value.dtype}, where {expected.dtype} is expected")
        elif value.is_floating_point() and value.isnan().any():
            wrong.append(f"has {name} with entries that are no numbers")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{path} {wrong[0]}{more}: it is damaged, or its weights are those of another model")
    model.load_state_dict(weights)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of this library, read without running any code that it may hold.

    Args:
        path: Of a file, or of a folder that ``save_pretrained`` wrote; or the name of a reasoner that comes with the
            library or is on the Hub (see :func:`nar.training.folders.folder_of`).

    Raises:
        UserError: If there is none, or it is damaged, or another program's.
    """
    folder = folders.folder_of(path)
    if folder is not None:
        config, weights = folders.read_folder(folder)
        checkpoint = {CONFIG: config, "state_dict": weights}
        _check_form(checkpoint, folder)
        return checkpoint
    if not Path(path).is_file():
        raise UserError(f"no checkpoint at {path}; expected a file such as runs/quickstart/best.ckpt")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_archive(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        if error.errno == errno.EINVAL:  # of a seek to a place before the file, where a damaged archive says a part is
            raise _damaged(path) from error
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # what a file of any other kind makes the unpickler raise has no end
        raise _damaged(path) from error
    if not isinstance(checkpoint, dict) or CONFIG not in checkpoint:
        raise UserError(f"{path} is another program's checkpoint: expected one written by nar fit or nar convert")
    _check_form(checkpoint, path)
    return checkpoint


def _damaged(path: str | Path) -> UserError:
    return UserError(f"{path} is damaged or no checkpoint at all: expected one written by nar fit or nar convert")


def _check_form(checkpoint: Mapping[str, Any], path: str | Path) -> None:
    """Raise a :class:`UserError` that names what a checkpoint does not have, or has in another form."""
    config, weights = checkpoint[CONFIG], checkpoint.get("state_dict")
    expected = "expected one written by nar fit or nar convert"
    if not isinstance(config, dict):
        raise UserError(f"{path} has no configuration but {config!r:.80}: {expected}")
    kind = kind_of(config)
    if kind not in KINDS:
        raise UserError(f"{path} is of a model of the kind {kind!r:.80}: expected one of {', '.join(KINDS)}")
    parts: dict[str, type] = {"model": dict, "data": dict, **({"parts": dict} if kind == "text" else {"specs": dict})}
    parts |= {name: form for name, form in {"changed": dict, "frozen": list}.items() if name in config}
    for name, form in parts.items():
        if not isinstance(config.get(name), form):
            raise UserError(f"{path} has {config.get(name)!r:.80} as its configuration's {name}: {expected}")
    if not isinstance(weights, dict) or not weights or not all(isinstance(x, Tensor) for x in weights.values()):
        raise UserError(f"{path} has no weights by name: {expected}")


def config_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint, as plain values: ``model``, ``data`` and the ``specs``."""
    config: dict[str, Any] = checkpoint[CONFIG]
    return {**config, "data": with_new_names(config["data"])}


def with_new_names(data: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of data by the names that they now have, whatever they were called when they were written."""
    renamed = {now: data[former] for former, now in _FORMER_NAMES.items() if data.get(former) is not None}
    return {name: value for name, value in data.items() if name not in _FORMER_NAMES} | renamed


def run_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the trainer that wrote a checkpoint, as far as it has them (see :mod:`nar.training.saving`)."""
    run = checkpoint.get(RUN, {})
    return dict(run) if isinstance(run, Mapping) else {}


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The kind of model in a configuration of :func:`config_of`: for dense graphs, sparse ones, or texts."""
    kind: Kind = config.get("kind", "sparse" if config.get("is_sparse") else "dense")  # the latter as it once was
    return kind
