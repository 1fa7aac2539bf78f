"""Tables of README.md, and their rows on the pages of methods."""

from collections.abc import Iterable
from functools import partial

from page_tables.layout import rows_by_bits

METHODS = {"lsh": "LSH", "pcah": "PCAH", "itq": "ITQ"}


def unsupervised(methods: Iterable[str] = METHODS) -> str:
    """Return the scores of methods without labels by number of bits."""
    return rows_by_bits("unsupervised", {METHODS[method]: ("mAP", {"method": method}) for method in methods})


TABLES = {
    "itq_five_way": partial(
        rows_by_bits,
        "itq_five_way",
        {
            "tie-aware mAP": ("mAP", {}),
            "AUPRC, micro": ("AUPRC_micro", {}),
            "AUPRC, mean over queries": ("AUPRC_macro", {}),
            "precision@100": ("precision@100", {}),
        },
        decimals=4,
    ),
    "unsupervised": unsupervised,
    **{f"unsupervised_{method}": partial(unsupervised, [method]) for method in METHODS},
}
