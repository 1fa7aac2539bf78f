"""Every YAML composes, and the classes that it names can be built."""

import inspect
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_object
from omegaconf import OmegaConf

from deephash.registry import find, resolve

CONF = Path(__file__).resolve().parent.parent / "conf"
CHOICES = sorted(path.relative_to(CONF) for path in CONF.glob("*/*.yaml"))
# Settings that the runner gives, beside those of the YAML.
GIVEN = {
    "method": {"output_dim"},
    "initial": {"input_dim", "output_dim"},
    "quantizer": {"bits"},
    "relaxation": set(),
    "loss": set(),
    "encoder": {"input_dim"},
    "augmentation": {"input_dim"},
    "data": {"protocol", "seed", "split"},
    "protocol": set(),
    "truth": set(),
    "supervision": set(),
    "ranking": set(),
    "user_metric": set(),
    "train": set(),
    "stream": set(),
    "reencoding": set(),
    "trainer": {"logger", "default_root_dir", "enable_progress_bar"},
    "logger": {"save_dir", "settings"},
}
# Of these a class is given what it takes.
GIVEN_WHERE_TAKEN = {
    "loss": {"code_length", "projections", "input_dim", "classes", "items", "generator", "of"},
    # Of one view, or of two.
    "method": {"input_dim", "input_dims"},
}


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_choice_composes_and_its_target_takes_its_settings(choice, compose_config):
    group, name = choice.parts[0], choice.stem
    if group == "hydra":
        pytest.skip("composed with every other")
    if group == "index":  # No part of a run: deephash.index takes it from its kind.
        node = OmegaConf.load(CONF / choice)
        assert resolve(node._target_) is find("indexes", name)
        inspect.signature(get_object(node._target_)).bind(
            codes=None, bits=None, **dict.fromkeys(set(node) - {"_target_"})
        )
        return
    # A start of GRH is a choice of that method's alone, a stream one of learning from it.
    needs = {"initial": ["method=grh"], "stream": ["train=stream"], "reencoding": ["train=stream"]}
    config = compose_config(*needs.get(group, []), f"{group}={name}")
    if group == "experiment":
        return  # It may choose its own bits.
    assert config.bits == 64
    places = {
        "method": "projection",
        "initial": "projection.initial",
        "loss": f"loss.{name}",
        "user_metric": f"user_metric.{name}",
    }
    node = OmegaConf.select(config, places.get(group, group))
    if name == "null":
        return
    if group == "tune":
        assert set(node) <= {"parameters", "metric", "samples"}
        assert all(len(values) > 1 for values in node.parameters.values())
        return
    target = get_object(node._target_)
    settings = {key for key in node if key not in ("_target_", "_partial_", "_recursive_", "_convert_")}
    if group == "loss":
        settings.remove("weight")
    taken = GIVEN_WHERE_TAKEN.get(group, set()) & set(inspect.signature(target).parameters)
    inspect.signature(target).bind(**dict.fromkeys(settings | GIVEN[group] | taken))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_choice_says_what_it_is(choice):
    if choice.parts[0] in ("logger", "trainer", "hydra", "train", "ranking"):
        pytest.skip("named by its group")
    lines = [line for line in (CONF / choice).read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("#"), f"{choice} begins with no comment"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("data/*.yaml")))
def test_evaluation_takes_every_data_set(name, compose_config):
    overridden = re.search(r"override /protocol: (\w+)", (CONF / "data" / f"{name}.yaml").read_text())
    config = compose_config(f"data={name}", config_name="evaluate")
    assert config.data._target_
    # Without an override in the data file, evaluation keeps the protocol of the run.
    assert config.protocol == (compose_config(f"protocol={overridden[1]}").protocol if overridden else None)
    config = compose_config(f"data={name}", "protocol=grh", config_name="evaluate")
    assert config.protocol == compose_config("protocol=grh").protocol


def test_an_experiment_decides_over_the_defaults_and_the_command_line_over_it(compose_config):
    assert compose_config("experiment=cifar10_pixels", "data.path=x").bits == 32
    assert compose_config("experiment=cifar10_pixels", "data.path=x", "bits=16").bits == 16


def sweep_points(experiment):
    """Points of an experiment's sweep, as overrides, in which every value of every axis occurs at least once.

    The whole product is too large to compose: 864 points for the grand table.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=[f"experiment={experiment}"], return_hydra_config=True)
    params = config.hydra.sweeper.params or {}
    axes = OverridesParser.create().parse_overrides([f"{key}={values}" for key, values in params.items()])
    values = [list(axis.sweep_string_iterator()) if axis.is_sweep_override() else [axis.value()] for axis in axes]
    for row in range(max(map(len, values), default=1)):
        yield [f"{axis.key_or_group}={of_axis[row % len(of_axis)]}" for axis, of_axis in zip(axes, values, strict=True)]


def targets(node):
    """Every `_target_` in a config, at any depth."""
    if isinstance(node, dict):
        yield from [node["_target_"]] if "_target_" in node else []
        node = list(node.values())
    for child in node if isinstance(node, list) else []:
        yield from targets(child)


@pytest.mark.parametrize("experiment", sorted(path.stem for path in CONF.glob("experiment/*.yaml")))
def test_experiment_composes_at_every_value_of_its_sweep(experiment, compose_config):
    for point in sweep_points(experiment):
        config = compose_config(f"experiment={experiment}", *point)
        names = set(targets(OmegaConf.to_container(config)))
        assert names >= {config.projection._target_, config.quantizer._target_, config.data._target_}
        for name in names:
            assert callable(get_object(name))
        for override in point:
            key, _, word = override.partition("=")
            if (CONF / key).is_dir() and key != "initial":
                assert config.choices[key] == word


def test_every_group_is_there(compose_config):
    config = compose_config()
    for name in ("projection", "quantizer", "data", "protocol", "truth", "train", "trainer", "ranking", "metrics"):
        assert name in config


def test_method_chooses_its_quantizer_and_the_command_line_wins(compose_config):
    assert compose_config("method=pcah").choices.quantizer == "sbq"
    assert compose_config("method=pcah", "quantizer=sbq").choices.method == "pcah"
    assert compose_config("relaxation=tanh").quantizer.relaxation._target_.endswith("Tanh")
