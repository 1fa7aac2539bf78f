"""Replies of the page's server: equal to a search by NumPy, within limits, and to its own page alone."""

import io
import json
import struct
import tempfile
import zlib
from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from deephash.report.curve_file import read_curves
from deephash.validation import InvalidInputError
from deephash.web.demo.decoding import MAX_PIXELS
from deephash.web.demo.served_run import load_runs

pytest.importorskip("fastapi", reason="needs pip install 'deephash[demo]'")

from fastapi.testclient import TestClient

from deephash.web.demo.demo_application import MAX_IMAGE_BYTES, MAX_TEXT_BYTES, build_application
from deephash.web.page_application import JSONAnswer

ADDRESS = "http://127.0.0.1:8000"


def client_of(*folders):
    return TestClient(build_application(load_runs(folders)), base_url=ADDRESS)


@pytest.fixture(scope="module")
def client(itq_run, lsh_run):
    """Two runs on the same pictures."""
    return client_of(itq_run, lsh_run)


@pytest.fixture(scope="module")
def articles(wiki_run):
    """A run of two views, on features that come without their images and texts."""
    return client_of(wiki_run)


@pytest.fixture(scope="module")
def sentences(sentences_run):
    """A run of two views whose data describe images and texts."""
    return client_of(sentences_run)


def rows_and_distances(answer):
    return [one["row"] for one in answer["found"]], [one["distance"] for one in answer["found"]]


def png_claiming(width, height):
    """A PNG of some bytes whose head claims a size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_runs_are_listed(client, itq_run):
    listed = client.get("/api/runs").json()
    first, second = listed["runs"]
    assert (first["title"], first["folder"]) == ("itq · sbq, 32 bits, cifar10_gist", "itq")
    assert (second["title"], second["folder"]) == ("lsh · sbq, 32 bits, cifar10_gist", "lsh")
    assert first["collection"] == second["collection"]
    assert (first["queries"], first["database"]) == ({"": 100}, {"": 1500})
    assert first["refuses"]["image"] is None
    assert "not made from texts" in first["refuses"]["text"]
    stored = json.loads((itq_run / "metrics.json").read_text())["metrics"]
    shown = {metric["name"]: metric["value"] for metric in first["metrics"]}
    assert shown["mAP"] == stored["mAP"]
    assert listed["bounds"]["image_bytes"] == MAX_IMAGE_BYTES


@pytest.mark.parametrize("place", [0, 57])
def test_item_finds_what_a_scan_finds(client, itq, place):
    row = int(itq.queries[place])
    answer = client.get("/api/runs/0/neighbours", params={"row": row, "k": 25}).json()
    (bits,) = itq.bits(itq.queries[[place]])
    rows, distances = itq.nearest(bits, 25)
    assert rows_and_distances(answer) == (rows, distances)
    labels = itq.data.items.labels
    assert [one["relevant"] for one in answer["found"]] == [bool(labels[item] == labels[row]) for item in rows]
    assert answer["relevant"] == int((labels[itq.database] == labels[row]).sum())
    assert [one["classes"] for one in answer["found"]] == [itq.data.items.class_names[labels[item]] for item in rows]
    assert answer["bits"] == "".join(map(str, bits))
    assert [one["bits"] for one in answer["found"]] == ["".join(map(str, each)) for each in itq.bits(np.array(rows))]


def test_margins_have_the_signs_of_the_bits(client, itq):
    answer = client.get("/api/runs/0/neighbours", params={"row": int(itq.queries[3])}).json()
    assert [margin >= 0 for margin in answer["margins"]] == [bit == "1" for bit in answer["bits"]]
    assert len({abs(margin) for margin in answer["margins"]}) == 32


def test_ties_are_told_whole(client, itq):
    row = int(itq.queries[8])
    answer = client.get("/api/runs/0/neighbours", params={"row": row, "k": 10}).json()
    distances = (itq.bits(itq.database) != itq.bits(itq.queries[[8]])).sum(1)
    labels = itq.data.items.labels.numpy()
    relevant = labels[itq.database] == labels[row]
    assert [tie["distance"] for tie in answer["ties"]] == sorted(set(rows_and_distances(answer)[1]))
    for tie in answer["ties"]:
        at = distances == tie["distance"]
        assert (tie["items"], tie["relevant"]) == (int(at.sum()), int((at & relevant).sum()))
    assert sum(tie["shown"] for tie in answer["ties"]) == 10
    assert any(tie["items"] > 1 for tie in answer["ties"])


def test_second_run_has_its_own_answer(client, itq, lsh):
    row = int(itq.queries[5])
    answers = [client.get(f"/api/runs/{run}/neighbours", params={"row": row, "k": 15}).json() for run in (0, 1)]
    for answer, run in zip(answers, (itq, lsh), strict=True):
        assert rows_and_distances(answer) == run.nearest(run.bits(run.queries[[5]])[0], 15)
    assert answers[0]["found"] != answers[1]["found"]


def test_item_of_the_database_finds_itself_and_says_so(client, itq):
    row = int(itq.database[7])
    found = client.get("/api/runs/0/neighbours", params={"row": row, "k": 50}).json()["found"]
    assert [one["row"] for one in found if one["is_query"]] == [row]


def test_image_is_encoded_as_encode_does(client, itq, itq_run, picture_file, tmp_path):
    from deephash.code_files.encode_file import encode_file
    from deephash.code_files.image_rows import ImageRows
    from deephash.code_files.run_descriptors import image_descriptor

    row = int(itq.queries[11])
    photo = io.BytesIO()  # of another size and shape than the data's own
    Image.open(io.BytesIO(picture_file(row))).resize((90, 64)).save(photo, "JPEG")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo.jpg").write_bytes(photo.getvalue())
    encode_file(itq.hasher, ImageRows(tmp_path / "folder", image_descriptor(itq_run), 32), tmp_path / "codes.npy")
    bits = np.unpackbits(np.load(tmp_path / "codes.npy"), axis=1, bitorder="little")[0, :32]
    answer = client.post("/api/runs/0/neighbours/image", params={"k": 12}, content=photo.getvalue()).json()
    assert answer["bits"] == "".join(map(str, bits))
    assert rows_and_distances(answer) == itq.nearest(bits, 12)
    assert answer["query"] is None
    assert {one["relevant"] for one in answer["found"]} == {None}
    assert answer["relevant"] is None


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_image_of_an_item_finds_what_the_item_finds(client, itq, picture_file, kind):
    row = int(itq.queries[20])
    by_row = client.get("/api/runs/0/neighbours", params={"row": row, "k": 10}).json()
    by_image = client.post("/api/runs/0/neighbours/image", params={"k": 10}, content=picture_file(row, kind)).json()
    assert by_image["bits"] == by_row["bits"]
    assert rows_and_distances(by_image) == rows_and_distances(by_row)


def test_pictures_are_the_items(client, itq, picture_file):
    row = int(itq.queries[0])
    answer = client.get(f"/api/runs/0/items/{row}.png")
    assert answer.headers["content-type"] == "image/png"
    assert np.array_equal(Image.open(io.BytesIO(answer.content)), Image.open(io.BytesIO(picture_file(row))))
    assert client.get("/api/runs/0/items/999999.png").status_code == 404


def test_any_name_and_number_is_json(client, itq, itq_run):
    names = [
        "<script>alert(1)</script>",
        'a"b&amp;',
        "\udcff\udcfe",
        "日本 ü",
        "\0",
        "[red]",
        "{x}",
        "\u2028",
        "",
        "x" * 9000,
    ]
    (run,) = load_runs([itq_run])
    named = replace(run, data=copy(run.data))
    named.data._items = replace(run.items, class_names=tuple(names))
    odd = TestClient(build_application([named]), base_url=ADDRESS)
    for row in itq.queries[:20].tolist():
        found = odd.get("/api/runs/0/neighbours", params={"row": row}).json()
        assert found["query"]["classes"] == names[int(run.items.labels[row])]
    infinite = JSONAnswer({"margins": [float("nan"), float("inf"), 2**64 - 1, -1.5]}).body
    assert infinite == b'{"margins":[null,null,18446744073709551615,-1.5]}'


def test_queries_are_drawn_from_the_runs_own(client, itq):
    drawn = [client.get("/api/runs/0/queries", params={"count": 10, "seed": seed}).json() for seed in (0, 0, 1)]
    rows = [[item["row"] for item in items] for items in drawn]
    assert rows[0] == rows[1] != rows[2]
    assert set(rows[0] + rows[2]) <= set(itq.queries.tolist())


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "not a readable image"),
        (b"just words", "not a readable image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image"),
        (png_claiming(7000, 7000), f"more than {MAX_PIXELS // 10**6} megapixels"),
        (png_claiming(60_000, 60_000), f"more than {MAX_PIXELS // 10**6} megapixels"),
        (png_claiming(300, 300), "damaged"),
    ],
)
def test_no_image_gets_one_sentence(client, contents, message):
    answer = client.post("/api/runs/0/neighbours/image", content=contents)
    assert answer.status_code == 400
    assert message in answer.json()["detail"]
    assert "Error" not in answer.text


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO"])
def test_other_formats_are_refused(client, picture_file, kind):
    answer = client.post("/api/runs/0/neighbours/image", content=picture_file(0, kind))
    assert answer.status_code == 400
    assert "choose a JPEG, PNG, WebP, GIF or BMP file" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_broken_off_image_gets_one_sentence(client, picture_file, kind):
    contents = picture_file(1, kind)
    answer = client.post("/api/runs/0/neighbours/image", content=contents[: len(contents) // 2])
    assert answer.status_code == 400
    assert "choose" in answer.json()["detail"]


def test_upload_that_claims_too_much_is_not_read(client):
    def nothing():
        pytest.fail("the body was read")
        yield b""

    headers = {"content-length": str(MAX_IMAGE_BYTES + 1)}
    request = client.build_request("POST", "/api/runs/0/neighbours/image", content=b"", headers=headers)
    assert client.send(request).status_code == 413


@pytest.mark.parametrize(("kind", "most"), [("image", MAX_IMAGE_BYTES), ("text", MAX_TEXT_BYTES)])
def test_upload_without_a_length_is_read_as_far_as_its_bound(itq_run, kind, most):
    import asyncio

    application = build_application(load_runs([itq_run]))
    part, taken, sent = 16_384, 0, []

    async def receive():
        nonlocal taken
        taken += part
        return {"type": "http.request", "body": bytes(part), "more_body": taken < 10 * most}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": f"/api/runs/0/neighbours/{kind}",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")],
    }
    asyncio.run(application(scope, receive, send))
    assert sent[0]["status"] == 413
    assert "choose a smaller one" in b"".join(message.get("body", b"") for message in sent).decode()
    assert taken <= most + 2 * part


def test_nothing_is_written(client, itq_run, picture_file, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in itq_run.rglob("*")}
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8)).save(large, "PNG")
    assert len(large.getvalue()) > 4 * 1024 * 1024  # beyond what frameworks keep in memory before they spool
    for contents in (picture_file(0), large.getvalue()):
        assert client.post("/api/runs/0/neighbours/image", content=contents).status_code == 200
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in itq_run.rglob("*")} == before


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", ""])
def test_other_host_names_are_refused(client, host):
    for path in ("/", "/api/runs", "/page/page.js"):
        assert client.get(path, headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:9", "[::1]:8000"])
def test_loopback_names_are_taken(client, host):
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


def test_other_sites_are_refused(client, picture_file):
    path, contents = "/api/runs/0/neighbours/image", picture_file(0)
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8001", "http://[", "http://[::1"):
        assert client.post(path, content=contents, headers={"origin": origin}).status_code == 403
    assert client.post(path, content=contents, headers={"origin": ADDRESS}).status_code == 200


def test_page_may_load_nothing_from_elsewhere(client):
    for path in ("/", "/page/page.css", "/page/page.js", "/api/runs", "/api/runs/9/queries"):
        headers = client.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
    assert client.get("/page/../application.py").status_code == 404
    assert client.get("/page/%2e%2e/application.py").status_code == 404
    assert client.get("/docs").status_code == client.get("/openapi.json").status_code == 404


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/runs/2/neighbours?row=0", 404, "There is no run 2"),
        ("/api/runs/0/neighbours?row=1600", 400, "row=1600; the data have the items 0 to 1599"),
        ("/api/runs/0/neighbours?row=-1", 400, "row=-1"),
        ("/api/runs/0/neighbours?row=x", 400, "row: "),
        ("/api/runs/0/neighbours", 400, "row: "),
        ("/api/runs/0/neighbours?row=0&k=0", 400, "k: "),
        ("/api/runs/0/neighbours?row=0&k=201", 400, "k: "),
        ("/api/runs/0/neighbours?row=0&asking=text", 400, "view='text'"),
        ("/api/runs/0/neighbours?row=0&searched=text", 400, "searched='text'"),
        ("/api/runs/0/queries?view=text", 400, "view='text'"),
        ("/api/runs/0/queries?count=101", 400, "count: "),
    ],
)
def test_wrong_requests_get_one_sentence(client, path, status, message):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(message)


@pytest.mark.parametrize(("asking", "searched"), [("image", "text"), ("text", "image"), ("text", "text")])
def test_two_views_ask_each_other(articles, worked_out, wiki_run, asking, searched):
    run = worked_out(wiki_run)
    row = int(run.queries[40])
    answer = articles.get(
        "/api/runs/0/neighbours", params={"row": row, "asking": asking, "searched": searched, "k": 20}
    ).json()
    (bits,) = run.bits(run.queries[[40]], asking)
    assert rows_and_distances(answer) == run.nearest(bits, 20, searched)
    labels = run.data.items.labels
    assert [one["relevant"] for one in answer["found"]] == [
        bool(labels[one["row"]] == labels[row]) for one in answer["found"]
    ]
    assert answer["query"]["picture"] is None


def test_features_made_elsewhere_are_said_to_be(articles):
    (run,) = articles.get("/api/runs").json()["runs"]
    assert run["directions"][:2] == [
        {"asking": "image", "searched": "text"},
        {"asking": "text", "searched": "image"},
    ]
    for kind in ("image", "text"):
        assert "Pick one of its own queries" in run["refuses"][kind]
    refused = articles.post("/api/runs/0/neighbours/text", params={"searched": "image"}, content="a war")
    assert refused.status_code == 400
    assert "do not compute from texts" in refused.json()["detail"]


def test_typed_text_finds_images(sentences, worked_out, sentences_run):
    from deephash.data.text_descriptors.hashed_words import HashedWords

    run = worked_out(sentences_run)
    text = "a photograph of a horse"
    features = HashedWords(32).describe([text])
    codes = run.hasher.view("text").encode(features)
    bits = np.unpackbits(codes.numpy(), axis=1, bitorder="little")[0, :16]
    answer = sentences.post("/api/runs/0/neighbours/text", params={"searched": "image", "k": 9}, content=text).json()
    assert answer["asking"] == "text"
    assert answer["bits"] == "".join(map(str, bits))
    assert rows_and_distances(answer) == run.nearest(bits, 9, "image")
    assert all(one["words"].startswith("A small photograph of one ") for one in answer["found"])


def test_image_finds_texts(sentences, worked_out, sentences_run, picture_file):
    run = worked_out(sentences_run)
    by_item = sentences.get(
        "/api/runs/0/neighbours", params={"row": 3, "asking": "image", "searched": "text", "k": 9}
    ).json()
    by_file = sentences.post(
        "/api/runs/0/neighbours/image", params={"searched": "text", "k": 9}, content=picture_file(3)
    ).json()
    assert by_file["bits"] == by_item["bits"]
    assert rows_and_distances(by_file) == rows_and_distances(by_item)
    assert rows_and_distances(by_item) == run.nearest(run.bits(np.array([3]), "image")[0], 9, "text")


@pytest.mark.parametrize("text", ["", "  \n", "word " * 3000])
def test_text_is_some_words(sentences, text):
    answer = sentences.post("/api/runs/0/neighbours/text", params={"searched": "image"}, content=text)
    assert answer.status_code == 400
    assert "type at most 10000 characters" in answer.json()["detail"]


def test_other_distances_are_scanned(digits_run, worked_out):
    run, client = worked_out(digits_run), client_of(digits_run)
    (described,) = client.get("/api/runs").json()["runs"]
    assert (described["distance"], described["farthest"]) == ("Manhattan", 24)
    row = int(run.queries[2])
    answer = client.get("/api/runs/0/neighbours", params={"row": row, "k": 30}).json()

    def regions(rows):
        return run.bits(rows).reshape(len(rows), -1, 2) @ np.array([1, 2])

    distances = np.abs(regions(run.database) - regions(run.queries[[2]])).sum(1)
    order = distances.argsort(kind="stable")[:30]
    assert rows_and_distances(answer) == (run.database[order].tolist(), distances[order].tolist())
    assert answer["margins"] is None
    tie = answer["ties"][-1]
    assert tie["items"] == int((distances == tie["distance"]).sum())


def test_curves_come_from_the_reports(client, itq_run, lsh_run):
    curves = client.get("/api/curves").json()
    assert [curve["run"] for curve in curves] == [0, 1]
    for curve, folder in zip(curves, (itq_run, lsh_run), strict=True):
        (stored,) = read_curves(folder)
        assert (curve["recall"], curve["precision"], curve["area"]) == (stored.recall, stored.precision, stored.area)
        assert curve["area"] == json.loads((folder / "metrics.json").read_text())["metrics"]["AUPRC_micro"]
        assert len(curve["recall"]) == 33
        assert curve["recall"][-1] == 1


def test_curves_of_all_directions(articles):
    names = [curve["direction"] for curve in articles.get("/api/curves").json()]
    assert names == ["image → text", "text → image", "image → image", "text → text"]


def test_runs_from_before_curves_were_kept_have_none(itq_run, tmp_path):
    import shutil

    folder = shutil.copytree(itq_run, tmp_path / "old")
    (folder / "pr_curve.json").unlink()
    assert client_of(folder).get("/api/curves").json() == []
    (folder / "pr_curve.json").write_text('[{"direction": "", "recall": [0, 2], "precision": [1, 1], "area": 1}]')
    refused = client_of(folder).get("/api/curves")
    assert refused.status_code == 400
    assert "pr_curve.json does not match its digest in metrics.json" in refused.json()["detail"]


def test_what_is_no_complete_run_is_refused(itq_run, tmp_path):
    import shutil

    with pytest.raises(InvalidInputError, match="does not exist"):
        load_runs([tmp_path / "nowhere"])
    folder = shutil.copytree(itq_run, tmp_path / "interrupted")
    (folder / "metrics.json").unlink()
    with pytest.raises(InvalidInputError, match="holds an interrupted run"):
        load_runs([folder])
