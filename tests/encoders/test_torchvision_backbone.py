"""Torchvision's networks as encoders."""

import json
import urllib.error
import urllib.request

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from deephash.encoders.torchvision_backbone import TorchvisionBackbone
from deephash.encoders.torchvision_source import TorchvisionSource, list_networks
from deephash.hashers.hasher import Hasher
from deephash.projections.pcah import PCAH
from deephash.quantizers.sbq import SBQ
from deephash.validation import InvalidInputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


FEATURES = torch.rand(12, 3 * 16 * 16, generator=generator(1))


@pytest.fixture(scope="module")
def network():
    """A network with a classifier of its own, and statistics that are not those of a fresh one."""
    torch.manual_seed(5)
    network = torchvision.models.mobilenet_v3_small(num_classes=7)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    return network.eval()


@pytest.fixture
def weights(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path


def features_of(network, images):
    """What goes into the last linear map."""
    caught = []
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    handle = last.register_forward_hook(lambda module, inputs, output: caught.append(inputs[0]))
    network(images)
    handle.remove()
    return caught[0]


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_it_gives_what_the_network_gives_to_its_classifier(ending, network, weights):
    encoder = TorchvisionBackbone(
        768, "mobilenet_v3_small", str(weights / f"weights.{ending}"), image_size=48, crop=1.0
    )
    encoder.fit(FEATURES, generator()).eval()
    images = FEATURES.reshape(12, 16, 16, 3).permute(0, 3, 1, 2)
    large = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", align_corners=False)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = features_of(network, (large - mean[:, None, None]) / deviation[:, None, None])
    assert encoder.output_dim == expected.shape[1] == 1024
    assert torch.allclose(encoder(FEATURES), expected, atol=1e-5)


def test_grey_images_are_of_three_equal_channels():
    grey = torch.rand(4, 256, generator=generator())
    encoder = TorchvisionBackbone(256, "mobilenet_v3_small", image_size=32).fit(grey, generator()).eval()
    colour = TorchvisionBackbone(768, "mobilenet_v3_small", image_size=32).eval()
    colour.load_state_dict(encoder.state_dict())
    assert torch.allclose(encoder(grey), colour(grey.repeat_interleave(3, 1)), atol=1e-5)


def test_a_stored_hasher_needs_neither_file_nor_network(weights, tmp_path, monkeypatch):
    path = weights / "weights.pth"
    encoder = TorchvisionBackbone(768, "mobilenet_v3_small", str(path), frozen=True, image_size=32)
    hasher = Hasher(PCAH(1024, 4), SBQ(4), encoder).fit(FEATURES)
    codes = hasher.encode(FEATURES)
    hasher.save(tmp_path / "hasher")
    path.unlink()
    assert json.loads((tmp_path / "hasher" / "hasher.json").read_text())["encoder"]["arguments"]["frozen"]
    named = TorchvisionBackbone(768, "mobilenet_v3_small", "DEFAULT", image_size=32)
    named.load_state_dict(encoder.state_dict())
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("a download"))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    loaded = Hasher.load(tmp_path / "hasher")
    assert torch.equal(loaded.encode(FEATURES), codes)
    renamed = Hasher(hasher.projection, hasher.quantizer, named)
    renamed.save(tmp_path / "named")
    assert torch.equal(Hasher.load(tmp_path / "named").encode(FEATURES), codes)


@pytest.fixture
def downloads(tmp_path, monkeypatch):
    """Torch's folder of downloads, empty, on a machine without a network."""

    def refuse(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


WEIGHTS_FILE = "mobilenet_v3_small-047dcff4.pth"


def test_a_name_of_weights_loads_torchvision_s(network, downloads):
    downloads.mkdir(parents=True)
    torch.save(network.state_dict(), downloads / WEIGHTS_FILE)
    encoder = TorchvisionBackbone(768, "mobilenet_v3_small", "DEFAULT", image_size=32).fit(FEATURES, generator())
    assert torch.equal(encoder.backbone.features[0][0].weight, network.features[0][0].weight)


def test_a_frozen_network_stays_as_it_is():
    encoder = TorchvisionBackbone(768, "resnet18", frozen=True, image_size=32).fit(FEATURES, generator())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.requires_grad_(True)  # as training does with every part that learns
    encoder.train()
    assert not encoder(FEATURES).requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_one_that_is_not_frozen_learns():
    encoder = TorchvisionBackbone(768, "resnet18", image_size=32).fit(FEATURES, generator())
    before = encoder.backbone.bn1.running_mean.clone()
    encoder(FEATURES).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    assert not torch.equal(encoder.backbone.bn1.running_mean, before)
    assert not any(parameter.requires_grad for parameter in encoder.requires_grad_(False).parameters())


def test_every_seed_draws_other_weights_and_statistics_are_of_the_data():
    one, other = (TorchvisionBackbone(768, "resnet18", image_size=32).fit(FEATURES, generator(s)) for s in (0, 1))
    assert not torch.equal(one.backbone.conv1.weight, other.backbone.conv1.weight)
    with torch.no_grad():
        sizes = one.eval()(FEATURES).square().mean().sqrt()
    assert 0.1 < float(sizes) < 10


@pytest.mark.parametrize(("name", "width"), [("alexnet", 4096), ("densenet121", 1024), ("efficientnet_b0", 1280)])
def test_width_of_what_a_network_gives(name, width):
    built, found = TorchvisionSource(name, None).build_seeded(0)
    assert found == width
    with torch.no_grad():
        assert built.eval()(torch.rand(2, 3, 64, 64)).shape == (2, width)


def test_networks_are_named_as_torchvision_names_them():
    assert {"resnet18", "resnet50", "alexnet", "vit_b_16", "efficientnet_b0", "vgg16"} <= set(list_networks())


def test_vision_transformers_take_one_size():
    with pytest.raises(InvalidInputError, match=r"image_size=96; weights='IMAGENET1K_V1' of vit_b_32 accept only 224"):
        TorchvisionBackbone(768, "vit_b_32", "IMAGENET1K_V1", image_size=96)


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="network='resnet19'; expected one of: alexnet, "):
        TorchvisionBackbone(768, "resnet19")
    with pytest.raises(InvalidInputError, match="network='googlenet'; expected one of"):
        TorchvisionBackbone(768, "googlenet")
    with pytest.raises(InvalidInputError, match="weights='IMAGENET'; expected one of: DEFAULT, IMAGENET1K_V1"):
        TorchvisionBackbone(768, "resnet18", "IMAGENET")
    with pytest.raises(InvalidInputError, match="512 features are not images"):
        TorchvisionBackbone(512, "resnet18")
    with pytest.raises(InvalidInputError, match="channels=2; resnet18 accepts 3 channels, or 1 of grey images"):
        TorchvisionBackbone(512, "resnet18", channels=2)
    with pytest.raises(InvalidInputError, match="values from 0 to 255; resnet18 expects brightness in"):
        TorchvisionBackbone(3, "resnet18").fit(torch.tensor([[0.0, 255.0, 1.0]]), generator())


def test_bad_weights_are_refused(weights, tmp_path):
    def fit(path, network="mobilenet_v3_small"):
        TorchvisionBackbone(768, network, str(path), image_size=32).fit(FEATURES, generator())

    with pytest.raises(InvalidInputError, match=r"weights='.*none.pth' does not exist; give a file of mobilenet_v3_s"):
        fit(tmp_path / "none.pth")
    with pytest.raises(InvalidInputError, match=r"are not those of resnet18 .*Missing key"):
        fit(weights / "weights.pth", "resnet18")
    for ending in ("pth", "safetensors"):
        (tmp_path / f"damaged.{ending}").write_bytes(b"no weights")
        with pytest.raises(InvalidInputError, match="cannot be read"):
            fit(tmp_path / f"damaged.{ending}")
    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(InvalidInputError, match="does not contain a state dict"):
        fit(tmp_path / "list.pt")
    torch.save({"model": print}, tmp_path / "code.pt")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        fit(tmp_path / "code.pt")


def test_weights_that_cannot_be_downloaded_are_one_line_that_says_where_the_file_may_be_put(downloads):
    settings = {"network": "mobilenet_v3_small", "weights": "DEFAULT"}
    asked = rf"Name or service not known>\); save https://.*{WEIGHTS_FILE} as {downloads}/{WEIGHTS_FILE}, or give"
    with pytest.raises(InvalidInputError, match=asked) as caught:
        TorchvisionBackbone.fetch(settings)
    assert "\n" not in str(caught.value)
    assert not list(downloads.iterdir())
    (downloads / WEIGHTS_FILE).write_bytes(b"half a download")
    TorchvisionBackbone.fetch(settings)
    with pytest.raises(InvalidInputError, match=rf"{downloads}/{WEIGHTS_FILE} .*remove the file to download it again"):
        TorchvisionBackbone(768, **settings, image_size=32).fit(FEATURES, generator())


def test_a_random_start_is_said(caplog, weights):
    TorchvisionBackbone(768, "mobilenet_v3_small", image_size=32).fit(FEATURES, generator())
    assert caplog.messages == ["mobilenet_v3_small starts with random weights; encoder.weights gives it trained ones."]
    caplog.clear()
    TorchvisionBackbone(768, "mobilenet_v3_small", str(weights / "weights.pth"), image_size=32).fit(
        FEATURES, generator()
    )
    assert not caplog.messages


def test_what_an_encoder_cannot_use_is_refused_before_data_are_read(compose_config, downloads, tmp_path, monkeypatch):
    from deephash.command_line.programs.train import train

    monkeypatch.setattr("deephash.training.run_steps.build_data", lambda *_: pytest.fail("data are read"))
    shared = ("method=dsh", "encoder=resnet18", f"data.path={tmp_path}", "logger=none")
    with pytest.raises(InvalidInputError, match=r"data=cifar10_gist gives Gist features; .* data=image_folder_pixels"):
        train(compose_config("data=cifar10_gist", *shared), tmp_path / "run")
    with pytest.raises(InvalidInputError, match=r"encoder.weights=null; resnet18 needs trained weights .*frozen=false"):
        train(compose_config("data=image_folder", *shared, "encoder.frozen=true"), tmp_path / "run")
    with pytest.raises(InvalidInputError, match="weights='DEFAULT' of resnet18 cannot be downloaded"):
        train(compose_config("data=image_folder_pixels", *shared, "encoder.weights=DEFAULT"), tmp_path / "run")
    with pytest.raises(InvalidInputError, match=r"weights='.*none.pth' does not exist"):
        train(
            compose_config("data=image_folder_pixels", *shared, f"encoder.weights={tmp_path}/none.pth"), tmp_path / "r"
        )


def test_a_network_that_is_not_named_is_asked_for(compose_config):
    from deephash.io.instantiation import build

    with pytest.raises(InvalidInputError, match="network=None; expected one of: alexnet, "):
        build(compose_config("encoder=torchvision_backbone").encoder, input_dim=768)


@pytest.mark.parametrize(
    ("network", "weights"),
    [("mobilenet_v3_small", "IMAGENET1K_V1"), ("efficientnet_b0", "IMAGENET1K_V1"), ("resnet50", "IMAGENET1K_V2")],
)
def test_images_are_prepared_as_for_the_weights(network, weights):
    """Bilinear or bicubic, and other sizes before the crop, as torchvision's own transforms."""
    known = TorchvisionSource(network, weights).read_preprocessing()
    images = torch.rand(2, 3, 300, 300, generator=generator())
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (known.mean, known.deviation))
    found = (known.scale(images) - mean) / deviation
    own = torchvision.models.get_model_weights(network)[weights].transforms()
    expected = ((own(images) * deviation + mean).clamp(0, 1) - mean) / deviation  # bicubic interpolation overshoots
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert found.shape == (2, 3, 224, 224)


def test_only_the_last_parts_learn():
    encoder = TorchvisionBackbone(768, "resnet18", image_size=32, unfreeze_from="layer4").fit(FEATURES, generator())
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.requires_grad_(True).train()
    encoder(FEATURES).square().sum().backward()
    learning = {name.split(".")[0] for name, weight in encoder.backbone.named_parameters() if weight.grad is not None}
    assert learning == {"layer4"}
    moved = {name for name, tensor in encoder.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith("backbone.layer4") for name in moved)
    with pytest.raises(InvalidInputError, match=r"unfreeze_from='layer5' is not a part of resnet18; .*layer4"):
        TorchvisionBackbone(768, "resnet18", unfreeze_from="layer5")


@pytest.mark.parametrize(
    "network",
    ["resnet18", "efficientnet_b0", *(pytest.param(name, marks=pytest.mark.ci) for name in ("alexnet", "vit_b_32"))],
)
def test_checkpoints_keep_few_activations_and_change_no_gradient(network):
    """Statistics of batches would be updated twice, and dropout drawn anew, so the network is in evaluation mode."""
    gradients, kept = [], []
    for checkpointing in (False, True):
        encoder = TorchvisionBackbone(768, network, image_size=64, checkpointing=checkpointing).eval()
        images = torch.rand(2, 768, generator=generator())
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: (sizes.append(x.numel()), x)[1], lambda x: x
        ):
            output = encoder.fit(images, generator())(images)
        output.square().sum().backward()
        gradients.append([weight.grad for weight in encoder.parameters()])
        kept.append(sum(sizes))
    for plain, checked in zip(*gradients, strict=True):
        torch.testing.assert_close(checked, plain)
    assert kept[1] < kept[0]


def test_a_hasher_of_an_earlier_version_keeps_its_identity(tmp_path):
    """It was saved without the arguments that were added, and scaled images without a crop."""
    earlier = {"image_size": 32, "crop": 1.0, "interpolation": "bilinear"}
    encoder = TorchvisionBackbone(768, "mobilenet_v3_small", **earlier)
    hasher = Hasher(PCAH(1024, 4), SBQ(4), encoder).fit(FEATURES)
    hasher.save(tmp_path / "hasher")
    stored = json.loads((tmp_path / "hasher" / "hasher.json").read_text())
    assert set(stored["encoder"]["arguments"]) == {
        *("input_dim", "network", "weights", "frozen", "image_size", "channels", "height", "width")
    }
    loaded = Hasher.load(tmp_path / "hasher")
    assert loaded.encoder.crop == 1.0
    assert loaded.identity == hasher.identity == stored["identity"]
    assert torch.equal(loaded.encode(FEATURES), hasher.encode(FEATURES))
    Hasher(hasher.projection, hasher.quantizer, TorchvisionBackbone(768, "mobilenet_v3_small")).save(tmp_path / "own")
    assert Hasher.load(tmp_path / "own").encoder.crop is None
