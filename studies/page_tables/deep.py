"""Tables of the deep methods: one on each method's page, and all of them on docs/methods/index.md."""

from functools import partial

from result_files import format_mean

from page_tables.layout import page_table, results

DEEP = {
    "csq": "CSQ",
    "dpn": "DPN",
    "dsh": "DSH",
    "dpsh": "DPSH",
    "hashnet": "HashNet",
    "dsdh": "DSDH",
    "dtsh": "DTSH",
    "greedyhash": "GreedyHash",
    "orthohash": "OrthoHash",
    "mdshc": "MDSHC",
    "dhd": "DHD",
    "cibhash": "CIBHash",
    "bihalf": "Bi-half",
}
BESIDE_DEEP = {"ksh": "KSH", "itq_cca": "ITQ+CCA", "itq": "ITQ"}
WITHOUT_LABELS = ("cibhash", "bihalf", "itq")
# Methods whose runs are in files of their own, such as deep_digits_newer, by the end of the file's name.
APART = {"mdshc": "_newer", "dhd": "_newer", "dtsh": "_dtsh"}
# Heading, result file, training items, searched items.
DEEP_DATA = (
    ("5,000 digits of MNIST", "deep_digits", "1,000", "2,500"),
    ("CIFAR-10 as 512-D GIST", "deep_gist", "5,000", "54,000"),
)


def find_scores(name: str, method: str) -> dict[int, float]:
    """Return the mAP of a method at 32 bits by seed, from a result file or its companion."""
    return results(name + APART.get(method, "")).scores("mAP", method=method, bits=32)


def deep_method(method: str) -> str:
    """Return the table of a deep method's page: its scores beside ITQ's, and KSH's if it learns from labels."""
    beside = [method, "itq"] if method in WITHOUT_LABELS else [method, "itq", "ksh"]
    rows = []
    for data, name, trained, searched in DEEP_DATA:
        scores = [find_scores(name, other) for other in beside]
        rows.append((data, trained, searched, str(len(scores[0])), *(format_mean(s.values()) for s in scores)))
    names = [(DEEP | BESIDE_DEEP)[other] for other in beside]
    return page_table(("", "trained on", "searched", "draws", *names), rows)


def deep_methods() -> str:
    """Return the table of all deep methods, ordered by their scores on digits, with paired gaps to CSQ."""
    names = DEEP | BESIDE_DEEP
    means = {}
    rows = {}
    for method in names:
        suffix = ", no labels" if method in WITHOUT_LABELS else ""
        row = [f"[{names[method]}]({method}.md){suffix}"]
        for _, name, _, _ in DEEP_DATA:
            own, best = (find_scores(name, other) for other in (method, "csq"))
            gaps = [best[seed] - own[seed] for seed in own]
            row += [format_mean(own.values()), "" if method == "csq" else format_mean(gaps)]
            means.setdefault(method, sum(own.values()) / len(own))
        rows[method] = tuple(row)
    header = ["method"]
    for data, name in (("digits", "deep_digits"), ("GIST", "deep_gist")):
        draws = {3: "three", 5: "five"}[len(find_scores(name, "csq"))]
        header += [f"{data}, {draws} draws", "CSQ's lead on the same draw"]
    ordered = sorted(rows, key=lambda method: -means[method])
    return page_table(tuple(header), [rows[method] for method in ordered], right=range(1, 5))


TABLES = {f"deep_{method}": partial(deep_method, method) for method in DEEP} | {"deep_methods": deep_methods}
