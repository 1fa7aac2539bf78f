"""The page of one run: its title, figures, warnings and files."""

from deephash.report.summary import format_title, order_metrics, print_summary

RESULT = {
    "method": "itq",
    "quantizer": "sbq",
    "bits": 64,
    "data": "mnist5k",
    "protocol": "literature",
    "truth": "label",
    "score": "test",
    "k": [100, 1000],
    "seed": 7,
    "split": "0123456789abcdef",
    "sizes": {"train": 4000, "query": 1000, "database": 4000},
    "metrics": {"mAP@100": 0.5, "mAP": 0.43216, "mAP_best": 0.44, "mAP@100/hits": 0.6, "AUPRC_micro": 0.39},
    "skipped_queries": 12,
    "seconds": {"fit": 1.234, "rank": 0.5},
    "warnings": ["dead bits: 3 of 64 [all]"],
}


def test_title():
    assert format_title(RESULT) == "itq · sbq, 64 bits, mnist5k"
    assert format_title({"bits": 8}) == "8 bits"


def test_leading_metrics_come_first():
    assert [name for name, _ in order_metrics(RESULT)][:3] == ["mAP", "AUPRC_micro", "mAP@100"]


def test_terminal_page(tmp_path, capsys):
    (tmp_path / "metrics.json").write_text("{}")
    print_summary(RESULT, tmp_path)
    page = capsys.readouterr().out
    assert "itq · sbq, 64 bits, mnist5k" in page
    assert "0.4322" in page
    for line in ("protocol literature", "truth    label", "k        100, 1000", "seed     7", "split    0123456789ab"):
        assert line in page
    assert "train 4,000, query 1,000, database 4,000" in page
    assert "fit 1.23, rank 0.50" in page
    assert "queries without a relevant item, left out: 12" in page
    assert "warning: dead bits: 3 of 64 [all]" in page
    assert str(tmp_path) in page
    assert "metrics.json" in page
    assert "pr_curve.png" not in page


def test_terminal_page_quotes_no_comparison_figures(tmp_path, capsys):
    print_summary(RESULT, tmp_path)
    page = capsys.readouterr().out
    assert "mAP_best" not in page
    assert "/hits" not in page
    assert "2 more, for other tie orders and denominators, in metrics.json" in page


TWO_VIEWS = {
    "method": "cvh",
    "quantizer": "sbq",
    "bits": 8,
    "data": "wiki",
    "metrics": {
        "mAP": 0.187,
        "AUPRC_micro": 0.175,
        "mAP@50": 0.11,
        "mAP@50/hits": 0.2,
        "precision@50": 0.15,
        "image_to_text/mAP": 0.1894,
        "image_to_text/AUPRC_micro": 0.17,
        "image_to_text/mAP@50": 0.1,
        "image_to_text/precision@50": 0.16,
        "text_to_text/mAP": 0.41,
        "text_to_text/AUPRC_micro": 0.39,
        "text_to_text/mAP@50": 0.4,
    },
    "modality_bias": {
        "gap": 0.026,
        "depth": 50,
        "own_share": {"image": 0.52, "text": 0.71},
        "database_share": {"image": 0.5, "text": 0.5},
        "bit_agreement": 0.58,
        "chance_agreement": 0.51,
    },
}


def test_two_views_are_one_table_of_directions(tmp_path, capsys):
    print_summary(TWO_VIEWS, tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.replace("│", " ").splitlines()]
    assert ["mean", "across", "views", "0.1870", "0.1750", "0.1100"] in lines
    assert ["image", "→", "text", "0.1894", "0.1700", "0.1000"] in lines
    assert ["text", "→", "text", "0.4100", "0.3900", "0.4000"] in lines
    assert ["3", "more", "metrics", "in", "metrics.json"] in lines
    assert ["bits", "on", "which", "a", "pair", "agrees:", "58%", "(by", "chance", "51%)"] in lines
    assert len(lines) < 20


def test_the_title_names_the_protocol_of_learnt_codes():
    assert format_title(TWO_VIEWS | {"database_codes": "functions"}) == "cvh · sbq, 8 bits, wiki"
    assert format_title(TWO_VIEWS | {"database_codes": "learnt"}).endswith("wiki, database by learnt codes")


def test_files_are_said_to_be_what_they_are_without_their_pictures(tmp_path, capsys):
    for name in ("pr_curve.json", "history.json"):
        (tmp_path / name).touch()
    print_summary({"metrics": {"mAP": 0.5}}, tmp_path)
    printed = capsys.readouterr().out
    assert "pr_curve.json      precision-recall curve as numbers\n" in printed
    assert "history.json       validation score and losses by epoch, as numbers\n" in printed
    assert "the same" not in printed


def test_an_offline_run_says_how_it_is_sent(tmp_path, capsys):
    folder = tmp_path / "a run"
    (folder / "wandb" / "offline-run-20260101_000000-abc").mkdir(parents=True)
    (folder / "wandb" / "latest-run").mkdir()
    print_summary({"metrics": {"mAP": 0.5}}, folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if "wandb" in line]
    assert lines == [f"W&B      wandb sync '{folder}/wandb/offline-run-20260101_000000-abc'"]


def test_a_folder_inside_the_working_folder_is_printed_relative_to_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    print_summary({"metrics": {"mAP": 0.5}}, tmp_path / "runs" / "one")
    print_summary({"metrics": {"mAP": 0.5}}, tmp_path.parent)
    shown = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("files")]
    assert shown == ["runs/one", str(tmp_path.parent)]
