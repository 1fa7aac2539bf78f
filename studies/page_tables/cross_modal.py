"""Tables of cross-modal methods on Wiki: scores under both protocols, modality bias, and published scores."""

from collections.abc import Callable
from functools import partial
from statistics import fmean

from result_files import format_figure, format_mean

from page_tables.layout import page_table, results, slashed_means

METHODS = {
    "cvh": "CVH",
    "cmssh": "CMSSH",
    "crh": "CRH",
    "imh": "IMH",
    "pdh": "PDH",
    "cmfh": "CMFH",
    "rcmh": "RCMH",
    "scm_sequential": "SCM, sequential",
    "seph": "SePH",
}
DEEP_METHODS = {"dcmh": "DCMH", "dchmt": "DCHMT", "djsrh": "DJSRH, no labels", "ucch": "UCCH, no labels"}
RATE = "train.optimizer.lr"
WITH_LEARNT_CODES = ("imh", "pdh", "cmfh", "rcmh", "seph")
DIRECTIONS = ("image_to_text", "text_to_image", "image_to_image", "text_to_text")
BITS = (16, 32, 64)


def percent(share: float) -> str:
    """Format a share as a percentage without decimals."""
    return f"{100 * share:.0f} %"


def wiki_table() -> str:
    """Return means over seeds of every method's scores in each direction, and of its modality bias."""
    rows = []
    for method, name in METHODS.items():
        for bits in BITS:
            runs = results("wiki").select(method=method, bits=bits, **{"metrics.database_codes": "functions"})
            numbers = [field for field, value in runs[0].items() if not isinstance(value, str)]
            run = {field: fmean(run[field] for run in runs) for field in numbers}
            bias = {sign: run[f"modality_bias.{sign}"] for sign in ("gap", "bit_agreement", "chance_agreement")}
            shares = " / ".join(percent(run[f"modality_bias.own_share.{view}"]) for view in ("image", "text"))
            agreement = f"{percent(bias['bit_agreement'])} ({percent(bias['chance_agreement'])})"
            scores = (format_figure(run[f"{direction}/mAP"]) for direction in DIRECTIONS)
            heading = f"[{name}](methods/{method}.md)" if bits == BITS[0] else ""
            rows.append((heading, str(bits), *scores, percent(bias["gap"]), shares, agreement))
    directions = (direction.replace("_to_", "→") for direction in DIRECTIONS)
    signs = ("gap", "own view in the first 50, image / text", "bits that pairs agree in (by chance)")
    return page_table(("method", "bits", *directions, *signs), rows, range(1, 9))


def deep_table(*methods: str, links: str = "") -> str:
    """Return the scores of deep methods at 32 bits across views: means of the draws with intervals.

    Args:
        methods: keys of the methods, in order.
        links: folder of the methods' pages, seen from the page with the table.
    """
    rows = []
    for method in methods:
        name, comma, suffix = DEEP_METHODS[method].partition(",")
        rates = dict.fromkeys(run[RATE] for run in results("wiki_deep").select(method=method))
        for rate in rates:
            fixed = {"method": method, "bits": 32, RATE: rate}
            scores = (results("wiki_deep").scores(f"{way}/mAP", **fixed) for way in DIRECTIONS[:2])
            heading = f"[{name}]({links}{method}.md){comma}{suffix}"
            rows.append((heading, f"{rate:g}", *(format_mean(score.values()) for score in scores)))
    return page_table(("32 bits", "learning rate", "image→text", "text→image"), rows, (1, 2, 3))


def rates_table() -> str:
    """Return the validation scores of the deep methods at two learning rates: mean mAP of both directions."""
    found = results("wiki_rates")
    rates = sorted({run[RATE] for run in found.select()})
    rows = []
    for method, name in DEEP_METHODS.items():
        runs = ([run["mAP"] for run in found.select(method=method, **{RATE: rate})] for rate in rates)
        rows.append((name, *(format_figure(fmean(scores)) for scores in runs)))
    return page_table(("learning rate", *(f"{rate:g}" for rate in rates)), rows, (1, 2))


def learnt_codes_table() -> str:
    """Return the scores against the codes that the fit learnt for the database, of one draw."""
    fixed = {"metrics.database_codes": "learnt"}
    directions = DIRECTIONS[:2]
    rows = [
        (METHODS[method], *(slashed_means("wiki", f"{way}/mAP", method=method, **fixed) for way in directions))
        for method in WITH_LEARNT_CODES
    ]
    headings = (f"{way.replace('_to_', '→')} at {' / '.join(map(str, BITS))} bits" for way in directions)
    return page_table(("database by learnt codes", *headings), rows)


def beside_published(name: str, published: tuple[str, str], rows: dict[str, dict[str, str]]) -> str:
    """Return our scores under the protocol of RCMH's paper, below the published ones.

    Args:
        name: name of the result file.
        published: scores of image→text and of text→image.
        rows: for each heading, the field values that select its runs.
    """
    cells = [
        (heading, *(slashed_means(name, f"{way}/mAP", **fixed) for way in DIRECTIONS[:2]))
        for heading, fixed in rows.items()
    ]
    return page_table(("", "image→text", "text→image"), [("published", *published), *cells])


def new_items(method: str, rate: float) -> str:
    """Return the mean validation score of text→image, whose database is not trained on."""
    runs = results("wiki_rates").select(method=method, **{RATE: rate})
    return format_figure(fmean(run["text_to_image/mAP"] for run in runs))


FIGURES = {"dchmt_new_items": partial(new_items, "dchmt", 0.003)}
TABLES: dict[str, Callable[[], str]] = {
    "wiki": wiki_table,
    "wiki_learnt_codes": learnt_codes_table,
    "wiki_deep": partial(deep_table, *DEEP_METHODS, links="methods/"),
    "wiki_rates": rates_table,
    "wiki_dchmt": partial(deep_table, "dchmt", "dcmh"),
    "wiki_dcmh": partial(deep_table, "dcmh"),
    "wiki_djsrh": partial(deep_table, "djsrh"),
    "wiki_ucch": partial(deep_table, "ucch", "djsrh"),
    "crh_wiki_rcmh": partial(
        beside_published, "crh_wiki_rcmh", (".163 / .175 / .170", ".127 / .124 / .127"), {"here": {}}
    ),
    "rcmh_wiki_rcmh": partial(
        beside_published,
        "rcmh_wiki_rcmh",
        (".244 / .246 / .259", ".207 / .192 / .220"),
        {
            f"from {name}, α = .75": {"projection.initial._target_": f"deephash.projections.{kind}"}
            for name, kind in (("ITQ+CCA", "ITQCCA"), ("LSH", "LSH"))
        },
    ),
}
