import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from deephash.data.cache import read_or_describe
from deephash.data.descriptors.torchvision_features import TorchvisionFeatures
from deephash.validation import InvalidInputError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of a network with another classifier than torchvision's, and their network."""
    torch.manual_seed(1)
    network = torchvision.models.mobilenet_v3_small(num_classes=7).eval()
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(network.state_dict(), path)
    return str(path), network


def test_features_are_what_the_classifier_gets(weights):
    path, network = weights
    features = TorchvisionFeatures("mobilenet_v3_small", path, image_size=32, batch_size=2).describe(IMAGES)
    seen = []
    network.classifier[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.no_grad():
        network(normalise(torch.from_numpy(IMAGES).movedim(3, 1).float() / 255))
    assert features.shape == (5, 1024)
    torch.testing.assert_close(features, seen[0], atol=1e-5, rtol=1e-4)


def test_grey_images_are_three_equal_channels(weights):
    descriptor = TorchvisionFeatures("mobilenet_v3_small", weights[0], image_size=32)
    grey = IMAGES[..., 0]
    torch.testing.assert_close(descriptor.describe(grey), descriptor.describe(np.stack([grey] * 3, -1)))


def test_other_weights_are_other_features_in_the_cache(weights, tmp_path):
    first = read_or_describe(IMAGES, TorchvisionFeatures("mobilenet_v3_small", weights[0], 32), tmp_path)
    torch.manual_seed(2)
    other = tmp_path / "weights.safetensors"
    save_file(torchvision.models.mobilenet_v3_small().state_dict(), other)
    second = read_or_describe(IMAGES, TorchvisionFeatures("mobilenet_v3_small", str(other), 32), tmp_path)
    assert not torch.equal(first, second)
    assert len(list(tmp_path.glob("torchvisionfeatures-*"))) == 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"network": "resnet19"}, "network='resnet19'; expected one of"),
        ({"weights": None}, "weights=None; give torchvision's name, such as IMAGENET1K_V1, or a file"),
        ({"image_size": 0}, "image_size=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_settings_are_checked(parameters, message):
    with pytest.raises(InvalidInputError, match=message):
        TorchvisionFeatures(**({"network": "resnet18", "weights": "IMAGENET1K_V1"} | parameters))


def test_weights_of_another_network_are_refused(weights, tmp_path):
    with pytest.raises(InvalidInputError, match=r"are not those of resnet18 \(.*Missing key"):
        TorchvisionFeatures("resnet18", weights[0]).describe(IMAGES)
    with pytest.raises(InvalidInputError, match=r"absent.pth' does not exist"):
        TorchvisionFeatures("resnet18", str(tmp_path / "absent.pth")).describe(IMAGES)
