"""Reasoners that are made from files, and written to folders or to the Hub."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from nar.configuration import made
from nar.errors import UserError
from nar.processor import Processor
from nar.training.base import BaseReasoner
from nar.training.checkpoint_file import config_of, kind_of, load_weights, making_model_of, read_checkpoint
from nar.training.folders import folder_of, in_half_precision, push_folder, write_folder
from nar.training.saving import restore_changes, specs_of


class PretrainedReasoner(BaseReasoner):
    """A reasoner that can be had from a file, from a folder or by a name, and be given away.

    Attributes:
        objects: Arguments of the constructor that are objects, and their classes.
    """

    objects: ClassVar[Mapping[str, Any]] = {"processor": Processor}

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """The model of a checkpoint's configuration with random weights, in evaluation mode on the CPU."""
        objects = {name: made(config["model"].get(name), kind) for name, kind in cls.objects.items()}
        reasoner: Any = cls
        reasoner = reasoner(specs_of(config["specs"]), **{**config["model"], **objects})
        reasoner.made_from = config
        restore_changes(reasoner, config)
        own: Self = reasoner.eval()
        return own

    @classmethod
    def of_checkpoint(cls, checkpoint: Mapping[str, Any], path: str | Path) -> Self:
        """The model of a checkpoint with its weights, in evaluation mode on the CPU.

        Args:
            checkpoint: What was read.
            path: Where it was, for errors.

        Raises:
            UserError: If it is of another kind of model, or its weights are not of the model that it tells of.
        """
        config = config_of(checkpoint)
        if kind_of(config) != cls.kind:
            raise UserError(f"{path} is of a model of the kind {kind_of(config)}: {cls.__name__} is {cls.kind}")
        with making_model_of(path):
            reasoner = cls.of_config(config)
        kinds = {x.dtype for x in checkpoint["state_dict"].values() if x.is_floating_point()}
        if "dtypes" not in config and len(kinds) == 1:  # written before this was told
            reasoner.to(kinds.pop())
        load_weights(reasoner, checkpoint["state_dict"], path, same_dtypes=True)
        return reasoner

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """A trained reasoner, in evaluation mode on the CPU.

        The processor's class is imported by the name that its file gives: load only what you trust.

        Args:
            name: Of one that comes with the library (see :func:`nar.list_pretrained`), such as ``bfs``; the path
                of a checkpoint, or of a folder that :meth:`save_pretrained` wrote; or a name of the Hub, such as
                ``someone/dijkstra``.
            revision: A branch, tag or commit of the Hub.

        Raises:
            UserError: If there is none, or it is damaged or of another kind.
        """
        folder = folder_of(name, revision=revision)
        return cls.of_checkpoint(read_checkpoint(name if folder is None else folder), name)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        data: Any = None,
        half: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write what :meth:`from_pretrained` reads: the configuration, the weights and a card.

        Args:
            folder: To write to.
            data: The data module that it is to be tested with, if it was not trained by this process.
            half: Whether weights are written in float16, of half the size; they are read as float32.
            facts: What the card is to tell (see :func:`nar.training.folders.card`).

        Raises:
            UserError: If the folder cannot be written.
        """
        weights = in_half_precision(self.state_dict()) if half else self.state_dict()
        write_folder(folder, {**self.config, "data": self.data_config(data)}, weights, facts=facts)

    def push_to_hub(
        self, name: str, *, private: bool = False, token: str | None = None, facts: Mapping[str, Any] | None = None
    ) -> str:
        """Upload what :meth:`save_pretrained` writes to the Hub; the address.

        Args:
            name: Of the repository, such as ``someone/dijkstra``; it is made if it is not there.
            private: Whether a repository that is made is.
            token: Of the Hub; that of ``hf auth login`` if not given.
            facts: What the card is to tell.

        Raises:
            UserError: If it cannot be uploaded.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, facts=facts)
            return push_folder(folder, name, private=private, token=token)
