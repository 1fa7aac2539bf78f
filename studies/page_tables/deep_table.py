"""Tables of docs/deep_table.md: deep methods and closed forms on the same features, and published scores."""

from statistics import fmean

from result_files import format_figure, format_mean

from page_tables.deep import DEEP, WITHOUT_LABELS
from page_tables.layout import page_table, results

CLOSED = {"itq_cca": "ITQ+CCA", "sdh": "SDH", "ksh": "KSH", "itq": "ITQ", "lsh": "LSH"}
NO_LABELS = (*WITHOUT_LABELS, "lsh")
BITS = (16, 32, 64)

# Scores of other people: data, depth of mAP, network, method, scores by bits as printed, source.
RERUNS = "common reruns (paper)"
PUBLISHED = (
    ("CIFAR-10, 54,000", "all", "AlexNet", "DPSH", "48: .775 (.757)", RERUNS),
    ("CIFAR-10, 54,000", "all", "AlexNet", "HashNet", "48: .782", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "DSDH", "48: .790 (.820)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "GreedyHash", "48: .817 (.822)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "DPN", "48: .787", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "HashNet", "16/32/48/64: .442/.606/.663/.684", "paper"),
    ("ImageNet-100", "1,000", "AlexNet", "DPN", "48: .688", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "GreedyHash", "48: .678 (.688)", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "CSQ", "16/32/64: .601/.653/.695", "authors' code"),
    ("ImageNet-100", "1,000", "AlexNet", "OrthoHash", "16/32/64: .608/.679/.711", "paper"),
    ("ImageNet-100", "1,000", "ResNet-50", "CSQ", "16/32/64: .851/.865/.873", "authors' code"),
    ("NUS-WIDE-21", "5,000", "AlexNet", "DPSH", "48: .844 (.851)", RERUNS),
    ("NUS-WIDE-21", "5,000", "AlexNet", "CSQ", "16/32/64: .744/.785/.789", "authors' code"),
    ("NUS-WIDE-21", "5,000", "AlexNet", "OrthoHash", "16/32/64: .804/.830/.845", "paper"),
    ("NUS-WIDE-21", "5,000", "ResNet-50", "CSQ", "16/32/64: .810/.825/.839", "authors' code"),
    ("COCO", "5,000", "AlexNet", "HashNet", "48: .724 (.7301)", RERUNS),
    ("COCO", "5,000", "AlexNet", "OrthoHash", "16/32/64: .706/.759/.776", "paper"),
    ("COCO", "5,000", "ResNet-50", "CSQ", "16/32/64: .796/.838/.861", "authors' code"),
)


def name_cells(method: str) -> tuple[str, str]:
    """Return the linked name of a method and its kind."""
    kind = "deep" if method in DEEP else "closed form"
    return f"[{(DEEP | CLOSED)[method]}](methods/{method}.md)", kind + (", no labels" if method in NO_LABELS else "")


def order_methods(name: str, bits: int) -> list[str]:
    """Return the methods of a result file by their mean mAP, the best first."""
    found = results(name)
    methods = {run["method"] for run in found.select(bits=bits)}
    return sorted(methods, key=lambda method: -fmean(found.scores("mAP", method=method, bits=bits).values()))


def seen_classes() -> str:
    """Return mAP by bits, and at 32 bits the distance to the best method and the score of a stable sort."""
    found = results("deep_table")
    ordered = order_methods("deep_table", 32)
    best = found.scores("mAP", method=ordered[0], bits=32)
    rows = []
    for method in ordered:
        cells = [format_mean(found.scores("mAP", method=method, bits=bits).values()) for bits in BITS]
        own = found.scores("mAP", method=method, bits=32)
        behind = "" if method == ordered[0] else format_mean(best[seed] - own[seed] for seed in own)
        stable = format_figure(fmean(found.scores("mAP_stable", method=method, bits=32).values()))
        rows.append((*name_cells(method), *cells, behind, stable))
    header = ("method", "kind", *(f"{bits} bits" for bits in BITS), "behind the best, 32 bits", "stable sort, 32 bits")
    return page_table(header, rows, range(2, 7))


def unseen_classes() -> str:
    """Return scores at 32 bits among classes without training items, and paired distances to ITQ."""
    found = results("deep_table_unseen")
    baseline = found.scores("mAP", method="itq", bits=32)
    rows = []
    for method in order_methods("deep_table_unseen", 32):
        own, near = (found.scores(metric, method=method, bits=32) for metric in ("mAP", "precision@100"))
        above = "" if method == "itq" else format_mean(own[seed] - baseline[seed] for seed in own)
        rows.append((*name_cells(method), format_mean(own.values()), above, format_mean(near.values())))
    return page_table(("method", "kind", "mAP", "above ITQ", "precision@100"), rows, range(2, 5))


def published() -> str:
    """Return the scores of papers and of other people's reruns."""
    header = ("data", "mAP at", "network, fine-tuned", "method", "bits: mAP", "source")
    return page_table(header, PUBLISHED)


def gap(name: str, first: str, second: str, bits: int) -> str:
    """Return how far one method is above another on the same draws."""
    above, below = (results(name).scores("mAP", method=method, bits=bits) for method in (first, second))
    return format_mean(above[seed] - below[seed] for seed in above)


TABLES = {"deep_table": seen_classes, "deep_table_unseen": unseen_classes, "deep_table_published": published}
FIGURES: dict[str, object] = {}
