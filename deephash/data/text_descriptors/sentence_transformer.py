"""Sentence embeddings of a language model as features."""

import hashlib
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from deephash.conversion import shorten_error
from deephash.data.text_descriptors.base import TextDescriptor, check_texts
from deephash.io.folder_walk import walk_files
from deephash.io.path_settings import PathOrName
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count

BLOCK_TEXTS = 1024
"""Texts per step of the progress bar; the model processes `batch_size` of them at once."""


def contents_digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the names and contents of a folder's files."""
    digest = hashlib.sha256()
    for file in sorted(walk_files(folder, hidden=True)):
        if "__pycache__" not in file.parts:
            digest.update(file.relative_to(folder).as_posix().encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


@final
class SentenceTransformer(TextDescriptor):
    """Sentence embeddings of a model in the format of sentence-transformers, such as MiniLM.

    Needs `pip install 'deephash[text]'`. A model is a folder, or a name of the Hugging Face hub. A named
    model is downloaded unless it is in the hub's cache.

    Known weakness: a model reads only the beginning of a long text; MiniLM reads 256 word pieces.

    Args:
        model: folder or name, such as sentence-transformers/all-MiniLM-L6-v2.
        batch_size: texts per forward pass.
        device: device of the computation, such as "cpu" or "cuda"; features differ by rounding between devices.

    Raises:
        InvalidInputError: no model, or the library is not installed; in `describe`, an unreadable model.

    References:
        Reimers & Gurevych, "Sentence-BERT: sentence embeddings using siamese BERT-networks", EMNLP 2019. Wang et al.,
        "MiniLM: deep self-attention distillation for task-agnostic compression of pre-trained transformers", NeurIPS
        2020.
    """

    def __init__(self, model: PathOrName, batch_size: int = 32, device: str = "cpu") -> None:
        if not model:
            raise InvalidInputError(
                f"model={model!r}; give a folder or a name, such as sentence-transformers/all-MiniLM-L6-v2."
            )
        check_count(batch_size, "batch_size")
        if find_spec("sentence_transformers") is None:
            raise InvalidInputError("sentence-transformers is not installed; run pip install 'deephash[text]'.")
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, with the digest of a model folder."""
        model = self.contents() or self.model
        return {"descriptor": "sentence_transformer", "model": model, "device": torch.device(self.device).type}

    def contents(self) -> str:
        """Return the digest of the model's folder; empty for a name of the hub."""
        folder = Path(self.model).expanduser()
        return contents_digest(folder) if folder.is_dir() else ""

    def describe(self, texts: Sequence[str]) -> Tensor:
        """Compute embeddings of n texts.

        Returns:
            float32 (n, d), for the model's dimension d; of length 1 if the model normalises them.

        Raises:
            InvalidInputError: not texts, or an unreadable model.
        """
        check_texts(texts)
        model = self._load_model()
        embeddings = []
        for start in track(range(0, len(texts), BLOCK_TEXTS), "Sentences"):
            block = list(texts[start : start + BLOCK_TEXTS])
            encoded = model.encode(block, batch_size=self.batch_size, convert_to_tensor=True, show_progress_bar=False)
            embeddings.append(encoded.float().cpu())
        return torch.cat(embeddings)

    def _load_model(self) -> Any:
        # Imported by name, so that type checkers do not follow all of transformers.
        library, logging = import_module("sentence_transformers"), import_module("transformers.utils.logging")
        folder = Path(self.model).expanduser()
        enabled = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # loading weights takes less than a second
        try:
            return library.SentenceTransformer(
                str(folder) if folder.is_dir() else self.model, device=self.device, trust_remote_code=False
            )
        except (OSError, ValueError) as error:
            raise InvalidInputError(
                f"model={self.model!r} cannot be read ({shorten_error(error)}); give its folder."
            ) from error
        finally:
            if enabled:
                logging.enable_progress_bar()
