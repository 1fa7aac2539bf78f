"""The tables of the pages agree with their result files, and result files say where their runs come from."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deephash.validation import InvalidInputError

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "studies"))

import open_tables  # noqa: E402
import page_tables  # noqa: E402
import result_files  # noqa: E402
import write_tables  # noqa: E402

FIELDS = ["method", "bits", "seed", "mAP"]
RUNS = [["itq", 16, 0, 0.123456789], ["itq", 16, 1, 0.2], ["lsh", 16, 0, 1.5]]


@pytest.fixture
def written(tmp_path):
    result_files.write_results(tmp_path / "small.json", FIELDS, RUNS, ["python train.py"], commit="a" * 40)
    return tmp_path


def test_pages_agree_with_the_result_files():
    differing = {str(path.name): write_tables.fill_tables(path.read_text())[1] for path in write_tables.find_pages()}
    assert not any(differing.values()), f"run python studies/write_tables.py: {differing}"


def test_every_table_stands_on_one_page():
    found = [
        name for path in write_tables.find_pages() for _, name, _, _ in write_tables.TABLE.findall(path.read_text())
    ]
    assert sorted(found) == sorted(page_tables.all_tables())


def test_a_new_measured_table_needs_a_result_file():
    """A table that gets a result file leaves the list of open tables, which may only become shorter."""
    on_pages = {
        str(path.relative_to(ROOT)): found
        for path in write_tables.find_pages()
        if (found := open_tables.find_open_tables(path.read_text()))
    }
    listed = {
        page: {section: number for section, (number, _) in sections.items()}
        for page, sections in open_tables.OPEN.items()
    }
    assert on_pages == listed, "fill a new table from a result file (studies/README.md); see studies/open_tables.py"


def test_a_table_without_a_result_file_says_where_it_comes_from():
    without = {
        str(path.relative_to(ROOT))
        for path in write_tables.find_pages()
        for section, caption in open_tables.list_open_tables(path.read_text())
        if caption is None and not is_listed_as_not_measured(path, section)
    }
    assert without <= set(open_tables.WITHOUT_CAPTION), "add a caption; see studies/open_tables.py"


def is_listed_as_not_measured(path, section):
    _, cost = open_tables.OPEN[str(path.relative_to(ROOT))][section]
    return cost.startswith(open_tables.NOT_MEASURED)


def test_captions_name_commands_that_exist():
    for path in write_tables.find_pages():
        for section, caption in open_tables.list_open_tables(path.read_text()):
            if caption:
                script = next(word for word in caption["command"].split() if word.endswith(".py"))
                assert (ROOT / script).is_file(), (path.name, section, script)
                for name in re.findall(r"experiment=(\w+)", caption["command"]):
                    assert (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file(), (path.name, section, name)


def test_a_caption_is_the_paragraph_before_its_table():
    table = "| a | b |\n| --- | --- |\n| .5 | 12 items |\n"
    caption = "Text. Measured on 2026-11-27 (commit 13a0b9526) on 2 cores by `python\ntrain.py`, once:\n\n"
    ((section, found),) = open_tables.list_open_tables(f"# A\n\n{caption}{table}")
    assert section == "A"
    assert found.groups() == ("2026-11-27", "13a0b9526", "2 cores", "python train.py")
    for other in (caption + "Another paragraph.\n\n", caption.replace("(commit 13a0b9526) ", ""), ""):
        ((_, found),) = open_tables.list_open_tables(f"# A\n\n{other}{table}")
        assert found is None


def test_tables_with_decimal_numbers_are_measured():
    options = "| `a=` | meaning |\n| --- | --- |\n| `.5` | 12 items, [a](v1.0.md) |\n"
    page = f"# A\n{options}\n## B\n{options.replace('12', '.12')}\n{options.replace('12', '0.5')}"
    assert open_tables.find_open_tables(page) == {"B": 2}
    filled = f"<!-- table: a -->\n{options.replace('12', '.12')}<!-- end table -->\n"
    assert open_tables.find_open_tables(page.replace("## B", "## B\n" + filled)) == {"B": 2}


def test_every_result_file_is_valid_and_names_its_runs():
    names = [path.stem for path in result_files.FOLDER.glob("*.json")]
    assert names
    for name in names:
        found = result_files.read_results(name)
        assert all(re.search("python|deephash", command) for command in found.commands), name
        assert re.fullmatch("[0-9a-f]{40}", found.commit), name
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", found.date), name
        assert "seed" in found.fields, name
        assert len({json.dumps(run) for run in found.runs}) == len(found.runs), name


def test_a_changed_figure_is_found():
    page = f"<!-- table: deep_csq -->\n{page_tables.all_tables()['deep_csq']()}<!-- end table -->\n"
    assert write_tables.fill_tables(page) == (page, [])
    wrong = page.replace("±", "+", 1)
    assert write_tables.fill_tables(wrong) == (page, ["deep_csq"])


def test_a_changed_figure_of_a_sentence_is_found():
    page = "It is <!-- figure: satisfaction_mAP_lists -->{}<!-- end figure --> here."
    right = page_tables.all_figures()["satisfaction_mAP_lists"]()
    over_two_lines = page.format(right.replace(" ", "\n", 1))
    assert write_tables.fill_tables(over_two_lines) == (over_two_lines, [])
    assert write_tables.fill_tables(page.format(".9 ± .1")) == (page.format(right), ["satisfaction_mAP_lists"])
    with pytest.raises(InvalidInputError, match="no figure is named 'nothing'; expected one of"):
        write_tables.fill_tables("It is <!-- figure: nothing -->1<!-- end figure -->")
    with pytest.raises(InvalidInputError, match="put `<!-- end figure -->` after it"):
        write_tables.fill_tables("It is <!-- figure: satisfaction_mAP_lists -->1")
    with pytest.raises(InvalidInputError, match="begin the line with a word"):
        write_tables.fill_tables("It is\n<!-- figure: satisfaction_mAP_lists -->1<!-- end figure -->")


def test_every_figure_stands_in_a_sentence():
    pages = "".join(path.read_text() for path in write_tables.find_pages())
    assert {name for _, name, _, _ in write_tables.FIGURE.findall(pages)} == set(page_tables.all_figures())


def test_an_unknown_table_is_named():
    with pytest.raises(InvalidInputError, match="no table is named 'nothing'"):
        write_tables.fill_tables("<!-- table: nothing -->\n<!-- end table -->")


def test_a_table_without_an_end_is_no_reason_to_delete_text():
    table = f"<!-- table: deep_csq -->\n{page_tables.all_tables()['deep_csq']()}"
    for page in (table + "Text.\n" + table + "<!-- end table -->\n", table, "<!-- end table -->\n"):
        with pytest.raises(InvalidInputError, match="put `<!-- end table -->` after each table"):
            write_tables.fill_tables(page)


def test_written_results_are_read_again(written):
    found = result_files.read_results("small", written)
    assert (found.fields, found.commit) == (FIELDS, "a" * 40)
    assert found.runs[0] == ["itq", 16, 0, 0.123457]
    assert found.scores("mAP", method="itq", bits=16) == {0: 0.123457, 1: 0.2}
    with pytest.raises(InvalidInputError, match="two runs of seed 0"):
        found.scores("mAP", bits=16)
    with pytest.raises(InvalidInputError, match="no run with"):
        found.select(method="ksh")
    assert found.find(method="ksh") == []
    with pytest.raises(InvalidInputError, match="no result file is named 'other'; expected one of small"):
        result_files.read_results("other", written)


@pytest.mark.parametrize("change", [{"runs": [["itq", 16]]}, {"name": "other"}, {"extra": 1}])
def test_a_malformed_file_is_rejected(written, change):
    path = written / "small.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidInputError, match=r"small\.json"):
        result_files.read_results("small", written)


def test_runs_of_a_sweep_are_gathered(tmp_path):
    for seed in (1, 0):
        run = tmp_path / f"run{seed}"
        run.mkdir()
        (run / "metrics.json").write_text(
            json.dumps({"method": "itq", "seed": seed, "seconds": {"fit": 2.0}, "metrics": {"mAP": seed / 4}})
        )
        (run / "config.yaml").write_text("projection:\n  anchors: 300\n")
    fields = ["method", "projection.anchors", "seed", "mAP"]
    assert result_files.gather_runs(tmp_path, fields) == [["itq", 300, 0, 0.0], ["itq", 300, 1, 0.25]]
    assert result_files.gather_runs(tmp_path, ["run", "seconds.fit"]) == [["run0", 2.0], ["run1", 2.0]]
    with pytest.raises(InvalidInputError, match="has no nothing"):
        result_files.gather_runs(tmp_path, ["nothing"])
    with pytest.raises(InvalidInputError, match="no finished run"):
        result_files.gather_runs(tmp_path / "empty", fields)


def test_means_are_formatted_as_on_the_pages():
    assert result_files.format_mean([0.5]) == ".500"
    # Student's t of two draws: 12.706 standard errors.
    assert result_files.format_mean([0.25, 0.5], 2) == ".38 ± 1.59"
    assert result_files.format_figure(-0.051) == "-.051"


def test_the_command_checks_all_pages():
    done = subprocess.run(
        [sys.executable, "studies/write_tables.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "all tables and figures agree with their result files\n"), done.stderr
