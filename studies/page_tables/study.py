"""Table of docs/user_study.md: number of participants of a study."""

from page_tables.layout import page_table, results


def sample_sizes() -> str:
    """Return the number of participants by preference and intraclass correlation."""
    found = results("study_power")
    correlations = sorted({run["icc"] for run in found.select()})
    rows = []
    for preference in sorted({run["preference"] for run in found.select()}):
        runs = {run["icc"]: run for run in found.select(preference=preference)}
        first = runs[correlations[0]]
        judgements = f"{first['independent_judgements']:,}"
        independent = (
            f"{first['independent_participants']} ({judgements} judgements)"
            if not rows
            else (f"{first['independent_participants']} ({judgements})")
        )
        participants = (str(runs[icc]["clustered_participants"]) for icc in correlations)
        rows.append((format(preference, "g").removeprefix("0"), independent, *participants))
    headings = (f"ICC {format(icc, 'g').removeprefix('0')}" for icc in correlations)
    return page_table(("preference, of the decided", "independent", *headings), rows)


TABLES = {"study_power": sample_sizes}
