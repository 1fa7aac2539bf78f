"""MS COCO: photographs with five sentences each and labels of 80 object categories."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from deephash.data.descriptors.base import Descriptor
from deephash.data.digests import words_digest
from deephash.data.file_features import files_digest, read_or_describe_files, read_or_describe_texts
from deephash.data.image_text_base import ImageTextData
from deephash.data.items import Items
from deephash.data.protocols.base import Protocol, Split
from deephash.data.text_descriptors.base import TextDescriptor
from deephash.io.files import read_json
from deephash.io.path_settings import FilePath
from deephash.validation import InvalidInputError, check_count

# The publisher's part → its role.
PARTS = {"train": "train", "val": "query"}
LAYOUT = (
    "annotations/captions_train2017.json, captions_val2017.json, instances_train2017.json and instances_val2017.json "
    "(from annotations_trainval2017.zip), and the images in train2017 and val2017 (from train2017.zip and val2017.zip)"
)


@final
class COCOCaptions(ImageTextData):
    """Images and sentences as cached features of two descriptors, labelled by object categories.

    An item is an image with its first sentence, or with several sentences joined. If the annotations of objects are
    present, items without any object are left out, as in papers on hashing; otherwise there are no labels. One of the
    publisher's parts may be missing: with only `captions_val2017.json` and `val2017`, there are 5,000 items.

    Args:
        protocol: see `HashingDataModule`.
        seed: see `HashingDataModule`.
        split: see `HashingDataModule`.
        path: the folder with `annotations` and the image folders, as published.
        image_descriptor: computes and caches the image features.
        text_descriptor: computes and caches the sentence features.
        year: the edition, at the end of the file names.
        captions: number of sentences joined into an item's text, 1 to 5.
        view: "image" or "text" for only that view; None for both.
        cache: folder of computed features.

    Raises:
        InvalidInputError: no path, an unknown view, or a number of captions below 1.

    References:
        Lin et al., "Microsoft COCO: common objects in context", ECCV 2014. Chen et al., "Microsoft COCO captions: data
        collection and evaluation server", arXiv:1504.00325, 2015.
    """

    title = "COCO"
    layout = LAYOUT

    def __init__(
        self,
        protocol: Protocol,
        seed: int = 0,
        split: Split | None = None,
        *,
        path: str,
        image_descriptor: Descriptor,
        text_descriptor: TextDescriptor,
        year: int = 2017,
        captions: int = 1,
        view: str | None = None,
        cache: FilePath = "~/.cache/deephash",
    ) -> None:
        super().__init__(protocol, seed, split, path, view, cache)
        check_count(year, "year")
        check_count(captions, "captions")
        self.image_descriptor = image_descriptor
        self.text_descriptor = text_descriptor
        self.year = year
        self.captions = captions

    def load(self) -> Items:
        """Read sentences and labels, and the cached features.

        Raises:
            InvalidInputError: a missing or damaged file; the message has the layout.
        """
        parts = [part for part in PARTS if self._get_annotation_file("captions", part).is_file()]
        if not parts:
            raise InvalidInputError(
                f"{self.path / 'annotations'} has neither captions_train{self.year}.json nor "
                f"captions_val{self.year}.json; the layout is {LAYOUT}."
            )
        files: list[Path] = []
        texts: list[str] = []
        labels: list[np.ndarray] = []
        roles: list[str] = []
        names: tuple[str, ...] = ()
        labelled = [self._get_annotation_file("instances", part).is_file() for part in parts]
        for part in parts:
            part_files, part_texts, ids = self._read_sentences(part)
            kept: np.ndarray = np.ones(len(ids), np.bool_)
            if all(labelled):
                table, part_names = self._read_objects(part, ids)
                if names and part_names != names:
                    raise InvalidInputError(
                        f"{self.path / 'annotations'} has different object categories in each part; download it again."
                    )
                names, kept = part_names, np.asarray(table.any(1))
                labels.append(table[kept])
            files += [file for file, keep in zip(part_files, kept, strict=True) if keep]
            texts += [text for text, keep in zip(part_texts, kept, strict=True) if keep]
            roles += [PARTS[part]] * int(kept.sum())
        features: dict[str, Tensor] = {}
        images = None
        computed_from: dict[str, str] = {}
        if self.view != "text":
            described = read_or_describe_files(files, self.image_descriptor, self.cache)
            features["image"], images = described["features"], described["thumbnails"].numpy()
            computed_from["image"] = files_digest(files)
        if self.view != "image":
            features["text"] = read_or_describe_texts(texts, self.text_descriptor, self.cache)
            computed_from["text"] = words_digest(texts)
        return Items(
            labels=torch.from_numpy(np.concatenate(labels)) if labels else None,
            class_names=names,
            official=np.array(roles) if len(parts) > 1 else None,
            images=images,
            texts=tuple(texts),
            **self._select_view(features, computed_from),
        )

    def _read_sentences(self, part: str) -> tuple[list[Path], list[str], list[int]]:
        """Return the image files, joined sentences and ids of a part, sorted by id."""
        path = self._get_annotation_file("captions", part)
        content = _read(path, ("images", "annotations"))
        sentences: dict[int, list[tuple[int, str]]] = {}
        names: dict[int, str] = {}
        try:
            for image in content["images"]:
                names[image["id"]] = image["file_name"]
            for annotation in content["annotations"]:
                sentence = (annotation["id"], " ".join(annotation["caption"].split()))
                sentences.setdefault(annotation["image_id"], []).append(sentence)
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path} lacks {error} in an entry; it is damaged or another file.") from error
        ids = sorted(names.keys() & sentences.keys())
        if not ids:
            raise InvalidInputError(f"{path} has no sentences of its images; the layout is {LAYOUT}.")
        texts = [" ".join(text for _, text in sorted(sentences[image])[: self.captions]) for image in ids]
        return [self.path / f"{part}{self.year}" / names[image] for image in ids], texts, ids

    def _read_objects(self, part: str, ids: Sequence[int]) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return which categories each image shows, bool (n, c), and the names of the categories, sorted by id."""
        path = self._get_annotation_file("instances", part)
        content = _read(path, ("categories", "annotations"))
        row = {image: number for number, image in enumerate(ids)}
        try:
            categories = sorted((category["id"], category["name"]) for category in content["categories"])
            column = {category: number for number, (category, _) in enumerate(categories)}
            table = np.zeros((len(ids), len(categories)), np.bool_)
            for annotation in content["annotations"]:
                if annotation["image_id"] in row:
                    table[row[annotation["image_id"]], column[annotation["category_id"]]] = True
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"{path} lacks {error} in an entry; it is damaged or another file.") from error
        return table, tuple(name for _, name in categories)

    def _get_annotation_file(self, kind: str, part: str) -> Path:
        return self.path / "annotations" / f"{kind}_{part}{self.year}.json"


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    content = read_json(path, "annotations", "unpack it again")
    if not isinstance(content, dict) or any(not isinstance(content.get(key), list) for key in keys):
        raise InvalidInputError(f"{path} has no lists {' and '.join(keys)}; the layout is {LAYOUT}.")
    return content
