"""A study in a real headless Chromium, from the consent to the analysis of its log."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = [sys.executable, "-c", "from deephash.command_line.main import main; main()", "study"]
MILLISECONDS = 60_000
QUERIES, DEPTH = 6, 8


class Server:
    """`deephash study serve` as a process."""

    def __init__(self, runs, log):
        self.runs, self.log, self.port = runs, log, 0
        self.start()

    def start(self):
        settings = [f"--log={self.log}", f"--queries={QUERIES}", f"--depth={DEPTH}", f"--port={self.port}"]
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", *map(str, self.runs), *settings],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.address, self.port = found[0], int(found[1])
                return
        pytest.fail(f"no page: {''.join(lines)} {self.process.stderr.read()}")

    def end(self, kind):
        self.process.send_signal(kind)
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def server(chromium, itq_run, lsh_run, tmp_path_factory):
    server = Server((itq_run, lsh_run), tmp_path_factory.mktemp("study") / "study.sqlite")
    yield server
    assert server.end(signal.SIGINT) == (0, "")


@pytest.fixture
def page(chromium, server):
    """A participant's browser, which asks no other host and leaves no error, but for a server that is away."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(MILLISECONDS)
    requested, errors = [], []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda told: errors.append(told.text) if told.type == "error" else None)
    page.goto(server.address)
    page.wait_for_selector("#introduction:not([hidden])")
    yield page
    page.close()
    assert [url for url in requested if not url.startswith(server.address)] == []
    assert [error for error in errors if "ERR_CONNECTION_REFUSED" not in error] == []


def begin(page):
    page.locator("#agreed").check()
    page.locator("#agreement button").click()
    wait_for(page, 1)


def wait_for(page, number):
    page.locator("#progress", has_text=f"Query {number} of {QUERIES}").wait_for()
    page.wait_for_selector("#trial:not([hidden])")


def rows(page, selector):
    pictures = page.locator(f"{selector} img").evaluate_all("images => images.map((one) => one.getAttribute('src'))")
    return [int(re.fullmatch(r"/api/items/(\d+)\.png", picture)[1]) for picture in pictures]


def distances(run, query, items):
    (asked,) = run.bits(np.array([query]))
    return (run.bits(np.array(items)) != asked).sum(1).tolist()


def nearest(run, query):
    return run.nearest(run.bits(np.array([query]))[0], DEPTH)[1]


def choose(page, name, value):
    page.locator(f".choice:has(input[name='{name}'][value='{value}'])").click()


def judge(page, itq, lsh):
    """Prefer what ITQ finds, as worked out from the codes; which form it was, and whether a preference was shown."""
    (query,) = rows(page, "#query")
    lists = [rows(page, f".list:nth-child({side})") for side in range(1, 1 + page.locator(".list").count())]
    if len(lists) == 1:
        # What is farther by LSH's codes than all that LSH finds can only be ITQ's.
        farthest = nearest(lsh, query)[-1]
        own = [rank for rank, far in enumerate(distances(lsh, query, lists[0])) if far > farthest]
        for rank in own:
            page.locator(".list .item").nth(rank).click()
        choose(page, "rating-0", 4)
        return "interleaved", bool(own)
    left = distances(itq, query, lists[0]) == nearest(itq, query)
    right = distances(itq, query, lists[1]) == nearest(itq, query)
    assert left != right, "the lists of the two runs are told apart by their distances"
    choose(page, "choice", "left" if left else "right")
    choose(page, "rating-0", 5 if left else 2)
    choose(page, "rating-1", 2 if left else 5)
    return "side_by_side", True


def analysed(server, capsys, *arguments):
    """What `deephash study analyse` prints, run in this process."""
    from deephash.command_line.main import app

    capsys.readouterr()
    app(["study", "analyse", str(server.log), *arguments], standalone_mode=False)
    return capsys.readouterr().out


@pytest.mark.ci
def test_study_from_consent_to_analysis(page, server, itq, lsh, itq_run, lsh_run, capsys):
    text = page.locator("#introduction").inner_text()
    for part in ("What is kept", "Why", "No personal data", "Stopping", "Deletion"):
        assert part in text
    page.locator("#agreement button").click()
    assert page.locator("#introduction").is_visible(), "nobody begins without having agreed"
    begin(page)
    number = page.locator("#session").inner_text()
    assert re.fullmatch(r"\d{4} \d{4} \d{4}", number)
    judged = []
    for place in range(1, QUERIES + 1):
        wait_for(page, place)
        assert not re.search("itq|lsh", page.content(), re.IGNORECASE)
        if place == 1:
            page.locator("#submit").click()
            assert page.locator("#progress").inner_text() == f"Query 1 of {QUERIES}", "an answer needs its ratings"
        if place == 3:
            shown = rows(page, "#trial")
            page.reload()
            wait_for(page, place)
            assert rows(page, "#trial") == shown
        judged.append(judge(page, itq, lsh))
        if place == 4:
            server.end(signal.SIGKILL)
            page.locator("#submit").click()
            page.locator("#message", has_text="The server does not answer").wait_for()
            server.start()
        page.locator("#submit").click()
    page.wait_for_selector("#end:not([hidden])")
    assert "All queries are answered" in page.locator("#end").inner_text()
    assert page.locator("#session").inner_text() == number

    found = json.loads(analysed(server, capsys, f"--run={itq_run}", f"--run={lsh_run}", "--json"))
    assert [run.split(" ")[0] for run in found["runs"]] == ["itq", "lsh"]
    by_mode = {one["mode"]: one for one in found["preferences"]}
    for mode in ("interleaved", "side_by_side"):
        wins = sum(won for form, won in judged if form == mode)
        assert (by_mode[mode]["first"], by_mode[mode]["neither"], by_mode[mode]["second"]) == (wins, 3 - wins, 0)
    assert by_mode["side_by_side"]["first"] == 3
    assert by_mode["interleaved"]["first"] >= 1
    assert by_mode["all"]["judgements"] == QUERIES
    means = {one["rated"]: one["mean"] for one in found["ratings"]}
    assert means == {"first": 5, "second": 2, "first less second": 3, "interleaved list": 4}
    assert found["seconds"] > 0
    assert {one["metric"] for one in found["agreements"]} >= {"mAP", "precision@10"}
    assert "1 participant: with fewer than 10" in found["warnings"][0]


def test_participant_stops_and_deletes(page, server, itq, lsh):
    from deephash.web.study.log import StudyLog
    from deephash.web.study.session_number import parse_session

    begin(page)
    number = parse_session(page.locator("#session").inner_text())
    judge(page, itq, lsh)
    page.locator("#submit").click()
    wait_for(page, 2)
    page.locator("#stop").click()
    assert "You stopped" in page.locator("#end").inner_text()
    with StudyLog.read(server.log) as log:
        assert number in {one.session for one in log.judgements()}
    page.locator("#delete").click()
    page.locator("#delete-all").click()
    page.locator("#ended", has_text="All your answers were deleted").wait_for()
    with StudyLog.read(server.log) as log:
        assert number not in {one.session for one in log.judgements()}
    page.reload()
    page.wait_for_selector("#introduction:not([hidden])")


@pytest.mark.parametrize("width", [1280, 380])
def test_page_fits_its_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    begin(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_list_is_marked_by_keyboard(page):
    begin(page)
    while page.locator(".list").count() > 1:  # until an interleaved query comes
        shown = page.locator("#progress").inner_text()
        choose(page, "choice", "none")
        choose(page, "rating-0", 3)
        choose(page, "rating-1", 3)
        page.locator("#submit").click()
        page.wait_for_function("told => document.getElementById('progress').textContent !== told", arg=shown)
    item = page.locator(".list .item").first
    item.focus()
    page.keyboard.press("Enter")
    assert item.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Space")
    assert item.get_attribute("aria-pressed") == "false"
