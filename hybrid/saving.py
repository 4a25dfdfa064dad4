"""Hybrids as folders: all that a live one has, and reading it without running or fetching anything of its making."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nar.errors import UserError
from nar.hybrid.descriptions import ADAPTERS, Description, describe, number_of

CONFIG, WEIGHTS, LANGUAGE_MODEL = "config.json", "model.safetensors", "language_model"
_ADAPTER = "adapter_config.json"
SUMS, SUM = "sums", "sum"


def frozen(model: nn.Module) -> list[str]:
    """The names of the parameters that are not trained."""
    return [name for name, parameter in model.named_parameters() if not parameter.requires_grad]


def restore_frozen(model: nn.Module, names: Iterable[str]) -> None:
    """Keep the named parameters of a model as they are, and let all others be trained."""
    untrained = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in untrained)


def dtypes(model: nn.Module) -> dict[str, str]:
    """The dtypes by name of weights and buffers that are not in float32."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        name: str(x.dtype).removeprefix("torch.")
        for name, x in tensors.items()
        if x.is_floating_point() and x.dtype != torch.float32
    }


def restore_dtypes(model: nn.Module, names: Mapping[str, str]) -> None:
    """Cast weights and buffers of a model in float32 to what :func:`dtypes` found."""
    for name, x in (*model.named_parameters(), *model.named_buffers()):
        if name in names:
            x.data = x.data.to(getattr(torch, names[name]))


def write_folder(folder: Path, model: nn.Module, language_model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write a hybrid, the file that says what the others are last.

    Args:
        folder: To write to, and over what a hybrid that was there before had.
        model: The hybrid.
        language_model: Its language model.
        config: What else it is made of.
    """
    parts = describe(language_model)
    files = {
        f"{LANGUAGE_MODEL}/{CONFIG}": parts.config,
        f"{LANGUAGE_MODEL}/generation_config.json": parts.live["generation"],
        **{f"{LANGUAGE_MODEL}/{ADAPTERS}/{name}/{_ADAPTER}": adapter for name, adapter in parts.adapters.items()},
    }
    for path in (folder / LANGUAGE_MODEL / ADAPTERS).glob(f"*/{_ADAPTER}"):
        path.unlink()
        path.parent.rmdir()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content, indent=2), "utf-8")
    _write_weights(model, folder / WEIGHTS)
    live = {name: value for name, value in parts.live.items() if name != "generation"}
    whole = {**config, "live": live, "frozen": frozen(model), SUMS: dict.fromkeys((*files, WEIGHTS))}
    (folder / CONFIG).write_text(json.dumps(whole, indent=2), "utf-8")
    write_sums(folder)


def write_sums(folder: Path) -> None:
    """Write the sums of the files of a folder into its configuration."""
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config[SUMS] = {name: _sum(folder / name) for name in config[SUMS]}
    config[SUM] = _sum_of_config(config)
    (folder / CONFIG).write_text(json.dumps(config, indent=2), "utf-8")


def read_folder(folder: Path) -> tuple[dict[str, Any], Description]:
    """What a hybrid is made of, and what its language model is; of a folder of before, what that knew.

    Raises:
        UserError: If there is no hybrid, or a file is damaged.
    """
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"no hybrid in {folder}: expected a folder that save_pretrained wrote")
    config = _read(folder, CONFIG)
    if SUMS in config or SUM in config:
        if config.get(SUM) != _sum_of_config(config):
            raise UserError(f"{folder / CONFIG} is damaged: its sum is another")
        for name, expected in config[SUMS].items():
            if _sum(_file(folder, name)) != expected:
                raise UserError(f"{folder / name} is damaged: its sum is another than in {CONFIG}")
    _file(folder, WEIGHTS)
    adapters = sorted(path.parent.name for path in (folder / LANGUAGE_MODEL / ADAPTERS).glob(f"*/{_ADAPTER}"))
    live = config.get("live", {})
    order = live.get("status", {}).get("order", adapters)
    parts = Description(
        config=_read(folder, f"{LANGUAGE_MODEL}/{CONFIG}"),
        adapters={name: _read(folder, f"{LANGUAGE_MODEL}/{ADAPTERS}/{name}/{_ADAPTER}") for name in order},
        live={**live, "generation": _read(folder, f"{LANGUAGE_MODEL}/generation_config.json")},
    )
    return config, parts


@contextmanager
def refused(path: str | Path) -> Iterator[None]:
    """Where a file is tried: whatever libraries raise of what it holds is a :class:`UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # of libraries in Rust, panics are no Exception
        reason = " ".join(str(error).split())[:200]
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(f"{path} is damaged, or of no hybrid: {kind}{reason}") from error


def check_weights(model: nn.Module, folder: Path) -> None:
    """Refuse weights that are not those of this model, which may be without memory.

    Raises:
        UserError: With one that is missing, or too many, or of another shape.
    """
    expected = model.state_dict()
    buffers = dict(model.named_buffers())
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        aliases = _aliases(file.metadata(), expected)
        names = set(file.keys())
        shapes = {name: (file.get_slice(name).get_shape(), file.get_slice(name).get_dtype()) for name in names}
    for name, value in expected.items():
        source = aliases.get(name, name)
        if source not in names:
            raise UserError(f"{folder / WEIGHTS} has no {name}: it is damaged, or of another model")
        shape, dtype = shapes[source]
        if shape != list(value.shape) or dtype.startswith(("F", "BF")) != value.is_floating_point():
            raise UserError(
                f"{folder / WEIGHTS} has {name} as {dtype} {shape}, where {str(value.dtype).removeprefix('torch.')} "
                f"{list(value.shape)} is expected: it is damaged, or of another model"
            )
    for name in names - expected.keys():
        if name not in buffers or shapes[name][0] != list(buffers[name].shape):
            raise UserError(f"{folder / WEIGHTS} has {name}, which its model has not: it is damaged, or of another one")


def read_weights(model: nn.Module, folder: Path) -> None:
    """Put the weights of a folder in the place of the model's, in the precision and shared as they were."""
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
        # Copied to where the allocator puts tensors, as sums of products differ by where in memory these begin.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (it is no dict)
    expected = model.state_dict()
    aliases = _aliases(metadata, expected)
    model.load_state_dict({name: tensors[aliases.get(name, name)] for name in expected}, assign=True)
    for name in tensors.keys() - expected.keys():  # buffers that their module could make, but for their precision
        module, _, attribute = name.rpartition(".")
        model.get_submodule(module)._buffers[attribute] = tensors[name]
    for name, source in aliases.items():
        (module, _, attribute), (other, _, of_other) = name.rpartition("."), source.rpartition(".")
        shared = model.get_submodule(other)._parameters.get(of_other)
        if shared is not None:
            model.get_submodule(module)._parameters[attribute] = shared


def _write_weights(model: nn.Module, path: Path) -> None:
    state = model.state_dict(keep_vars=True)
    names: dict[int, str] = {}
    aliases = {name: first for name, x in state.items() if (first := names.setdefault(id(x), name)) != name}
    tensors: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, x in {**state, **_passing_buffers(model, state)}.items():
        if name not in aliases:
            storage = x.untyped_storage().data_ptr()
            is_whole = x.is_contiguous() and storage not in storages
            tensors[name] = x.detach() if is_whole else x.detach().clone(memory_format=torch.contiguous_format)
            storages.add(storage)
    save_file(tensors, path, metadata={"format": "pt", **aliases})


def _passing_buffers(model: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Buffers that are in no state of a module, such as the angles of rotary positions, in whatever precision they are;
    but for those that a module makes anew for every text."""
    made_anew = tuple(
        f"{name}." for name, module in model.named_modules() if "dynamic" in str(getattr(module, "rope_type", ""))
    )
    return {
        name: buffer
        for name, buffer in model.named_buffers()
        if name not in state and buffer.is_floating_point() and not name.startswith(made_anew)
    }


def _aliases(metadata: Mapping[str, str] | None, expected: Mapping[str, Any]) -> dict[str, str]:
    """The names of weights that others have too, and those others."""
    return {name: source for name, source in (metadata or {}).items() if name in expected}


def _file(folder: Path, name: str) -> Path:
    """The path of a file in a folder.

    Raises:
        UserError: If there is none, or it is something else, or outside.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UserError(f"{folder / name} leads out of its folder: expected a file in it")
    if not path.is_file():
        raise UserError(f"{folder / name} is missing, or no file: expected one that save_pretrained wrote")
    return path


def _read(folder: Path, name: str) -> dict[str, Any]:
    content: Any = json.loads(_file(folder, name).read_text("utf-8"), object_hook=number_of)
    if not isinstance(content, dict):
        raise UserError(f"{folder / name} is damaged: expected settings, given {type(content).__name__}")
    return content


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sum_of_config(config: Mapping[str, Any]) -> str:
    """The checksum of a configuration, but for the sums in it."""
    content = {name: value for name, value in config.items() if name != SUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
