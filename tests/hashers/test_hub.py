"""Hashers on a model hub: a loopback server speaks the hub's HTTP paths to the real client."""

import ast
import errno
import json
from pathlib import Path

import pytest
import torch
import yaml

import deephash
from deephash import ITQ, MHQ, PCAH, CrossModalHasher, Hasher, InvalidInputError
from deephash.data.views import Views
from deephash.encoders import Convolutional
from deephash.hashers import hub as hub_module
from deephash.hashers.model_card import Evidence, Figure
from deephash.losses import CSQ
from deephash.projections.paired import CVH
from deephash.quantizers import SBQ
from deephash.validation import StorageError

from .hub_server import TOKEN, Hub

constants = pytest.importorskip("huggingface_hub.constants", reason="huggingface_hub is not installed")
# The client uses its HTTP library in a deprecated way.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub that the client knows, with an empty cache and a token that may write."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def features():
    return torch.randn(200, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def hasher(features):
    return Hasher(ITQ(16, 12), MHQ(12 * 2)).fit(features)


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(1)
    return Views({"image": torch.randn(60, 8, generator=generator), "text": torch.randn(60, 6, generator=generator)})


def read_metadata(card):
    return yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))


def test_a_folder_comes_back_bit_for_bit(tmp_path, hasher, features):
    hasher.save_pretrained(tmp_path / "model", license="mit")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for found in (Hasher.from_pretrained(tmp_path / "model"), deephash.load(tmp_path / "model")):
        assert found.identity == hasher.identity
        assert torch.equal(found.encode(features), hasher.encode(features))
    assert not Hasher.from_pretrained(tmp_path / "model").training
    assert json.loads((tmp_path / "model" / "config.json").read_text(encoding="utf-8"))["bit_order"] == "little"


def test_a_folder_of_save_is_pretrained_too(tmp_path, hasher):
    hasher.save(tmp_path / "hasher")
    assert Hasher.from_pretrained(tmp_path / "hasher").identity == hasher.identity


def test_two_views_come_back(tmp_path, pairs):
    hasher = CrossModalHasher(CVH(pairs.dimensions, 4), {"image": SBQ(4), "text": SBQ(4)}).fit(pairs)
    hasher.save_pretrained(tmp_path / "views")
    assert CrossModalHasher.from_pretrained(tmp_path / "views").identity == hasher.identity
    card = (tmp_path / "views" / "README.md").read_text(encoding="utf-8")
    assert "8 numbers (image) or 6 numbers (text)" in card
    assert 'hasher.view("text").encode(text_features)' in card
    with pytest.raises(InvalidInputError, match=r"contains a CrossModalHasher; call deephash.CrossModalHasher.from"):
        Hasher.from_pretrained(tmp_path / "views")


def test_an_uploaded_hasher_is_downloaded_bit_for_bit(hub, hasher):
    url = hasher.push_to_hub("me/mine", license="mit", private=True)
    assert url == f"{hub.url}/me/mine/commit/{hub.sha('me/mine', 1)}"
    assert hub.private == {"me/mine"}
    assert set(hub.repositories["me/mine"][-1]) == {"config.json", "model.safetensors", "README.md"}
    assert Hasher.from_pretrained("me/mine").identity == hasher.identity


def test_a_revision_is_kept_apart(hub, hasher, features):
    first = hasher.push_to_hub("me/mine").rpartition("/")[2]
    other = Hasher(ITQ(16, 8)).fit(features)
    other.push_to_hub("me/mine")
    assert Hasher.from_pretrained("me/mine").identity == other.identity
    assert Hasher.from_pretrained("me/mine", revision=first).identity == hasher.identity


def test_the_cache_serves_without_the_hub(hub, hasher, tmp_path):
    hasher.push_to_hub("me/mine")
    Hasher.from_pretrained("me/mine", cache_dir=tmp_path / "own")
    hub.requests.clear()
    found = Hasher.from_pretrained("me/mine", cache_dir=tmp_path / "own", local_files_only=True)
    assert (found.identity, hub.requests) == (hasher.identity, [])
    with pytest.raises(InvalidInputError, match="me/mine is not in the cache and the hub was not reached"):
        Hasher.from_pretrained("me/mine", cache_dir=tmp_path / "empty", local_files_only=True)


def test_weights_of_another_library_are_not_downloaded(hub):
    hub.add("you/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 1000})
    with pytest.raises(InvalidInputError, match="repository you/bert does not contain a hasher"):
        Hasher.from_pretrained("you/bert")
    assert not any("model.safetensors" in request for request in hub.requests)


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("me/none", None, "the hub has no repository me/none that you may see; check the name"),
        ("me/mine", "v9", "me/mine has no such revision; give a branch, a tag or a commit"),
        ("me/half", None, r"me/half lacks config.json or model.safetensors"),
        ("me/readme", None, r"me/readme lacks config.json or model.safetensors"),
        ("me/text", None, "repository me/text does not contain a hasher"),
        ("a b", None, "a b is neither a folder nor user/name on the hub"),
        ("nofolder", None, "nofolder is neither a folder nor user/name"),
        ("../me/mine", None, "neither a folder nor user/name"),
    ],
)
def test_a_wrong_repository_gets_one_line(hub, hasher, name, revision, message):
    hasher.push_to_hub("me/mine")
    files = hub.repositories["me/mine"][-1]
    hub.add("me/half", {"config.json": files["config.json"]})
    hub.add("me/readme", {"README.md": files["README.md"]})
    hub.add("me/text", {"config.json": b"no JSON"})
    with pytest.raises(InvalidInputError, match=message) as error:
        Hasher.from_pretrained(name, revision=revision)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["cut", "other weights", "other config", "big order", "class outside"])
def test_a_damaged_repository_gets_one_line(hub, hasher, features, change):
    hasher.push_to_hub("me/mine")
    files = dict(hub.repositories["me/mine"][-1])
    config = json.loads(files["config.json"])
    if change == "cut":
        files["model.safetensors"] = files["model.safetensors"][:-9]
    elif change == "other weights":
        Hasher(ITQ(16, 12), MHQ(24)).fit(features + 1).push_to_hub("me/other")
        files["model.safetensors"] = hub.repositories["me/other"][-1]["model.safetensors"]
    elif change == "other config":
        config["projection"]["arguments"]["iterations"] = 51
    elif change == "big order":
        config["bit_order"] = "big"
    else:
        config["projection"] = {"class": "antigravity.ITQ", "arguments": {}}
    files["config.json"] = json.dumps(config).encode()
    hub.add("me/mine", files)
    message = "packs bits in little order" if change == "big order" else "restore it or fit again"
    with pytest.raises(InvalidInputError, match=message):
        Hasher.from_pretrained("me/mine")


def test_an_upload_that_is_refused_gets_one_line(hub, hasher, monkeypatch):
    with pytest.raises(InvalidInputError, match="repository='mine'; expected user/name"):
        hasher.push_to_hub("mine")
    with pytest.raises(InvalidInputError, match=r'"license" must be one of'):
        hasher.push_to_hub("me/mine", license="no-such-licence")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InvalidInputError, match=r"refuses access to me/mine \(status 401\); run `hf auth login`"):
        hasher.push_to_hub("me/mine", license="mit")
    with pytest.raises(InvalidInputError, match="is not fitted"):
        Hasher(ITQ(16, 12)).push_to_hub("me/mine")


def test_a_hub_that_is_down_gets_one_line(hub, hasher, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # The client waits longer before each new attempt.
    hub.shutdown()
    hub.server_close()
    with pytest.raises(InvalidInputError, match="me/mine"):
        hasher.push_to_hub("me/mine")
    with pytest.raises(InvalidInputError, match="me/mine is not in the cache and the hub was not reached"):
        Hasher.from_pretrained("me/mine")


def test_without_the_client_the_extra_is_named(hasher, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'deephash\[hub\]'"):
        hasher.push_to_hub("me/mine")
    with pytest.raises(InvalidInputError, match=r"pip install 'deephash\[hub\]'"):
        Hasher.from_pretrained("me/mine")
    hasher.save_pretrained(tmp_path / "model")
    assert Hasher.from_pretrained(tmp_path / "model").identity == hasher.identity


def test_the_files_of_another_library_are_kept(tmp_path, hasher):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"config.json does not describe a hasher; choose another folder"):
        hasher.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_an_edited_card_is_kept(tmp_path, hasher):
    hasher.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("mine", encoding="utf-8")
    hasher.save_pretrained(tmp_path / "model", license="mit")
    assert (tmp_path / "model" / "README.md").read_text(encoding="utf-8") == "mine"


def test_a_card_says_what_was_measured(tmp_path, hasher):
    evidence = Evidence(
        settings={"protocol": "five_way"},
        data="cifar10_gist",
        queries=1000,
        figures=[
            Figure(name="mAP", value=0.16451, interval=(0.16, 0.169), worst=0.15, best=0.18),
            Figure(name="AUPRC_micro", value=0.2),
        ],
    )
    hasher.save_pretrained(tmp_path / "model", license="cc-by-4.0", evidence=evidence, repo="me/mine")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "# ITQ and MHQ, 24 bits" in card
    assert "- protocol: five_way" in card
    assert "| mAP | 0.1645 | 0.1600 to 0.1690 | 0.1500 | 0.1800 |" in card
    assert 'Hasher.from_pretrained("me/mine")' in card
    assert "16 numbers to binary codes of 24 bits (3 bytes)" in card
    metadata = read_metadata(card)
    assert (metadata["license"], metadata["library_name"]) == ("cc-by-4.0", "deephash")
    assert metadata["model-index"][0]["results"][0]["metrics"][0] == {"type": "mAP", "value": 0.16451}


def test_a_card_names_the_method_and_the_losses_of_joint_training(tmp_path, hasher):
    evidence = Evidence(settings={}, data="mnist5k", queries=9, is_joint=True, method="csq", losses=(CSQ,))
    hasher.save_pretrained(tmp_path / "model", evidence=evidence, repo="me/mine")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "trained jointly by CSQ, 24 bits" in card
    assert "| loss | CSQ | Central similarity quantisation" in card
    assert "by the loss in its last row." in card
    assert "- Yuan, Wang" in card.partition("## References")[2]
    assert "csq" in read_metadata(card)["tags"]


def test_the_example_of_a_card_runs(tmp_path, hasher, features, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hasher.save_pretrained("model", repo="model")
    card = Path("model/README.md").read_text(encoding="utf-8")
    code = card.split("```python\n")[1].split("```")[0]
    names = {"database": features, "queries": features[:3]}
    exec(code, names)
    assert names["ids"].shape == (3, 10)
    assert (names["ids"][:, 0] == torch.arange(3)).all()


def test_the_metadata_has_the_form_that_the_hub_reads(tmp_path, hasher):
    from huggingface_hub import ModelCard

    evidence = Evidence(settings={}, data="mnist5k", queries=9, figures=[Figure(name="mAP", value=0.5)])
    hasher.save_pretrained(tmp_path / "model", license="mit", evidence=evidence, repo="me/mine")
    data = ModelCard.load(tmp_path / "model" / "README.md").data
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [("mAP", 0.5)]


def test_a_forced_download_names_the_cause(hub, hasher, monkeypatch):
    hasher.push_to_hub("me/mine")
    for status, message in ((500, "500 Internal Server Error"), (403, r"refuses access to me/mine \(status 403\)")):
        monkeypatch.setattr(hub, "broken", status)
        with pytest.raises(InvalidInputError, match=message) as error:
            Hasher.from_pretrained("me/mine", force_download=True)
        assert "above error" not in str(error.value)


def test_a_name_that_no_folder_can_have_gets_one_line(tmp_path, hasher):
    with pytest.raises(InvalidInputError, match="neither a folder nor user/name"):
        Hasher.from_pretrained("a" * 5000)
    with pytest.raises(StorageError, match="cannot be written"):
        hasher.save_pretrained(tmp_path / ("a" * 5000))


@pytest.mark.parametrize("content", ["[" * 100_000 + "]" * 100_000, "9" * 5000, None])
def test_a_config_that_cannot_be_read_is_kept(tmp_path, hasher, content):
    config = tmp_path / "config.json"
    config.mkdir() if content is None else config.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"config.json does not describe a hasher; choose another folder"):
        hasher.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("licence", ["", "mit\nprivate: true", "a: b", "`", "---", "CC BY 4.0"])
def test_a_licence_that_is_no_identifier_is_an_error(tmp_path, hasher, licence):
    with pytest.raises(InvalidInputError, match="expected an identifier, such as mit"):
        hasher.save_pretrained(tmp_path / "model", license=licence)
    assert not (tmp_path / "model").exists()


def test_hostile_text_stays_in_its_place_of_the_card(tmp_path, hasher):
    evil = "x | y\n---\n# <b>`title`</b> [link](http://a)"
    figures = [Figure(name="a|b", value=0.5), Figure(name="unknown", value=float("nan"))]
    evidence = Evidence(settings={"data": evil}, data=evil, queries=9, figures=figures, notes=[evil])
    hasher.save_pretrained(tmp_path / "model", license="mit", evidence=evidence, repo='a"\n---\n😀')
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    metadata = read_metadata(card)["model-index"][0]
    assert metadata["results"][0]["dataset"]["name"] == evil
    assert metadata["results"][0]["metrics"] == [{"type": "a|b", "value": 0.5}]
    assert [line for line in card.splitlines() if line.startswith("# ")] == ["# ITQ and MHQ, 24 bits"]
    assert r"- data: x \| y --- # \<b>\`title\`\</b> \[link\](http://a)" in card
    assert r"| a\|b | 0.5000 |" in card
    assert "interval" not in card
    code = card.split("```python\n")[1].split("```")[0]
    assert ast.literal_eval(code.split("from_pretrained(")[1].split(")\n")[0]) == 'a"\n---\n😀'


def test_the_example_names_the_folder(tmp_path, hasher, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path / "model")
    hasher.save_pretrained(".")
    assert 'from_pretrained("model")' in Path("README.md").read_text(encoding="utf-8")


def test_the_example_of_any_two_views_is_python(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    parts = {"a b": torch.randn(60, 8, generator=generator), '"': torch.randn(60, 6, generator=generator)}
    views = Views(parts)
    hasher = CrossModalHasher(CVH(views.dimensions, 4), {view: SBQ(4) for view in parts}).fit(views)
    monkeypatch.chdir(tmp_path)
    hasher.save_pretrained("model")
    code = Path("model/README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names = {"queries": parts["a b"], "database": parts['"']}
    exec(code, names)
    assert names["ids"].shape == (60, 10)


def test_only_two_files_are_ever_asked_for(hub, hasher):
    hasher.push_to_hub("me/mine")
    hub.add("me/mine", {"evil.py": b"raise SystemExit", "pytorch_model.bin": b"x"})
    hub.requests.clear()
    Hasher.from_pretrained("me/mine")
    names = {request.rpartition("/")[2] for request in hub.requests}
    assert names == set(hub_module.FILES)


@pytest.mark.parametrize("name", [None, 3, b"me/mine"])
def test_a_name_that_is_no_text_gets_one_line(name):
    with pytest.raises(InvalidInputError, match="is neither a folder nor user/name on the hub"):
        Hasher.from_pretrained(name)


@pytest.mark.parametrize("place", ["file", "file/below", "file/deep/below"])
def test_a_file_in_place_of_a_folder_is_named(tmp_path, hasher, place):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for save in (hasher.save_pretrained, hasher.save):
        with pytest.raises(StorageError, match=f"{tmp_path}/file is a file, not a folder; choose another folder"):
            save(tmp_path / place)
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


def test_a_full_disk_names_the_cache(hub, hasher, monkeypatch):
    hasher.push_to_hub("me/mine")

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/model.incomplete")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", refuse)
    message = (
        r"/cache/model.incomplete cannot be written \(No space left on device\); free space, or name another folder"
    )
    with pytest.raises(InvalidInputError, match=message):
        Hasher.from_pretrained("me/mine")


def test_a_cache_that_cannot_be_a_folder_is_named(hub, hasher, tmp_path):
    hasher.push_to_hub("me/mine")
    (tmp_path / "file").touch()
    with pytest.raises(
        InvalidInputError, match=f"{tmp_path}/file.* cannot be written .*name another folder by cache_dir"
    ):
        Hasher.from_pretrained("me/mine", cache_dir=tmp_path / "file")


def test_a_download_that_is_cut_is_continued(hub, hasher):
    hasher.push_to_hub("me/mine")
    hub.cuts = 2
    assert Hasher.from_pretrained("me/mine").identity == hasher.identity
    assert hub.cuts == 0


def test_without_xet_all_bytes_go_through_the_hub(hub, hasher):
    """With HF_HUB_DISABLE_XET=1, as the fixture sets it, files that are stored by xet come by HTTP too."""
    hub.xet = True
    hasher.push_to_hub("me/mine")
    assert Hasher.from_pretrained("me/mine").identity == hasher.identity
    assert not any("xet" in request for request in hub.requests)


def test_an_encoder_of_images_is_published(tmp_path, hub):
    pixels = torch.rand(60, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
    encoder = Convolutional(3 * 32 * 32, (8, 8, 8), channels=3)
    hasher = Hasher(PCAH(encoder.output_dim, 4), encoder=encoder).fit(pixels)
    hasher.push_to_hub("me/images", license="mit")
    found = Hasher.from_pretrained("me/images")
    assert found.identity == hasher.identity
    assert torch.equal(found.encode(pixels), hasher.encode(pixels))
    card = hub.repositories["me/images"][-1]["README.md"].decode()
    assert "3072 numbers" in card or "3,072 numbers" in card
    assert "Convolutional" in card
