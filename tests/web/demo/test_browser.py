"""The page in a real headless Chromium, served by the program itself."""

import re
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def address(chromium, itq_run, lsh_run, wiki_run):
    """Where `deephash demo` shows three runs, two of them on the same pictures."""
    command = [sys.executable, "-c", "from deephash.command_line.main import main; main()", "demo", "--port", "0"]
    process = subprocess.Popen(
        [*command, *map(str, (itq_run, lsh_run, wiki_run))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            break
    else:
        pytest.fail(f"no page: {''.join(lines)} {process.stderr.read()}")
    yield found[0]
    process.send_signal(signal.SIGINT)  # Ctrl+C
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


@pytest.fixture
def page(chromium, address):
    """The page with an answer on it; it must ask no other host, and leave no error in the console."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(MILLISECONDS)
    requested, errors = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    # A refused file is an answer of status 400, which the browser reports as an error of its own.
    page.on(
        "console", lambda told: errors.append(told.text) if told.type == "error" and "400" not in told.text else None
    )
    page.goto(address)
    page.wait_for_selector(".tie")
    yield page
    page.close()
    assert [url for url in requested if not url.startswith((address, f"blob:{address}"))] == []
    assert errors == []


def shown(page, run):
    """Rows and distances of what the column of a run shows, in order."""
    groups = page.locator(f".answer[data-run='{run}'] .tie")
    found = [
        (int(item.get_attribute("data-row")), int(group.get_attribute("data-distance")))
        for group in groups.all()
        for item in group.locator(".item").all()
    ]
    return [row for row, _ in found], [distance for _, distance in found]


def shown_text(page, run):
    return page.locator(f".answer[data-run='{run}']").inner_text()


def drop(page, name, kind, contents):
    """Drop a file onto the page's zone, as a browser does: a drop event that carries it."""
    transfer = page.evaluate_handle(
        """([name, kind, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: kind }));
            return transfer;
        }""",
        [name, kind, list(contents)],
    )
    page.dispatch_event("main", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#ask-title", "drop", {"dataTransfer": transfer})


def has_columns(page, number):
    """Wait until the answers of so many runs are shown."""
    from playwright.sync_api import expect

    expect(page.locator(".answer")).to_have_count(number)


def choose_run(page, name):
    page.locator("#runs label", has_text=name).click()


def test_dropped_picture_shows_the_right_neighbours(page, itq, lsh, picture_file):
    place = 31
    drop(page, "<img src=x onerror=alert(1)>.png", "image/png", picture_file(int(itq.queries[place])))
    page.locator("#query", has_text="<img src=x onerror=alert(1)>.png").wait_for()
    for number, run in enumerate((itq, lsh)):
        assert shown(page, number) == run.nearest(run.bits(run.queries[[place]])[0], 20)
    assert page.locator("#message").is_hidden()
    assert page.locator("#query img").evaluate("image => image.naturalWidth") == 32
    # The third run's features were made elsewhere.
    assert "not made from images" in shown_text(page, 2)


def test_chosen_file_shows_the_right_neighbours(page, itq, picture_file, tmp_path):
    place = 77
    path = tmp_path / "chosen.bmp"
    path.write_bytes(picture_file(int(itq.queries[place]), "BMP"))
    choose_run(page, "itq · sbq")
    page.locator("#tab-image").click()
    page.locator("#depth").select_option("50")
    page.set_input_files("#file", path)
    page.locator("#query", has_text="chosen.bmp").wait_for()
    assert shown(page, 0) == itq.nearest(itq.bits(itq.queries[[place]])[0], 50)
    assert page.locator(".answer").count() == 1


@pytest.mark.parametrize("name", ["notes.txt", "broken.png"])
def test_broken_file_gets_a_friendly_message(page, picture_file, name):
    contents = b"no picture at all" if name == "notes.txt" else picture_file(0)[:200]
    drop(page, name, "image/png", contents)
    page.wait_for_selector("#message:not([hidden])")
    message = page.locator("#message").inner_text()
    assert "choose a" in message
    assert "Error" not in message
    assert "Traceback" not in message
    assert page.locator(".item").count() == 0
    drop(page, "good.png", "image/png", picture_file(0))
    page.locator("#query", has_text="good.png").wait_for()
    assert page.locator("#message").is_hidden()


def test_huge_file_is_not_sent(page):
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    page.evaluate("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(22 * 2 ** 20)], "huge.png", { type: "image/png" }));
        document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
    }""")
    page.wait_for_selector("#message:not([hidden])")
    assert "This file has 22 MB; choose a file of at most 20 MB." in page.locator("#message").inner_text()
    assert "POST" not in sent


def test_runs_switch_and_stand_side_by_side(page, itq, lsh):
    row = int(page.locator("#picker button").nth(5).get_attribute("data-row"))
    page.locator("#picker button").nth(5).click()
    page.locator("#query", has_text=f"item {row}").wait_for()
    place = itq.queries.tolist().index(row)
    for name, number, run in (("itq · sbq", 0, itq), ("lsh · sbq", 1, lsh)):
        choose_run(page, name)
        has_columns(page, 1)
        page.wait_for_selector(f".answer[data-run='{number}']")
        assert shown(page, number) == run.nearest(run.bits(run.queries[[place]])[0], 20)
    choose_run(page, "Side by side")
    has_columns(page, 3)
    assert shown(page, 0) != shown(page, 1)
    assert "This run uses other data" in shown_text(page, 2)


def test_bits_that_differ_are_ringed(page, itq):
    item = page.locator(".answer[data-run='0'] .item").nth(3)
    item.hover()
    found = int(item.get_attribute("data-row"))
    query = int(page.locator("#picker button[aria-pressed='true']").get_attribute("data-row"))
    one, other = itq.bits(np.array([query, found]))
    ringed = page.locator(".answer[data-run='0'] .bit").evaluate_all(
        "cells => cells.map((cell) => cell.classList.contains('differs'))"
    )
    assert ringed == (one != other).tolist()
    filled = page.locator(".answer[data-run='0'] .bit").evaluate_all(
        "cells => cells.map((cell) => cell.classList.contains('one'))"
    )
    assert filled == one.astype(bool).tolist()


def test_found_item_asks_next(page, itq):
    item = page.locator(".answer[data-run='0'] .item").nth(1)
    row = int(item.get_attribute("data-row"))
    item.click()
    page.locator("#query", has_text=f"item {row}").wait_for()
    assert shown(page, 0) == itq.nearest(itq.bits(np.array([row]))[0], 20)
    assert page.locator(".answer[data-run='0'] .item.self").get_attribute("data-row") == str(row)


def test_two_views_ask_in_both_directions(page, worked_out, wiki_run):
    run = worked_out(wiki_run)
    choose_run(page, "cvh")
    page.wait_for_selector(".answer[data-run='2'] .tie")
    for asking, searched in (("image", "text"), ("text", "image")):
        page.locator("#directions label", has_text=f"{asking} → {searched}").click()
        page.locator("#query", has_text=f"{asking} ").wait_for()
        page.locator(f".item.bare:has-text('{searched} ')").first.wait_for()
        query = int(page.locator("#picker button[aria-pressed='true']").get_attribute("data-row"))
        assert shown(page, 2) == run.nearest(run.bits(np.array([query]), asking)[0], 20, searched)
    page.locator("#tab-text").click()
    assert "not made from texts" in page.locator("#text-reason").inner_text()
    assert page.locator("#text-form").is_hidden()


def test_curves_and_figures_are_shown(page):
    # Two runs of one view, and one of four directions.
    assert page.locator("#curves polyline").count() == 6
    points = page.locator("#curves polyline").first.get_attribute("points").split()
    assert len(points) > 20
    assert "itq · sbq, 32 bits, cifar10_gist" in page.locator("#curves").inner_text()
    assert re.search(r"AUPRC 0\.\d{4}", page.locator("#curves").inner_text())
    assert re.search(r"mAP\s+0\.\d{4}\s+0\.\d{4}\s+0\.\d{4}", page.locator("#metrics").inner_text())


def test_tabs_follow_the_arrow_keys(page):
    page.locator("#tab-item").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-image").is_visible()
    assert page.evaluate("document.activeElement.id") == "tab-image"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"


@pytest.mark.parametrize("width", [1280, 380])
def test_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_server_listens_on_loopback_alone(address):
    import socket

    port = int(address.rsplit(":", 1)[1])
    own = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for other in own - {"127.0.0.1"}:
        if other.startswith("127."):
            continue
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((other, port), timeout=5)
    with urllib.request.urlopen(f"{address}/api/runs") as answer:
        assert answer.headers["server"] is None
