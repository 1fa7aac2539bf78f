"""Tables of docs/ksh_or_itq.md: KSH and ITQ on the digits, by code length and by what is relevant and searched."""

from result_files import format_mean

from page_tables.layout import page_table, results, rows_by_bits

NAMES = {"ITQ": "itq", "KSH": "ksh"}
LABELS, PAIRS = "deephash.affinity.Label", "deephash.affinity.EpsilonBall"
# What is relevant, what KSH learns from, what is searched → truth, supervision, protocol.
CASES = {
    ("the same digit", "classes", "other digits"): ("label", LABELS, "five_way_small"),
    ("near digits", "classes", "other digits"): ("epsilon_ball", LABELS, "five_way_small"),
    ("near digits", "near pairs", "other digits"): ("epsilon_ball", PAIRS, "five_way_small"),
    ("the same digit", "classes", "the training digits"): ("label", LABELS, "literature"),
}


def by_bits() -> str:
    """Return the mAP of both methods at every code length."""
    return rows_by_bits("ksh_or_itq_bits", {name: ("mAP", {"method": word}) for name, word in NAMES.items()})


def by_case() -> str:
    """Return the mAP of both methods by what is relevant, what KSH learns from and what is searched."""
    found = results("ksh_or_itq_cases")
    rows = []
    for words, (truth, supervision, protocol) in CASES.items():
        # ITQ does not use the supervision, so its runs have only one.
        itq = found.scores("mAP", method="itq", truth=truth, protocol=protocol)
        values = {"method": "ksh", "truth": truth, "supervision._target_": supervision, "protocol": protocol}
        ksh = found.scores("mAP", **values)
        rows.append((*words, format_mean(itq.values()), format_mean(ksh.values())))
    return page_table(("relevant", "KSH learns from", "searched", *NAMES), rows, right=(3, 4))


TABLES = {"ksh_or_itq_bits": by_bits, "ksh_or_itq_cases": by_case}
