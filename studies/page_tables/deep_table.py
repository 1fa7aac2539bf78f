"""Tables of docs/deep_table.md: deep methods and closed forms on the same features, and published scores."""

from statistics import fmean

from result_files import format_figure, format_mean

from page_tables.deep import DEEP, WITHOUT_LABELS
from page_tables.layout import page_table, results

CLOSED = {"itq_cca": "ITQ+CCA", "sdh": "SDH", "ksh": "KSH", "itq": "ITQ", "lsh": "LSH"}
NO_LABELS = (*WITHOUT_LABELS, "lsh")
CHOICE_DRAW = 100

# Scores of other people: data, depth of mAP, network, method, scores by bits as printed, source.
RERUNS = "common reruns (paper)"
PUBLISHED = (
    ("CIFAR-10, 54,000", "all", "AlexNet", "DPSH", "48: .775 (.757)", RERUNS),
    ("CIFAR-10, 54,000", "all", "AlexNet", "HashNet", "48: .782", RERUNS),
    ("CIFAR-10, 54,000", "all", "AlexNet", "DTSH", "48: .800 (.774)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "DSH", "48: .800 (.676)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "DSDH", "48: .790 (.820)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "GreedyHash", "48: .817 (.822)", RERUNS),
    ("CIFAR-10, 59,000", "all", "AlexNet", "DPN", "48: .787", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "HashNet", "16/32/48/64: .442/.606/.663/.684", "paper"),
    ("ImageNet-100", "1,000", "AlexNet", "DPN", "48: .688", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "GreedyHash", "48: .678 (.688)", RERUNS),
    ("ImageNet-100", "1,000", "AlexNet", "CSQ", "16/32/64: .601/.653/.695", "authors' code"),
    ("ImageNet-100", "1,000", "AlexNet", "OrthoHash", "16/32/64: .608/.679/.711", "paper"),
    ("ImageNet-100", "1,000", "ResNet-50", "CSQ", "16/32/64: .851/.865/.873", "authors' code"),
    ("ImageNet-100", "1,000", "ResNet-50", "CSQ", "64: .881", "common reruns"),
    ("NUS-WIDE-21", "5,000", "AlexNet", "DPSH", "48: .844 (.851)", RERUNS),
    ("NUS-WIDE-21, HashNet's images", "5,000", "AlexNet", "CSQ", "16/32/64: .744/.785/.789", "authors' code"),
    ("NUS-WIDE-21", "5,000", "AlexNet", "OrthoHash", "16/32/64: .804/.830/.845", "paper"),
    ("NUS-WIDE-21, HashNet's images", "5,000", "ResNet-50", "CSQ", "16/32/64: .810/.825/.839", "authors' code"),
    ("COCO", "5,000", "AlexNet", "HashNet", "48: .724 (.7301)", RERUNS),
    ("COCO", "5,000", "AlexNet", "OrthoHash", "16/32/64: .706/.759/.776", "paper"),
    ("COCO", "5,000", "ResNet-50", "CSQ", "16/32/64: .796/.838/.861", "authors' code"),
    ("COCO", "5,000", "ResNet-50", "CSQ", "64: .883", "common reruns"),
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
    """Return mAP at 32 bits, the paired distance to the best method, and the score of a stable sort."""
    found = results("deep_table")
    ordered = order_methods("deep_table", 32)
    best = found.scores("mAP", method=ordered[0], bits=32)
    rows = []
    for method in ordered:
        own = found.scores("mAP", method=method, bits=32)
        behind = "" if method == ordered[0] else format_mean(best[seed] - own[seed] for seed in own)
        stable = format_mean(found.scores("mAP_stable", method=method, bits=32).values())
        rows.append((*name_cells(method), format_mean(own.values()), behind, stable))
    header = ("method", "kind", "mAP, 32 bits", "behind the best, same draws", "mAP, stable sort")
    return page_table(header, rows, range(2, 5))


def unseen_classes() -> str:
    """Return mAP among classes that were not trained on, and the paired distances above ITQ and ITQ+CCA."""
    found = results("deep_table_unseen")
    rows = []
    for method in order_methods("deep_table_unseen", 32):
        own = found.scores("mAP", method=method, bits=32)
        above = [
            ""
            if method == rival
            else format_mean(own[seed] - score for seed, score in found.scores("mAP", method=rival, bits=32).items())
            for rival in ("itq", "itq_cca")
        ]
        rows.append((*name_cells(method), format_mean(own.values()), *above))
    return page_table(("method", "kind", "mAP, 32 bits", "above ITQ", "above ITQ+CCA"), rows, range(2, 5))


def all_lengths() -> str:
    """Return mAP at each number of bits over the draws that all methods have, the best method at 64 bits first."""
    methods = [*DEEP, *CLOSED]
    columns = {}
    for bits in (16, 32, 64):
        scores = {}
        for method in methods:
            file = "deep_table_lengths" if method in DEEP and bits != 32 else "deep_table"
            scores[method] = results(file).scores("mAP", method=method, bits=bits)
        shared = set.intersection(*(set(found) for found in scores.values()))
        columns[bits] = {method: [found[seed] for seed in sorted(shared)] for method, found in scores.items()}
    rows = [
        (*name_cells(method), *(format_mean(found[method]) for found in columns.values()))
        for method in sorted(methods, key=lambda method: -fmean(columns[64][method]))
    ]
    counts = {bits: len(found[methods[0]]) for bits, found in columns.items()}
    titles = (f"{bits} bits, {count} draw{'s' if count > 1 else ''}" for bits, count in counts.items())
    return page_table(("method", "kind", *titles), rows, range(2, 5))


def fine_tuned() -> str:
    """Return the scores of CSQ with the frozen and with the fine-tuned network, in the same draw."""
    rows = []
    for name, file in (("frozen, 224 pixels", "deep_table"), ("fine-tuned, 112 pixels", "deep_table_finetuned")):
        scores = [results(file).scores(metric, method="csq", bits=32)[0] for metric in ("mAP", "mAP_stable")]
        rows.append((name, *map(format_figure, scores)))
    return page_table(("CSQ, 32 bits, seed 0", "mAP", "mAP, stable sort"), rows, range(1, 3))


def rates() -> str:
    """Return the scores of the learning rates on validation queries, after 30 epochs."""
    found = results("deep_table_rates")
    tried = sorted({run["train.optimizer.lr"] for run in found.select()})
    rows = []
    for method, name in DEEP.items():
        scores = [found.scores("mAP", method=method, **{"train.optimizer.lr": rate})[CHOICE_DRAW] for rate in tried]
        rows.append((f"[{name}](methods/{method}.md)", *map(format_figure, scores)))
    return page_table(("30 epochs", *(f"{rate:g}" for rate in tried)), rows, range(1, len(tried) + 1))


def heads() -> str:
    """Return the scores of closed forms on validation queries with the features and with their signed roots."""
    found = results("deep_table_heads")
    rows = []
    for method, name in CLOSED.items():
        scores = [
            found.scores("mAP", method=method, **{"head._target_": f"deephash.encoders.{head}"})[CHOICE_DRAW]
            for head in ("Identity", "SignedRoots")
        ]
        rows.append((f"[{name}](methods/{method}.md)", *map(format_figure, scores)))
    return page_table(("", "features", "signed roots"), rows, range(1, 3))


def published() -> str:
    """Return the scores of papers and of other people's reruns."""
    header = ("data", "mAP at", "network, fine-tuned", "method", "bits: mAP", "source")
    return page_table(header, PUBLISHED)


TABLES = {
    "deep_table": seen_classes,
    "deep_table_unseen": unseen_classes,
    "deep_table_lengths": all_lengths,
    "deep_table_finetuned": fine_tuned,
    "deep_table_rates": rates,
    "deep_table_heads": heads,
    "deep_table_published": published,
}
