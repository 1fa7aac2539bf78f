"""Features of texts from the text tower of a model for images and texts."""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from deephash.conversion import shorten_error
from deephash.data.text_descriptors.base import TextDescriptor, check_texts
from deephash.encoders.transformers_source import (
    build_config,
    digest_model,
    find_model_folder,
    import_transformers,
    keep_plain,
    pool_output,
)
from deephash.io.path_settings import PathOrName
from deephash.io.progress import track
from deephash.validation import InvalidInputError, check_count


@final
class TextTower(TextDescriptor):
    """Projected features of texts of a model of transformers with two towers, such as CLIP or SigLIP.

    They are comparable with the features that `encoder=transformers` computes of images by the same model. Only weights
    in safetensors are read, and no code of a repository is run. Needs `pip install 'deephash[pretrained]'`.

    Known weakness: the models read only the beginning of a long text, 77 tokens in CLIP.

    Args:
        model: the folder of a model, or a name of the Hugging Face hub, such as openai/clip-vit-base-patch32.
        batch_size: texts per forward pass.
        device: device of the computation, such as "cpu" or "cuda"; features differ by rounding between devices.

    Raises:
        InvalidInputError: no model, or transformers is not installed; in `describe`, an unreadable model, or one
            without a text tower.

    References:
        Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
    """

    def __init__(self, model: PathOrName, batch_size: int = 32, device: str = "cpu") -> None:
        import_transformers()
        if not model:
            find_model_folder(model, "model")
        check_count(batch_size, "batch_size")
        self.model = model
        self.batch_size = batch_size
        self.device = device

    def parameters(self) -> dict[str, object]:
        """Return all settings that the features depend on, with the digest of the model."""
        return {"descriptor": "text_tower", "model": self.contents(), "device": torch.device(self.device).type}

    def contents(self) -> str:
        """Return the digest of the model's files."""
        return digest_model(find_model_folder(self.model, "model"))

    @torch.no_grad()
    def describe(self, texts: Sequence[str]) -> Tensor:
        """Compute features of n texts.

        Returns:
            float32 (n, e), for the model's dimension e.

        Raises:
            InvalidInputError: not texts, an unreadable model, or one without a text tower.
        """
        check_texts(texts)
        model, tokenizer = self._load_model()
        sized = {"padding": "max_length", "max_length": model.config.text_config.max_position_embeddings}
        features = []
        for start in track(range(0, len(texts), self.batch_size), "Texts"):
            block = list(texts[start : start + self.batch_size])
            tokens = tokenizer(block, truncation=True, return_tensors="pt", **sized).to(self.device)
            taken = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
            features.append(pool_output(model.get_text_features(**taken)).float().cpu())
        return torch.cat(features)

    def _load_model(self) -> tuple[Any, Any]:
        library, folder = import_transformers(), find_model_folder(self.model, "model")
        try:
            known = library.AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
            config = build_config(keep_plain(known))
            if not hasattr(config, "text_config"):
                raise InvalidInputError(f"model={self.model!r} has no text tower; give one such as CLIP or SigLIP.")
            tokenizer = library.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = library.AutoModel.from_pretrained(
                folder, config=config, trust_remote_code=False, use_safetensors=True
            )
        except InvalidInputError:
            raise
        except Exception as error:  # the type of error depends on the damage
            raise InvalidInputError(
                f"model={self.model!r} cannot be read ({shorten_error(error)}); download or save the model again."
            ) from error
        return model.float().eval().to(self.device), tokenizer
