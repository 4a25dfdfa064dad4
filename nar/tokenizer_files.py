"""A tokenizer of Hugging Face as the files that it is saved as, for a checkpoint to hold."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nar.errors import UserError


def files_of_tokenizer(tokenizer: Any) -> dict[str, str]:
    """The text of every file by name.

    Raises:
        UserError: If one is no text.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        try:
            return {path.name: path.read_text("utf-8") for path in sorted(Path(folder).iterdir()) if path.is_file()}
        except UnicodeDecodeError as error:
            kind = type(tokenizer).__name__
            raise UserError(f"expected a tokenizer that is saved as text, such as a fast one, given {kind}") from error


def tokenizer_of_files(files: Mapping[str, str]) -> Any:
    """The tokenizer that :func:`files_of_tokenizer` was given; nothing that the files name is run or fetched.

    Raises:
        UserError: If they are not those of a tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                Path(folder, Path(name).name).write_text(text, "utf-8")
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # of a library in Rust, whose panics are no Exception
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"expected the files of a tokenizer, given others: {type(error).__name__}: {reason}") from error
