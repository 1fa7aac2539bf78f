"""Every method has its YAML, every YAML its class, and the pieces compose on the command line."""

import inspect

import hydra
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from deephash.augmentations.base import Augmentation
from deephash.encoders.base import Encoder
from deephash.indexes.base import Index
from deephash.losses.base import Loss
from deephash.metrics.user_metric import UserMetric
from deephash.projections.base import Projection
from deephash.projections.paired.base import PairedProjection
from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation

CONTRACT_OF_GROUP = {
    "method": (Projection, PairedProjection),
    "quantizer": Quantizer,
    "relaxation": Relaxation,
    "loss": Loss,
    "encoder": Encoder,
    "index": Index,
    "augmentation": Augmentation,
    "user_metric": UserMetric,
}
# What a recipe sets otherwise than its block by itself: CVH's ridge, for random hidden units that say nearly the same;
# the two strengths of one augmentation, and the shift of large images.
CHOSEN = {name: {"regularisation"} for name in ("dcmh", "djsrh", "dchmt", "ucch")}
CHOSEN["weak_and_strong"] = CHOSEN["weak_and_strong_images"] = {"weak", "strong"}
CHOSEN["crop_and_flip_large"] = {"shift"}


def test_every_projection_has_its_config(projection_class, configs_of):
    assert_named_alike(projection_class, configs_of)


def test_every_paired_projection_has_its_config(paired_class, configs_of):
    assert_named_alike(paired_class, configs_of)


def test_every_quantizer_has_its_config(quantizer_class, configs_of):
    assert_named_alike(quantizer_class, configs_of)


def test_every_relaxation_has_its_config(relaxation_class, configs_of):
    assert_named_alike(relaxation_class, configs_of)


def test_every_loss_has_its_config(loss_class, configs_of):
    assert_named_alike(loss_class, configs_of)


def test_every_encoder_has_its_config(encoder_class, configs_of):
    assert_named_alike(encoder_class, configs_of)


def test_every_index_has_its_config(index_class, configs_of):
    assert_named_alike(index_class, configs_of)


def test_every_augmentation_has_its_config(augmentation_class, configs_of):
    assert_named_alike(augmentation_class, configs_of)


def test_every_user_metric_has_its_config(user_metric_class, configs_of):
    assert_named_alike(user_metric_class, configs_of)


def assert_named_alike(found_class, configs_of):
    """One word in four places: file, YAML, word on the command line, class. Other packages need no YAML."""
    if not found_class.__module__.startswith("deephash."):
        return
    stem = found_class.__module__.rpartition(".")[2]
    assert stem.replace("_", "") == found_class.__name__.lower()
    assert stem in configs_of(found_class), f"conf/ has no {stem}.yaml for {found_class.__name__}"


def class_part(config, group):
    """What a YAML hands to its class: a method's is its projection; a loss's weight is the sum's, not its own."""
    if group == "loss":
        assert config["weight"] == 1.0
        return {name: value for name, value in config.items() if name != "weight"}
    return config["projection"] if group == "method" else config


def test_every_config_resolves(config_file, read_config):
    text = config_file.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#") and "@package" not in line]
    assert comments, "a YAML begins by saying what it is, and its paper"
    if config_file.stem == "metric_learning":
        pytest.importorskip("pytorch_metric_learning", reason="needs pip install 'deephash[metric-learning]'")
    config = OmegaConf.to_container(read_config(config_file), resolve=False)
    part = class_part(config, config_file.parent.name)
    target = hydra.utils.get_class(part["_target_"])
    assert issubclass(target, CONTRACT_OF_GROUP[config_file.parent.name])
    parameters = inspect.signature(target).parameters
    assert set(part) - {"_target_"} <= set(parameters), "a setting that the class does not take"


def check_defaults(part):
    """A nested part stands where the class's own default is None, or where it has none; its settings are its own."""
    parameters = inspect.signature(hydra.utils.get_class(part["_target_"])).parameters
    for name, value in part.items():
        if isinstance(value, dict):
            assert parameters[name].default in (None, inspect.Parameter.empty), name
            check_defaults(value)
        elif name != "_target_" and not str(value).startswith("${"):
            default = parameters[name].default
            # What has no default is for the YAML to choose, as a network; YAML has lists where Python has tuples.
            expected = list(default) if isinstance(default, tuple) else default
            assert default is inspect.Parameter.empty or expected == value, name


def test_every_default_in_a_config_is_the_class_s_own(config_file, read_config):
    if config_file.stem == "metric_learning":
        pytest.importorskip("pytorch_metric_learning", reason="needs pip install 'deephash[metric-learning]'")
    config = OmegaConf.to_container(read_config(config_file), resolve=False)
    part = class_part(config, config_file.parent.name)
    check_defaults({name: value for name, value in part.items() if name not in CHOSEN.get(config_file.stem, ())})


def test_every_method_composes_and_builds(projection_class, configs_of, compose_config):
    for method in configs_of(projection_class):
        config = compose_config(f"method={method}")
        quantizer = instantiate(config.quantizer, bits=12)
        projection = instantiate(config.projection, input_dim=16, output_dim=quantizer.projection_dim)
        assert type(projection) is projection_class
        assert projection.output_dim == quantizer.projection_dim


def test_every_paired_method_composes_and_builds(paired_class, configs_of, compose_config):
    for method in configs_of(paired_class):
        config = compose_config(f"method={method}")
        quantizer = instantiate(config.quantizer, bits=8)
        sizes = {"input_dims": {"image": 16, "text": 9}, "output_dim": quantizer.projection_dim}
        projection = instantiate(config.projection, **sizes)
        assert type(projection) is paired_class
        assert list(projection.views) == ["image", "text"]


@pytest.mark.parametrize("relaxation", ["straight_through", "tanh"])
def test_relaxation_is_chosen_on_the_command_line(relaxation, compose_config):
    quantizer = instantiate(compose_config("method=itq", f"relaxation={relaxation}").quantizer, bits=8)
    assert type(quantizer.relaxation).__name__.lower() == relaxation.replace("_", "")


def test_settings_are_reached_on_the_command_line(compose_config):
    config = compose_config("method=itq", "projection.iterations=7", "relaxation=tanh", "relaxation.final_scale=4")
    assert instantiate(config.projection, input_dim=8, output_dim=4).iterations == 7
    assert instantiate(config.quantizer, bits=4).relaxation.final_scale == 4
