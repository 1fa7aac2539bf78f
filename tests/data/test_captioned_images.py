"""Your own images and captions, described by both towers of one model, from files to searches in both directions."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from deephash.data.captioned_images import CaptionedImages
from deephash.data.descriptors.pixels import Pixels
from deephash.data.protocols.query_database import QueryDatabase
from deephash.data.text_descriptors.hashed_words import HashedWords
from deephash.validation import InvalidInputError

CAPTIONS = {"dog": "a photograph of a dog", "palace": "a palace"}


@pytest.fixture
def table(tmp_path):
    """Bright dogs and dark palaces, in a folder beside the table."""
    draw = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    lines = ["path,caption,label"]
    for number in range(32):
        label = ("dog", "palace")[number % 2]
        low = 150 if label == "dog" else 0
        pixels = draw.integers(low, low + 100, (24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        lines.append(f'images/{number}.png,"{CAPTIONS[label]}",{label}')
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    return tmp_path / "captions.csv"


def build(path, **settings):
    given = {"image_descriptor": Pixels(4), "text_descriptor": HashedWords(64), "cache": path.parent / "cache"}
    return CaptionedImages(QueryDatabase(queries=8), path=str(path), **given | settings)


def test_rows_are_items_of_two_views(table):
    data = build(table)
    items = data.load()
    assert {view: rows.shape for view, rows in items.features.features.items()} == {"image": (32, 48), "text": (32, 64)}
    assert items.class_names == ("dog", "palace")
    assert items.labels.tolist() == [0, 1] * 16
    assert items.texts[:2] == ("a photograph of a dog", "a palace")
    bright = items.features.features["image"].mean(1)
    assert bool((bright[::2] > bright[1::2].max()).all())
    assert torch.equal(build(table, view="text").load().features, items.features.features["text"])


WRONG = [
    ("path,text,label\na.png,a dog,dog", "has 0 columns named 'caption', of path, text, label"),
    ("path,caption\na.png,a dog", r"has no column 'label', but path, caption; labels say which"),
    ("path,caption,label\na.png, ,dog", "has no caption in row 2"),
    ("path,caption,label\nb.png,a dog,dog", r"lists 1 files that do not exist, the first .*b.png"),
    ("", "has 0 columns named 'caption', of none"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_malformed_tables_are_one_line(content, message, tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "captions.csv").write_text(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        build(tmp_path / "captions.csv").load()
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"is not a .csv file; give a CSV file with the header"):
        build(tmp_path / "captions.parquet").load()
    with pytest.raises(InvalidInputError, match=r"captions.csv.* does not exist"):
        build(tmp_path / "captions.csv").load()


@pytest.fixture
def clip(tmp_path):
    """A CLIP with random weights and its tokenizer, in a folder."""
    library, tokenizers = importlib.import_module("transformers"), importlib.import_module("tokenizers")
    torch.manual_seed(0)
    words = ["[pad]", "[end]", "[unk]", "a", "photograph", "of", "dog", "palace"]
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": 8, "eos_token_id": 1, "pad_token_id": 0}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    library.CLIPModel(config).save_pretrained(tmp_path / "clip")
    library.CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}).save_pretrained(
        tmp_path / "clip"
    )
    known = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[unk]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    end = tokenizers.processors.TemplateProcessing(single="$A [end]", special_tokens=[("[end]", 1)])
    tokenizer.post_processor = end
    library.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[pad]", eos_token="[end]").save_pretrained(
        tmp_path / "clip"
    )
    return tmp_path / "clip"


@pytest.mark.needs("transformers")
def test_both_towers_of_a_model_describe_both_views(table, clip, compose_config, tmp_path):
    from deephash.code_files.open_source import open_source
    from deephash.code_files.run_descriptors import text_descriptor
    from deephash.command_line.programs.train import train
    from deephash.hashers.loading import load

    config = compose_config(
        *("data=captioned_images", f"data.path={table}", f"data.cache={tmp_path / 'cache'}"),
        *("encoder=transformers", f"encoder.network={clip}", "method=cvh", "bits=1", "protocol.queries=8"),
        *("metrics.at=[5]", "user_metric=[]", "figures=false", "logger=none"),
    )
    row = train(config, tmp_path / "run").row
    assert row["feature_dim"] == {"image": 12, "text": 12}
    # The views differ by brightness and by words, which even random weights tell apart; chance is a half.
    for direction in ("image_to_text", "text_to_image"):
        assert row["metrics"][f"{direction}/mAP"] > 0.9
    hasher = load(tmp_path / "run")
    (block,) = open_source(table.parent / "images", tmp_path / "run").blocks(0, 32)
    assert block.features.shape == (32, 12)
    words = text_descriptor(tmp_path / "run").describe(list(CAPTIONS.values()))
    database = hasher.view("image").encode(block.features)
    _, ids = hasher.view("text").search(words, database, k=8)
    found = [[int(block.ids[place].split(".")[0]) % 2 for place in row] for row in ids.tolist()]
    assert found == [[0] * 8, [1] * 8]
