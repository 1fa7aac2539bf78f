"""Models of transformers as encoders: both towers of a tiny CLIP, a ViT, and folders that are refused."""

import functools
import importlib
import json

import numpy as np
import pytest
import torch

from deephash.validation import InvalidInputError

pytestmark = pytest.mark.needs("transformers")

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["[pad]", "[end]", "[unk]", "a", "photograph", "of", "dog", "palace"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = torch.rand(6, 3 * 20 * 20, generator=generator(1))


def save_model(folder, model, **processor):
    """A model with random weights, and its image processor, in a folder."""
    library = importlib.import_module("transformers")
    model.save_pretrained(folder)
    library.CLIPImageProcessor(**processor).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    library, tokenizers = importlib.import_module("transformers"), importlib.import_module("tokenizers")
    torch.manual_seed(0)
    text = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 1, "pad_token_id": 0}
    vision = {**SIZES, "image_size": 16, "patch_size": 8}
    config = library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    folder = tmp_path_factory.mktemp("clip")
    save_model(folder, library.CLIPModel(config), size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[unk]")
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="$A [end]", special_tokens=[("[end]", 1)])
    library.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[pad]", eos_token="[end]").save_pretrained(
        folder
    )
    return str(folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    library = importlib.import_module("transformers")
    torch.manual_seed(0)
    config = library.ViTConfig(**SIZES, image_size=16, patch_size=8, num_labels=3)
    folder = tmp_path_factory.mktemp("vit")
    return save_model(
        folder, library.ViTForImageClassification(config), size={"height": 16, "width": 16}, do_center_crop=False
    )


def build(network, **settings):
    from deephash.encoders.transformers import Transformers

    return Transformers(1200, network, **settings)


def expected_of(folder, features):
    """What the library itself computes of images that are prepared by its own processor's settings."""
    library = importlib.import_module("transformers")
    images = features.reshape(-1, 20, 20, 3).permute(0, 3, 1, 2)[:, :, 2:18, 2:18]
    processor = library.AutoImageProcessor.from_pretrained(folder)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    model = library.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        embeds = model.vision_model(pixel_values=(images - mean) / deviation).pooler_output
        return model.visual_projection(embeds)


def test_clip_gives_its_projected_features(clip):
    encoder = build(clip).fit(FEATURES, generator()).eval()
    assert encoder.output_dim == 12
    assert not any("text" in name or "logit" in name for name in encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(encoder(FEATURES), expected_of(clip, FEATURES), atol=1e-5, rtol=1e-4)


def test_texts_are_encoded_by_the_same_model(clip, tmp_path):
    from deephash.data.text_descriptors.text_tower import TextTower
    from deephash.encoders.transformers import Transformers

    library = importlib.import_module("transformers")
    described = Transformers.get_text_descriptor({"network": clip})
    assert described == {"_target_": "deephash.data.text_descriptors.TextTower", "model": clip}
    tower = TextTower(clip, batch_size=2)
    texts = ["a photograph of a dog", "a palace", "of a dog " * 20]
    features = tower.describe(texts)
    assert features.shape == (3, 12)
    tokens = torch.tensor([[3, 7, 1]])
    with torch.no_grad():
        model = library.AutoModel.from_pretrained(clip).eval()
        expected = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    torch.testing.assert_close(features[1:2], expected, atol=1e-5, rtol=1e-4)
    assert tower.contents() == build(clip)._source.digest()


def test_a_vit_gives_its_class_token(vit):
    library = importlib.import_module("transformers")
    encoder = build(vit, crop=1).fit(FEATURES, generator()).eval()
    assert "text_config" not in encoder.architecture["model"]
    model = library.ViTForImageClassification.from_pretrained(vit).eval()
    with torch.no_grad():
        found = model.classifier(encoder(FEATURES))
        images = encoder._preprocessing.scale(encoder.images(FEATURES))
        expected = model(pixel_values=(images - encoder.mean) / encoder.deviation).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_features_of_a_descriptor_are_those_of_the_encoder(vit):
    from deephash.data.descriptors.network_features import NetworkFeatures
    from deephash.encoders.transformers import Transformers

    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), dtype=np.uint8)
    descriptor = NetworkFeatures(functools.partial(Transformers, network=vit))
    rows = torch.from_numpy(images.reshape(3, -1) / np.float32(255))
    with torch.no_grad():
        expected = build(vit).fit(rows, generator()).eval()(rows)
    torch.testing.assert_close(descriptor.describe(images), expected, atol=1e-5, rtol=1e-4)


def test_a_stored_hasher_needs_no_folder(clip, tmp_path):
    from deephash.hashers.hasher import Hasher
    from deephash.projections.pcah import PCAH
    from deephash.quantizers.sbq import SBQ

    hasher = Hasher(PCAH(12, 4), SBQ(4), build(clip)).fit(FEATURES)
    hasher.save(tmp_path / "hasher")
    stored = json.loads((tmp_path / "hasher" / "hasher.json").read_text())
    stored["encoder"]["arguments"]["network"] = "missing"
    loaded = Hasher.load(tmp_path / "hasher")
    assert torch.equal(loaded.encode(FEATURES), hasher.encode(FEATURES))
    again = build("missing", architecture=stored["encoder"]["arguments"]["architecture"])
    again.load_state_dict(hasher.encoder.state_dict())
    assert torch.equal(again.eval()(FEATURES), hasher.encoder.eval()(FEATURES))


def test_the_last_layers_learn(vit):
    encoder = build(vit, frozen=False, unfreeze_from="model.layernorm").fit(FEATURES, generator()).train()
    encoder(FEATURES).square().sum().backward()
    learns = {name for name, weight in encoder.backbone.named_parameters() if weight.grad is not None}
    assert learns == {"model.layernorm.weight", "model.layernorm.bias"}


def test_what_is_refused(vit, tmp_path, monkeypatch):
    from deephash.data.text_descriptors.text_tower import TextTower

    with pytest.raises(InvalidInputError, match="network=None; give the folder of a model or a name of the hub"):
        build(None)
    with pytest.raises(InvalidInputError, match=r"has no \.safetensors file"):
        build(str(tmp_path))
    with pytest.raises(InvalidInputError, match="has no text tower"):
        TextTower(vit).describe(["a"])
    client = importlib.import_module("huggingface_hub")

    def refuse(*_, **__):
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(client, "snapshot_download", refuse)
    with pytest.raises(InvalidInputError, match=r"cannot be downloaded .*or give a folder") as caught:
        build("user/name")
    assert "\n" not in str(caught.value)


def test_no_code_of_a_folder_is_run(vit, tmp_path):
    """A configuration that names Python files of its own folder."""
    import shutil

    folder = shutil.copytree(vit, tmp_path / "foreign")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    build(str(folder)).fit(FEATURES, generator())
    config["model_type"] = "unknown"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInputError, match="cannot be read"):
        build(str(folder))
    assert not (tmp_path / "ran").exists()


def test_a_configuration_names_no_kernels_and_no_classes(clip, tmp_path, monkeypatch):
    """Neither that of a folder nor that of a stored hasher, nor those of their towers."""
    import shutil

    from deephash.data.text_descriptors.text_tower import TextTower

    library = importlib.import_module("transformers")
    foreign = {"attn_implementation": "foreign/kernels", "auto_map": {"AutoModel": "foreign/code--own.Model"}}
    folder = shutil.copytree(clip, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    for settings in (config, config["vision_config"], config["text_config"]):
        settings |= foreign
    (folder / "config.json").write_text(json.dumps(config))
    used = []
    original = library.AutoConfig.for_model
    monkeypatch.setattr(
        library.AutoConfig, "for_model", lambda kind, **given: used.append(given) or original(kind, **given)
    )
    trusted = build(clip).fit(FEATURES, generator()).eval()
    encoder = build(str(folder)).fit(FEATURES, generator()).eval()
    assert torch.equal(encoder(FEATURES), trusted(FEATURES))
    stored = {**encoder.architecture, "model": config}
    build("missing", architecture=stored).load_state_dict(encoder.state_dict())
    assert TextTower(str(folder)).describe(["a dog"]).shape == (1, 12)
    assert len(used) >= 4
    assert "foreign" not in json.dumps(used, default=str)
