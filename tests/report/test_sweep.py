"""A sweep's report from its files: nothing dropped, means and tests as NumPy and SciPy give them."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import polars
import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console
from scipy import stats

from deephash.report.critical_difference import compute_rankings, draw_critical_differences, format_rankings
from deephash.report.sweep import main, report_sweep
from deephash.report.sweep_figure import draw_sweep, split_setting_titles
from deephash.report.sweep_runs import collect, metric_names
from deephash.report.sweep_statistics import aggregate, compare, find_warnings, format_line, holm
from deephash.report.sweep_tables import build_sweep_table, format_grid, format_interval, format_setting, format_sweep
from deephash.report.sweep_views import format_views
from deephash.validation import InvalidInputError

METHODS, BITS, SEEDS = {"itq": 0.16, "lsh": 0.12, "pcah": 0.13}, (16, 32, 64), (0, 1, 2)


def score(method, bits, seed):
    """A fixed score that rises with bits for itq, is flat for lsh, falls for pcah, and varies a little by seed."""
    slope = {"itq": 0.01, "pcah": -0.01}.get(method, 0.0)
    return METHODS.get(method, 0.1) + slope * np.log2(bits / 16) + 0.001 * ((seed * 7 + bits + len(method)) % 5)


def write_run(folder, method="itq", bits=16, seed=0, **changes):
    row = {
        "method": method,
        "quantizer": "sbq",
        "bits": bits,
        "data": "mnist5k",
        "protocol": "five_way",
        "truth": "label",
        "score": "test",
        "k": [100, 1000],
        "seed": seed,
        "split": f"split{seed}",
        "sizes": {"query": 1000},
        "metrics": {"mAP": score(method, bits, seed), "AUPRC_micro": 0.5},
        "skipped_queries": 0,
        "seconds": {"fit": 1.0},
        "warnings": ["dead bits: 3 of 16 are the same"] if method == "pcah" else [],
    }
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps(row | changes))


@pytest.fixture
def sweep(tmp_path):
    """27 jobs, of which lsh at 64 bits with seed 2 failed and the result of pcah at 32 bits with seed 1 is cut off."""
    jobs = [(method, bits, seed) for method in METHODS for bits in BITS for seed in SEEDS]
    for number, (method, bits, seed) in enumerate(jobs):
        folder = tmp_path / f"{number}-{method}"
        if (method, bits, seed) == ("lsh", 64, 2):
            folder.mkdir()
            failure = {"overrides": ["method=lsh", "bits=64", "seed=2"], "error": "features hold NaN in 3 rows"}
            (folder / "error.json").write_text(json.dumps(failure))
            continue
        write_run(folder, method, bits, seed)
        if (method, bits, seed) == ("pcah", 32, 1):
            whole = (folder / "metrics.json").read_text()
            (folder / "metrics.json").write_text(whole[: len(whole) // 2])
    return tmp_path


def test_every_job_is_listed(sweep):
    runs = collect(sweep)
    assert runs.height == 27
    assert dict(runs["status"].value_counts().rows()) == {"done": 25, "failed": 1, "damaged": 1}
    assert runs["folder"].to_list() == [f"{number}-{name}" for number, name in enumerate(np.repeat(list(METHODS), 9))]
    (failed,) = runs.filter(polars.col("status") == "failed").to_dicts()
    assert (failed["method"], failed["bits"], failed["seed"]) == ("lsh", 64, 2)
    assert failed["error"] == "features hold NaN in 3 rows"
    (damaged,) = runs.filter(polars.col("status") == "damaged").to_dicts()
    assert "metrics.json is not readable as a result row" in damaged["error"]
    assert metric_names(runs) == ["mAP", "AUPRC_micro"]


def test_means_and_intervals(sweep):
    means = aggregate(collect(sweep)).filter(polars.col("metric") == "mAP")
    assert means.height == 9
    for method in METHODS:
        for bits in BITS:
            left_out = {("lsh", 64): 2, ("pcah", 32): 1}.get((method, bits))
            values = np.array([score(method, bits, seed) for seed in SEEDS if seed != left_out])
            (row,) = means.filter(polars.col("method") == method, polars.col("bits") == bits).to_dicts()
            low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
            assert row["seeds"] == len(values)
            assert [row["mean"], row["low"], row["high"]] == pytest.approx([values.mean(), low, high])


def test_one_seed_has_no_interval(tmp_path):
    write_run(tmp_path / "0")
    (row, _) = aggregate(collect(tmp_path)).to_dicts()
    assert (row["seeds"], row["low"], row["high"]) == (1, None, None)
    assert compare(collect(tmp_path)).is_empty()
    assert "| itq · sbq |     1 | **0.1640** |" in format_sweep(collect(tmp_path))


def test_paired_tests_use_shared_seeds(sweep):
    tests = compare(collect(sweep))
    assert tests.height == 9
    (row,) = tests.filter(polars.col("bits") == 64, first="itq · sbq", second="lsh · sbq").to_dicts()
    differences = np.array([score("itq", 64, seed) - score("lsh", 64, seed) for seed in (0, 1)])
    assert row["seeds"] == 2
    assert row["difference"] == pytest.approx(differences.mean())
    assert (row["p_value"], row["p_holm"]) == (None, None), "two seeds have no p that could be small"
    (row,) = tests.filter(polars.col("bits") == 16, first="itq · sbq", second="pcah · sbq").to_dicts()
    assert (row["seeds"], row["p_value"], row["p_holm"]) == (3, None, None)


def test_p_values_take_six_seeds(tmp_path):
    for number, (method, seed) in enumerate((method, seed) for method in METHODS for seed in range(6)):
        if (method, seed) != ("pcah", 5):
            write_run(tmp_path / str(number), method, 16, seed)
    tests = {(row["first"], row["second"]): row for row in compare(collect(tmp_path)).to_dicts()}
    differences = np.array([score("itq", 16, seed) - score("lsh", 16, seed) for seed in range(6)])
    tested = tests["itq · sbq", "lsh · sbq"]
    assert tested["p_value"] == tested["p_holm"] == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert tests["itq · sbq", "pcah · sbq"]["p_value"] is None
    report_sweep(tmp_path)
    page = (tmp_path / "sweep.md").read_text()
    assert "Fewer than 6 pairs have no p-value: with n pairs, none can be below 2^(1 - n)." in page


def test_titles_name_the_cuts_only_where_nothing_else_tells_settings_apart(tmp_path):
    write_run(tmp_path / "0")
    write_run(tmp_path / "1", seed=1)
    assert format_sweep(collect(tmp_path)).startswith("mAP: mnist5k, five_way, label truth, test queries\n")
    write_run(tmp_path / "2", seed=2, k=[50])
    page = format_sweep(collect(tmp_path))
    assert "test queries, cut at k = 100, 1000\n" in page
    assert "test queries, cut at k = 50\n" in page


def test_one_run_is_one_run(tmp_path):
    write_run(tmp_path / "0", "pcah")
    (line,) = find_warnings(collect(tmp_path))
    assert line == "pcah: dead bits, in 1 run, at 16 bits; see warnings in its metrics.json."


def test_other_splits_are_not_paired(tmp_path):
    for seed in SEEDS:
        write_run(tmp_path / f"itq{seed}", "itq", seed=seed)
        write_run(tmp_path / f"lsh{seed}", "lsh", seed=seed, split="another" if seed == 0 else f"split{seed}")
    assert compare(collect(tmp_path))["seeds"].to_list() == [2]


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_table_has_methods_by_bits_with_the_best_in_bold(sweep):
    page = format_sweep(collect(sweep))
    assert page.startswith("mAP: mnist5k, five_way, label truth, test queries\n")
    header, _, itq, lsh, pcah = page.strip().splitlines()[2:]
    assert [part.strip() for part in header.strip("|").split("|")] == [
        "method",
        "seeds",
        "16 bits",
        "32 bits",
        "64 bits",
    ]
    assert itq.count("**") == 6
    assert lsh.count("**") == pcah.count("**") == 0
    assert lsh.startswith("| lsh · sbq")
    assert "|   2–3 |" in lsh
    values = np.array([score("pcah", 64, seed) for seed in SEEDS])
    half = stats.t.ppf(0.975, 2) * stats.sem(values)
    assert f"{values.mean():.4f} ± {half:.4f}" in pcah


def test_each_setting_has_its_own_table(tmp_path):
    write_run(tmp_path / "0")
    write_run(tmp_path / "1", protocol="literature")
    page = format_sweep(collect(tmp_path))
    assert page.count("| method") == 2
    assert "mnist5k, literature, label truth" in page
    assert len([axes for axes in draw_sweep(collect(tmp_path)).axes if axes.get_visible()]) == 2


def test_figure_draws_a_line_and_a_band_a_method(sweep):
    figure = draw_sweep(collect(sweep))
    (axes,) = figure.axes
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["itq · sbq", "lsh · sbq", "pcah · sbq"]
    expected = [np.mean([score("itq", bits, seed) for seed in SEEDS]) for bits in BITS]
    np.testing.assert_allclose(lines[0].get_ydata(), expected)
    assert list(lines[0].get_xdata()) == list(BITS)
    assert len(axes.collections) == 3
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    assert axes.get_xscale() == "log"
    assert axes.xaxis.get_transform().base == 2
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["16", "32", "64"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Bits", "mAP")


def test_warnings_name_jobs_flat_scores_and_run_warnings(sweep):
    lines = find_warnings(collect(sweep))
    assert lines[0] == "failed: 17-lsh: features hold NaN in 3 rows"
    assert lines[1].startswith("damaged: 22-pcah: ")
    assert lines[2].startswith("lsh · sbq: flat scores: mAP stays between 0.12")
    assert lines[3] == "pcah: dead bits, in 8 runs, at 16, 32, 64 bits; see warnings in their metrics.json."
    assert len(lines) == 4


def test_report_writes_and_prints(sweep, capsys):
    report_sweep(sweep)
    page = capsys.readouterr().out
    for word in ("itq · sbq", "16 bits", "warning: failed: 17-lsh", str(sweep / "sweep.png")):
        assert word in page
    means = polars.read_csv(sweep / "sweep.csv")
    assert means.height == 18
    stored = json.loads((sweep / "sweep.json").read_text())
    assert len(stored["runs"]) == 27
    assert len(stored["tests"]) == 9
    assert stored["metric"] == "mAP"
    page = (sweep / "sweep.md").read_text()
    assert "Paired Wilcoxon" in page
    assert "none can be below 2^(1 - n)" in page
    assert "- failed: 17-lsh" in page
    with Image.open(sweep / "sweep.png") as image:
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
    first = {path.name: path.read_bytes() for path in sweep.glob("sweep.*")}
    report_sweep(sweep)
    assert {path.name: path.read_bytes() for path in sweep.glob("sweep.*")} == first


def test_settings_that_differ_make_lines_of_their_own(tmp_path):
    for number, (rounds, seed) in enumerate([(10, 0), (10, 1), (50, 0), (50, 1)]):
        write_run(tmp_path / str(number), seed=seed)
        config = {"seed": seed, "bits": 16, "projection": {"rounds": rounds, "seed": seed}, "trainer": {"n": number}}
        OmegaConf.save(OmegaConf.create(config), tmp_path / str(number) / "config.yaml")
    runs = collect(tmp_path)
    assert runs["settings"].to_list() == ["projection.rounds=10"] * 2 + ["projection.rounds=50"] * 2
    assert aggregate(runs)["seeds"].to_list() == [2, 2, 2, 2]
    assert "itq · sbq · projection.rounds=50" in format_sweep(runs)


def test_settings_that_follow_from_the_length_do_not(tmp_path):
    for bits in BITS:
        write_run(tmp_path / str(bits), bits=bits)
        config = {"seed": 0, "bits": bits, "projection": {"dimensions": bits // 2}}
        OmegaConf.save(OmegaConf.create(config), tmp_path / str(bits) / "config.yaml")
    assert set(collect(tmp_path)["settings"]) == {""}


def test_the_newest_of_repeated_runs_counts(tmp_path):
    write_run(tmp_path / "new")
    write_run(tmp_path / "old", metrics={"mAP": 0.9})
    os.utime(tmp_path / "old" / "metrics.json", (1, 1))
    runs = collect(tmp_path)
    assert dict(runs.select("folder", "status").rows()) == {"new": "done", "old": "repeated"}
    assert aggregate(runs)["seeds"].max() == 1
    assert find_warnings(runs)[0].startswith("repeated: old: another job has the same settings and seed")


def test_interrupted_jobs_and_later_evaluations(tmp_path):
    write_run(tmp_path / "0")
    write_run(tmp_path / "0" / "evaluations" / "later", metrics={"mAP": 0.9})
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "config.yaml").write_text("bits: 16\n")
    runs = collect(tmp_path)
    assert runs["status"].to_list() == ["done", "interrupted"]
    assert runs["error"][1] == f"no result; finish it with: deephash train resume={tmp_path / '1'}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[1, 2]", "holds list, not an object"),
        ('{"method": "itq", "bits": 16}', "its metrics are None, not an object of numbers"),
        ('{"method": "itq", "bits": 16, "metrics": null}', "its metrics are None, not an object of numbers"),
        ('{"method": "itq", "bits": 16, "metrics": {}}', "lacks one of method, bits, seed, metrics"),
        ('{"method": "itq", "bits": "x", "seed": 0, "metrics": {}}', "has bits='x'; expected a whole number"),
        ('{"method": "itq", "bits": 8, "seed": "0", "metrics": {"mAP": 1}}', "has seed='0'; expected a whole number"),
        (
            '{"method": "itq", "bits": 8, "seed": 0, "metrics": {"mAP": "high"}}',
            "its metric mAP is 'high', not a number",
        ),
        ("", "is not readable as a result row"),
        ('{"method": "itq", "bits": 8, "seed": 0, "metrics": {}, "warnings": 7}', "is not readable as a result row"),
        ('{"method": "itq", "bits": 8, "seed": 0, "metrics": {"mAP": 1' + "0" * 400 + "}}", "is not readable as a"),
        ('{"method": "itq", "bits": 9223372036854775808, "seed": 0, "metrics": {}}', "expected a whole number"),
        ('{"method": "\\ud800", "bits": 8, "seed": 0, "metrics": {}}', "is not readable as a result row"),
    ],
)
def test_wrong_rows_are_damaged_not_fatal(tmp_path, content, reason):
    write_run(tmp_path / "0")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "metrics.json").write_text(content)
    runs = collect(tmp_path)
    assert runs["status"].to_list() == ["done", "damaged"]
    assert reason in runs["error"][1]


def test_folders_that_cannot_be_reported(tmp_path, capsys):
    with pytest.raises(InvalidInputError, match=r"none does not exist; give the folder of a sweep"):
        collect(tmp_path / "none")
    with pytest.raises(InvalidInputError, match=r"holds no runs; give the folder of a sweep, whose jobs"):
        collect(tmp_path)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "error.json").write_text('{"overrides": [], "error": "no data"}')
    with pytest.raises(InvalidInputError, match=r"0 of 1 runs are done; .* The first reported: no data"):
        report_sweep(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: 0 of 1 runs are done")
    write_run(tmp_path / "1")
    with pytest.raises(InvalidInputError, match=r"metric='map'; expected one of: AUPRC_micro, mAP"):
        report_sweep(tmp_path, "map")
    assert main([str(tmp_path), "--metric", "AUPRC_micro"]) == 0


def test_names_and_cells():
    assert format_line(("itq", "sbq", "")) == "itq · sbq"
    assert format_line(("itq", None, "a=1")) == "itq · a=1"
    assert format_interval(0.17123, 0.16, 0.18) == "0.1712 ± 0.0100"
    assert format_interval(0.17123, None, None) == "0.1712"
    assert format_setting(("sift1m", None, "nearest_neighbours", "validation", "functions", "")) == (
        "sift1m, nearest_neighbours truth, validation queries"
    )
    assert format_setting(("wiki", "official", "label", "test", "learnt", "50"), cuts=True) == (
        "wiki, official, label truth, test queries, database by learnt codes, cut at k = 50"
    )


def test_callback_reports_the_sweep_folder(sweep, capsys):
    callback = instantiate({"_target_": "deephash.report.sweep.SweepReport", "metric": "AUPRC_micro"})
    with pytest.raises(SystemExit) as ended:  # A job of this sweep failed.
        callback.on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}), config_name="train")
    assert ended.value.code == 1
    assert "AUPRC_micro: mnist5k" in capsys.readouterr().out
    assert (sweep / "sweep.md").exists()
    with pytest.raises(SystemExit) as ended:
        callback.on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep / "none")}}}))
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("no sweep report: ")


def has_plugin(name: str) -> bool:
    """Return whether a plugin of Hydra is installed; without any, their common package does not exist either."""
    try:
        return importlib.util.find_spec(f"hydra_plugins.{name}") is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.ci
def test_multirun_ends_with_the_report(tmp_path):
    launcher = "joblib" if has_plugin("hydra_joblib_launcher") else "basic"
    script = """
        import json, pathlib
        import hydra
        from hydra.core.hydra_config import HydraConfig

        @hydra.main(version_base="1.3", config_path=".", config_name="job")
        def job(config):
            folder = pathlib.Path(HydraConfig.get().runtime.output_dir)
            row = {"method": config.method, "bits": config.bits, "seed": 0, "metrics": {"mAP": config.bits / 100}}
            (folder / "metrics.json").write_text(json.dumps(row))

        job()
    """
    (tmp_path / "job.py").write_text(textwrap.dedent(script))
    callbacks = {"report": {"_target_": "deephash.report.sweep.SweepReport"}}
    sweep = {"dir": "sweep-${now:%Y-%f}", "subdir": "${hydra.job.num}"}
    hydra = {"callbacks": callbacks, "sweep": sweep, "output_subdir": None}
    OmegaConf.save(OmegaConf.create({"method": "itq", "bits": 8, "hydra": hydra}), tmp_path / "job.yaml")
    command = [sys.executable, "job.py", "-m", "method=itq,lsh", "bits=8,16", f"hydra/launcher={launcher}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert "0.0800" in ended.stdout
    (report,) = tmp_path.glob("sweep-*/sweep.csv")
    assert polars.read_csv(report).height == 4


def test_narrow_terminals_put_the_interval_under_the_mean(sweep):
    runs = collect(sweep)
    pages = {}
    for width in (44, 120):
        console = Console(width=width, file=io.StringIO())
        console.print(build_sweep_table(runs))
        pages[width] = console.file.getvalue()
        assert "pcah · sbq" in pages[width]
        assert "…" not in pages[width]
    (mean,) = (row["mean"] for row in aggregate(runs).to_dicts()[:1])
    assert f"{mean:.4f} ±" in pages[120]
    assert f"{mean:.4f} │" in pages[44]


def test_titles_of_panels_say_what_differs():
    one = ("mnist5k", "five_way", "label", "test", "functions", "100")
    other = ("mnist5k", "literature", "label", "test", "functions", "100")
    assert split_setting_titles([one, other]) == ("mnist5k, label truth, test queries", ["five_way", "literature"])
    assert split_setting_titles([one]) == ("", ["mnist5k, five_way, label truth, test queries"])


def write_ranked(folder, lines, seeds=range(8), bits=(16, 32)):
    """Lines whose scores rank them the same in every draw, by (method, quantiser) → level."""
    for (method, quantizer), level in lines.items():
        for length in bits:
            for seed in seeds:
                value = level * (1 + 0.01 * seed + length / 1000)
                write_run(
                    folder / f"{method}-{quantizer}-{length}-{seed}",
                    method,
                    length,
                    seed,
                    quantizer=quantizer,
                    metrics={"mAP": value},
                )


def test_ranks_and_what_is_told_apart(tmp_path):
    levels = {("itq", "sbq"): 0.3, ("sh", "sbq"): 0.2, ("lsh", "sbq"): 0.1}
    write_ranked(tmp_path, levels)
    # A fourth line that equals lsh but for a sign that alternates: not to be told apart from it.
    for length in (16, 32):
        for seed in range(8):
            value = 0.1 * (1 + 0.01 * seed + length / 1000) + (-1) ** seed * 0.0001 * (seed // 2 + 1)
            write_run(tmp_path / f"odd{length}-{seed}", "odd", length, seed, metrics={"mAP": value})
    (found,) = compute_rankings(collect(tmp_path))
    assert found.names[:2] == ["itq · sbq", "sh · sbq"]
    assert found.mean_ranks.tolist() == [1, 2, 3.5, 3.5]
    assert found.blocks == 16
    table = {name: [] for name in found.names}
    for run in collect(tmp_path).sort("method", "bits", "seed").to_dicts():
        table[f"{run['method']} · sbq"].append(run["mAP"])
    assert found.friedman_p == pytest.approx(stats.friedmanchisquare(*table.values()).pvalue)
    pair = stats.wilcoxon(np.array(table["itq · sbq"]) - np.array(table["sh · sbq"])).pvalue
    assert found.pairs[0, 1] == pytest.approx(6 * pair)
    assert found.pairs[2, 3] > 0.5
    page = format_rankings([found], "mAP")
    assert "| itq · sbq |      1.00 | –" in page
    assert "Over 16 shared draws" in page
    figure = draw_critical_differences([found], "mAP")
    (axes,) = figure.axes
    texts = " ".join(text.get_text() for text in axes.texts)
    assert all(name in texts for name in found.names)


def test_ranking_needs_lines_and_draws(tmp_path):
    write_ranked(tmp_path / "two", {("itq", "sbq"): 0.3, ("sh", "sbq"): 0.2})
    assert compute_rankings(collect(tmp_path / "two")) == []
    levels = {("itq", "sbq"): 0.3, ("sh", "sbq"): 0.2, ("lsh", "sbq"): 0.1}
    write_ranked(tmp_path / "few", levels, seeds=range(2))
    assert compute_rankings(collect(tmp_path / "few")) == []
    write_ranked(tmp_path / "some", levels)
    write_ranked(tmp_path / "some", {("pcah", "sbq"): 0.05}, seeds=range(1))
    (found,) = compute_rankings(collect(tmp_path / "some"))
    assert (found.left_out, found.blocks) == (["pcah · sbq"], 16)
    assert "Left out for too few shared draws: pcah · sbq" in format_rankings([found], "mAP")


def test_many_lines_are_ranked_by_projection_and_by_quantiser(tmp_path, monkeypatch):
    monkeypatch.setattr("deephash.report.critical_difference.MAX_LINES", 5)
    levels = {"lsh": 0.1, "sh": 0.2, "itq": 0.3}
    lines = {(method, quantizer): level for method, level in levels.items() for quantizer in ("sbq", "dbq")}
    write_ranked(tmp_path, lines, seeds=range(3))
    (found,) = compute_rankings(collect(tmp_path))  # Two quantisers are too few to rank.
    assert found.names == ["itq", "sh", "lsh"]
    assert found.blocks == 12
    assert found.title.endswith(": projections")


def test_projections_by_quantisers(tmp_path):
    write_ranked(tmp_path, {("itq", "sbq"): 0.3, ("itq", "dbq"): 0.4, ("lsh", "sbq"): 0.1}, seeds=range(1))
    page = format_grid(collect(tmp_path))
    assert page.startswith("mAP, 16 bits: mnist5k, five_way, label truth")
    assert "mAP, 32 bits: " in page
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    assert rows[0] == ["projection", "dbq", "sbq"]
    assert rows[2:4] == [["itq", "**0.4064**", "0.3048"], ["lsh", "–", "**0.1016**"]]
    (tmp_path / "one").mkdir()
    write_run(tmp_path / "one" / "0")
    assert format_grid(collect(tmp_path / "one")) == ""


def test_directions_and_bias_of_two_views(tmp_path):
    for seed, score in enumerate((0.2, 0.3)):
        metrics = {"mAP": score, "image_to_text/mAP": score, "text_to_image/mAP": 0.1, "image_to_text/mAP@50": 0.4}
        bias = {"mAP": {}, "gap": score, "own_share": {"image": 0.75, "text": 1.0}, "bit_agreement": 0.6}
        bias |= {"chance_agreement": 0.5, "depth": 50, "bit_agreement_by_bit": [0.6]}
        write_run(tmp_path / str(seed), "cvh", seed=seed, metrics=metrics, modality_bias=bias)
    runs = collect(tmp_path)
    title, _, header, _, row = format_views(runs).strip().splitlines()
    assert title == "mAP by direction: mnist5k, five_way, label truth, test queries"
    assert "own view, image / text" in header
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("cvh · sbq", "16", "0.2500", "0.1000", "25%", "75% / 100%", "60% (50%)"),
    ]
    assert "0.4000" in format_views(runs, "image_to_text/mAP@50")
    report_sweep(tmp_path)
    assert "mAP by direction" in (tmp_path / "sweep.md").read_text()


def test_one_view_has_no_directions(sweep):
    assert format_views(collect(sweep)) == ""


def test_sweep_over_another_number(tmp_path):
    for size in (250, 1000):
        for bits in (16, 32):
            folder = tmp_path / f"{size}-{bits}"
            write_run(folder, bits=bits, metrics={"mAP": size / 10000 + bits / 1000})
            config = {"seed": 0, "bits": bits, "protocol": {"train": size}}
            OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    report_sweep(tmp_path, over="protocol.train")
    page = (tmp_path / "sweep.md").read_text()
    assert "| method              | seeds |  train 250 | train 1000 |" in page
    assert "itq · sbq · 32 bits" in page
    table = polars.read_csv(tmp_path / "sweep.csv")
    assert sorted(set(table["protocol.train"])) == [250, 1000]
    (axes,) = draw_sweep(collect(tmp_path, "protocol.train"), over="protocol.train").axes
    assert axes.get_xlabel() == "Training items"
    assert list(axes.get_lines()[0].get_xdata()) == [250, 1000]
    assert main([str(tmp_path), "--over", "protocol.name"]) == 2
    with pytest.raises(
        InvalidInputError, match=r"has protocol.name=None; over must be a setting that is a whole number"
    ):
        collect(tmp_path, "protocol.name")
