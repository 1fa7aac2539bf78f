"""The table of docs/methods/nested_itq.md: recall by prefixes of one code, and by codes of each length."""

from result_files import format_mean

from page_tables.layout import page_table, results

COLLECTIONS = {"gist": "GIST", "efficientnet": "EfficientNet-Lite0"}
LINES = {
    "nested_itq": "prefixes of nested ITQ, 512 bits",
    "itq": "[ITQ](itq.md), a code for each length",
    "itq_prefix": "prefixes of ITQ, 512 bits",
}


def recall_by_prefixes() -> str:
    """Return recall by features, code and bits."""
    found = results("nested_codes")
    lengths = sorted({run["bits"] for run in found.select()})
    rows = [
        (
            features,
            line,
            *(format_mean(found.scores("recall", data=data, method=method, bits=bits).values()) for bits in lengths),
        )
        for data, features in COLLECTIONS.items()
        for method, line in LINES.items()
    ]
    return page_table(("features", "code", *(f"{bits} bits" for bits in lengths)), rows, range(2, 2 + len(lengths)))


TABLES = {"nested_codes": recall_by_prefixes}
