"""Tables of settings that were chosen on validation queries."""

from functools import partial
from statistics import fmean

from result_files import format_figure, format_mean, group_by

from page_tables.layout import page_table, results, slashed_means

DIRECTIONS = ("image_to_text/mAP", "text_to_image/mAP")


def cross_modal_choice(method: str, published: tuple[str, str], default: str, other: str) -> str:
    """Return the table of a method's page: published scores, those of the defaults, and those of other settings."""
    fixed = {"method": method, "protocol": "wiki_rcmh", "score": "test"}
    rows = [("published", *published)]
    for heading, settings in (("here", default), (f"`{other}`", other)):
        scores = [slashed_means("cross_modal_choices", way, settings=settings, **fixed) for way in DIRECTIONS]
        rows.append((heading, *scores))
    return page_table(("", "image→text", "text→image"), rows)


def sdh_anchors() -> str:
    """Return the table of SDH's validation scores by number of anchors."""
    found = results("sdh_anchors")
    rows = []
    for anchors in sorted({run["projection.anchors"] for run in found.select(score="validation")}):
        fixed = {"score": "validation", "projection.anchors": anchors}
        scores = [format_mean(found.scores("mAP", bits=bits, **fixed).values()) for bits in (16, 32, 64)]
        rows.append((f"{anchors:,}", *scores))
    return page_table(("anchors", "16 bits", "32 bits", "64 bits"), rows, range(4))


def deep_choice(name: str, metric: str, **symbols: str) -> str:
    """Return validation scores of settings of a deep method, means over draws: `.809 for s = 0.3 and .808 for s = 0.5`.

    Args:
        name: name of the result file.
        metric: name of the metric.
        symbols: for each symbol of the sentence, the field that it stands for.
    """
    parts = []
    for values, runs in group_by(results(name).select(score="validation"), *symbols.values()).items():
        settings = " and ".join(f"{symbol} = {value:g}" for symbol, value in zip(symbols, values, strict=True))
        parts.append(f"{format_figure(fmean(run[metric] for run in runs))} for {settings}")
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


FIGURES = {
    "dhd_choice": partial(deep_choice, "dhd_choice", "mAP", s="augmentation.strong.scale"),
    "dtsh_margins": partial(deep_choice, "dtsh_choice", "mAP", α="loss.dtsh.margin"),
    "mdshc_choice": partial(
        deep_choice, "mdshc_choice", "mAP", β="loss.mdshc.pair_weight", λ="loss.mdshc.quantization_weight"
    ),
    "dchmt_choice": partial(deep_choice, "dchmt_choice", "mAP", **{"ϑ": "loss.dchmt.error_rate"}),
}
TABLES = {
    "cmssh_wiki_rcmh": partial(
        cross_modal_choice,
        "cmssh",
        (".144 / .150 / .142", ".112 / .112 / .112"),
        "projection.step=null projection.threshold_rounds=2",
        "projection.step=1 projection.threshold_rounds=0",
    ),
    "pdh_wiki_rcmh": partial(
        cross_modal_choice,
        "pdh",
        (".211 / .219 / .227", ".179 / .186 / .190"),
        "projection.decorrelation=nearest",
        "projection.decorrelation=eigenvectors",
    ),
    "sdh_anchors": sdh_anchors,
}
