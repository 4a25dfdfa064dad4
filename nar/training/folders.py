"""Reasoners as folders: those that come with the library, one's own, and those of the Hub.

A folder has ``config.json`` (what the model is made of, and how it was trained), ``model.safetensors`` and a card,
``README.md``. Half precision halves the file; weights are in the model's own precision again once they are read.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from nar.errors import UserError, one_line
from nar.files import check_file, replacing, replacing_text

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
FORMAT = 1
SHIPPED = Path(str(files("nar"))) / "pretrained"
_TOLD = ("recipe", "run", "steps", "seed", "commit", "precision")
"""Facts that a card has in its table."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def list_pretrained() -> dict[str, dict[str, Any]]:
    """What is known of the reasoners that come with the library, by name: algorithm, steps, seed, scores and so on."""
    folders = sorted(path.parent for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))
    return {folder.name: facts_of(folder) for folder in folders}


def facts_of(folder: str | Path) -> dict[str, Any]:
    """How the reasoner in a folder was trained and what it scores, as far as it is told.

    Raises:
        UserError: If there is none.
    """
    facts: dict[str, Any] = _config(Path(folder)).get("facts", {})
    return facts


def folder_of(name: str | Path, *, revision: str | None = None) -> Path | None:
    """The folder of a reasoner: one that comes with the library, one's own, or one of the Hub; None if it is a file.

    Args:
        name: Of a reasoner of the library, such as ``bfs``; a path; or, if there is no such path, a name of the
            Hub such as ``someone/dijkstra``, which is downloaded once.
        revision: A branch, tag or commit of the Hub.

    Raises:
        UserError: If it cannot be downloaded.
    """
    if isinstance(name, str) and re.fullmatch(r"\w{1,100}", name) and (SHIPPED / name / CONFIG_FILE).is_file():
        return SHIPPED / name
    if Path(name).exists():
        return Path(name) if (Path(name) / CONFIG_FILE).is_file() else None
    return _downloaded(name, revision) if isinstance(name, str) and _HUB_NAME.fullmatch(name) else None


def _downloaded(name: str, revision: str | None) -> Path | None:
    """The folder of a reasoner of the Hub; None if the name may be that of a file that is not there."""
    if name.endswith((".ckpt", ".pt", ".pkl")):
        return None
    try:
        from huggingface_hub import snapshot_download  # here, as few need it
    except ImportError as error:
        raise UserError(
            f"to download {name}, install huggingface_hub ({error}); there is no such folder here"
        ) from error
    try:
        patterns = [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE]
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of the Hub, of the network, of the disk
        raise UserError(f"there is no folder {name} here, and it cannot be downloaded: {one_line(error)}") from error


def write_folder(
    folder: str | Path,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    *,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a reasoner, its configuration last, so that no folder has one without its weights.

    Args:
        folder: To write to; it is made if it is not there.
        config: What a checkpoint has as its configuration.
        weights: By name.
        facts: What is known of it besides; see :func:`card`.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from error
    content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()})
    with replacing(folder / WEIGHTS_FILE) as file:
        file.write(content)
    known = dict(facts or {})
    told = {
        "format": FORMAT,
        "nar": dict(config),
        "facts": known,
        "sum": hashlib.sha256(content).hexdigest(),
    }
    with replacing_text(folder / CARD_FILE) as text:
        text.write(card(config, known))
    with replacing_text(folder / CONFIG_FILE) as text:
        text.write(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration of a reasoner and its weights by name, as :func:`write_folder` was given them.

    Raises:
        UserError: If a file is missing or damaged.
    """
    config = _config(folder)
    try:
        check_file(folder / WEIGHTS_FILE)
        content = (folder / WEIGHTS_FILE).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {folder / WEIGHTS_FILE}: {error.strerror}") from error
    if _sum(content) != config.get("sum"):
        raise UserError(f"{folder / WEIGHTS_FILE} is damaged: its sum is another than in {CONFIG_FILE}")
    try:
        weights: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise UserError(f"{folder / WEIGHTS_FILE} is damaged: {one_line(error)}") from error
    told = config.get("nar")
    if not isinstance(told, dict):
        raise UserError(f"{folder / CONFIG_FILE} is of another program: expected one that save_pretrained wrote")
    if "dtypes" not in told:  # the model is in float32, however the file has it
        weights = {name: x.float() if x.is_floating_point() else x for name, x in weights.items()}
    return told, weights


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        check_file(path)
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"no reasoner in {folder}: cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise UserError(f"{path} is of another program: expected one that save_pretrained wrote")
    return config


def in_half_precision(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float16, all that are in float32."""
    return {name: value.half() if value.dtype is torch.float32 else value for name, value in weights.items()}


def card(config: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The card of a reasoner in Markdown, for people and for the Hub.

    Args:
        config: What a checkpoint has as its configuration.
        facts: What is known of it, of which any may be missing: ``recipe``, ``run``, ``steps``, ``seed``, ``commit``,
            ``command``, ``precision``, and ``scores`` by size, each with ``score``, ``low``, ``high`` (in [0, 1]) and
            ``num_samples``.
    """
    algorithms = list(config.get("specs", {}))
    model = config.get("model", {})
    processor, is_variant = model.get("processor") or {}, model.get("hint_loss") == "none"
    name = str(processor.get("class_path", "a processor")).rpartition(".")[2]
    sizes = ", ".join(map(str, config.get("data", {}).get("train_sizes") or []))
    lines = [
        "---",
        "library_name: nar",
        "license: apache-2.0",
        "tags: [neural-algorithmic-reasoning, graph-neural-network, clrs-30]",
        "---",
        "",
        f"# {name} for {', '.join(algorithms)}",
        "",
        "A neural algorithmic reasoner: a graph network that was trained to execute "
        f"{'the algorithm' if len(algorithms) == 1 else 'the algorithms'} step by step on small instances of CLRS-30.",
        "",
        "```python",
        "from nar import Reasoner",
        "",
        f'reasoner = Reasoner.from_pretrained("{algorithms[0] if len(algorithms) == 1 else "path/to/this/folder"}")',
        "```",
        "",
        "| | |",
        "|---|---|",
        f"| processor | `{processor.get('class_path', '')}` |",
        f"| trained on | random instances of CLRS-30's samplers with {sizes or 'an unknown number of'} nodes |",
        *(["| variant of the task | without a loss of hints |"] if is_variant else []),
        *(f"| {key} | {facts[key]} |" for key in _TOLD if key in facts),
        *([f"| made by | `{facts['command']}` |"] if "command" in facts else []),
        "| licence | Apache-2.0 |",
    ]
    if facts.get("scores"):
        lines += [
            "",
            "Scores on test splits with 95 % bootstrap intervals over instances (string matchers: 5/4 as many nodes):",
            "",
            "| nodes | score, % | interval | instances |",
            "|---|---|---|---|",
        ]
        for size, found in facts["scores"].items():
            score, low, high = (f"{100 * found[key]:.1f}" for key in ("score", "low", "high"))
            lines.append(f"| {size} | {score} | {low} to {high} | {found['num_samples']} |")
    return "\n".join(lines) + "\n"


def push_folder(folder: str | Path, name: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder to the Hub.

    Args:
        folder: That :func:`write_folder` wrote.
        name: Of the repository, such as ``someone/dijkstra``; it is made if it is not there.
        private: Whether a repository that is made is.
        token: Of the Hub; that of ``hf auth login`` if not given.

    Returns:
        The address.

    Raises:
        UserError: If it cannot be uploaded.
    """
    try:
        from huggingface_hub import HfApi  # here, as few need it
    except ImportError as error:
        raise UserError(f"to upload {name}, install huggingface_hub ({error})") from error
    try:
        api = HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(folder_path=folder, repo_id=name, commit_message="Upload a reasoner"))
    except Exception as error:  # of the Hub, or of the network
        raise UserError(f"{name} cannot be uploaded: {one_line(error)}") from error
