"""Tables of settings that were chosen on validation queries."""

from functools import partial

from result_files import format_mean

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
