"""Model cards: the README.md of a model repository, with metadata that the hub reads."""

import inspect
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deephash.codes import code_bytes
from deephash.functional.flat_images import image_shape
from deephash.hashers import storage
from deephash.validation import InvalidInputError

# Identifiers of licences on the hub, such as apache-2.0.
LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
TAGS = ("learning-to-hash", "binary-codes", "nearest-neighbour-search")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric of a run.

    Args:
        name: name of the metric.
        value: its value, the mean over all orders of equal distances.
        interval: 95 % interval of the mean over queries; None if the metric is not a mean over queries.
        worst: value if items that are not relevant come first among equal distances; None if not computed.
        best: value if relevant items come first.
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    worst: float | None = None
    best: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Measurements of a run, for a model card.

    Args:
        settings: names and values, such as data and protocol, in order.
        data: name of the data set.
        queries: number of queries scored; None if it differs between metrics.
        figures: metrics, the most important first.
        notes: sentences that a reader of the figures needs.
        is_joint: whether all parts were trained together after they were fitted.
        method: name of the run's method, a tag of the card; None for none.
        losses: classes of the losses of joint training, whose references the card gives.
    """

    settings: Mapping[str, str]
    data: str
    queries: int | None
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_joint: bool = False
    method: str | None = None
    losses: tuple[type[Any], ...] = ()


def render_card(description: dict[str, Any], repo: str, license: str | None, evidence: Evidence | None) -> str:
    """Return the text of a model card.

    Args:
        description: result of the hasher's `describe`.
        repo: name of the repository, `user/name`, or of a folder, for the example.
        license: identifier of the licence of the weights; with None, the card says that none is stated.
        evidence: figures of a run; with None, the card has no figures.

    Raises:
        InvalidInputError: a licence that is not an identifier.
    """
    if license is not None and not LICENCE.fullmatch(license):
        raise InvalidInputError(f"license={license!r}; expected an identifier, such as mit or cc-by-4.0.")
    parts = list(list_parts(description))
    title = describe_title(description, evidence)
    header = to_yaml(list_metadata(description, repo, license, evidence))
    losses = evidence.losses if evidence else ()
    parts += [("loss", loss.__name__, *read_docstring(loss)) for loss in losses]
    table = "\n".join(f"| {stage} | {escape(name)} | {escape(summary)} |" for stage, name, summary, _ in parts)
    sections = [
        f"---\n{header}---",
        f"# {escape(title)}",
        f"A hasher of the Python package `deephash`. {describe_codes(description)}",
        f"| stage | class | |\n| --- | --- | --- |\n{table}",
        "## Use",
        f'```bash\npip install "deephash[{list_extras(description)}]"\n```',
        f"```python\n{write_example(description, repo)}\n```",
        'Codes are packed 8 bits to a byte in the order of `numpy.packbits(..., bitorder="little")`, which FAISS '
        "shares. `deephash.codes.swap_bit_order` converts them to and from the order of NumPy's default.",
    ]
    if evidence is not None:
        sections += ["## Evaluation", *describe_evidence(evidence)]
    if evidence is not None and evidence.is_joint:
        part = description.get("encoder", {})
        frozen = " except the frozen network" if find_network(part) and part["arguments"].get("frozen") else ""
        sections.insert(
            4,
            f"Joint training changed the weights of these parts{frozen} after each was fitted as described in the "
            f"table{', by the loss in its last row' if len(losses) == 1 else ', by the losses' if losses else ''}.",
        )
    references = [reference for _, _, _, reference in parts if reference]
    if references:
        sections += ["## References", "\n".join(f"- {escape(reference)}" for reference in dict.fromkeys(references))]
    sections += ["## Licence", f"`{license}`." if license else "The author states no licence for the weights."]
    return "\n\n".join(sections) + "\n"


def list_metadata(
    description: dict[str, Any], repo: str, license: str | None, evidence: Evidence | None
) -> dict[str, Any]:
    """Return the metadata of a card as the hub reads it."""
    words = [evidence.method] if evidence and evidence.method else []
    words += [word for stage, word, _, _ in list_parts(description) if stage not in ("encoder", "head")]
    metadata: dict[str, Any] = {"library_name": "deephash", "pipeline_tag": "feature-extraction"}
    if license:
        metadata["license"] = license
    metadata["tags"] = [*TAGS, *dict.fromkeys(word.lower() for word in words)]
    figures = [figure for figure in evidence.figures if math.isfinite(figure.value)] if evidence else []
    if evidence is not None and figures:
        metadata["model-index"] = [
            {
                "name": repo.rpartition("/")[2],
                "results": [
                    {
                        "task": {"type": "feature-extraction", "name": "Hamming ranking"},
                        "dataset": {"type": evidence.data, "name": evidence.data},
                        "metrics": [{"type": figure.name, "value": round(figure.value, 5)} for figure in figures],
                    }
                ],
            }
        ]
    return metadata


def list_parts(description: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Yield stage, class, summary and reference of the parts of a hasher; parts of equal views are listed once."""
    seen = set()
    for stage in ("encoder", "projection", "quantizer"):
        parts = [description[stage]] if stage in description else description.get(f"{stage}s", {}).values()
        for part in parts:
            kind, name = storage.find_class(part)
            network = find_network(part)
            name = kind.__name__ if kind else name
            row = (stage, f"{name} {network}" if network else name, *read_docstring(kind))
            if row not in seen and row[1] != "Identity":
                seen.add(row)
                yield row
            head = part["arguments"].get("head")
            if storage.is_description(head):
                kind, name = storage.find_class(head)
                yield "head", kind.__name__ if kind else name, *read_docstring(kind)


def read_docstring(kind: type[Any] | None) -> tuple[str, str]:
    """Return the summary line and the references of a class's docstring; empty if it has none."""
    text = inspect.getdoc(kind) or "" if kind else ""
    reference = re.search(r"References:\n((?:    .*\n?)+)", text)
    return text.partition("\n")[0], " ".join(reference[1].split()) if reference else ""


def describe_title(description: dict[str, Any], evidence: Evidence | None) -> str:
    """Return the title of a card: the projection, the quantiser and the bits; after joint training, the encoder too."""
    is_joint = evidence is not None and evidence.is_joint
    names = [
        name
        for stage, name, _, _ in list_parts(description)
        if name != "SBQ" and (stage not in ("encoder", "head") or is_joint)
    ]
    losses = " and ".join(loss.__name__ for loss in evidence.losses) if evidence else ""
    trained = f", trained jointly{f' by {losses}' if losses else ''}" if is_joint else ""
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{listed}{trained}, {description['sizes']['bits']} bits"


def describe_codes(description: dict[str, Any]) -> str:
    """Return a sentence about the input and the output of a hasher."""
    sizes = description["sizes"]
    codes = f"binary codes of {sizes['bits']} bits ({count_bytes(sizes['bits'])})"
    shape = find_image_shape(description)
    if shape is not None:
        channels, height, width = shape
        return (
            f"It maps images of {height} × {width} pixels to {codes}, so that similar images have codes at a small "
            f"distance. An image is a row of {sizes['input_dim']} numbers from 0 to 1, pixel after pixel, with "
            f"{channels} {'channel' if channels == 1 else 'channels'}. `deephash encode` reads, scales and encodes the "
            "images of a folder."
        )
    views = sizes.get("input_dims", {"": sizes.get("input_dim")})
    numbers = " or ".join(f"{d} numbers" + (f" ({escape(view)})" if view else "") for view, d in views.items())
    return f"It maps feature vectors of {numbers} to {codes}, so that similar items have codes at a small distance."


def find_image_shape(description: dict[str, Any]) -> tuple[int, int, int] | None:
    """Return channels, height and width of the images of a hasher with a pretrained network; None for others."""
    part = description.get("encoder")
    if part is None or find_network(part) is None:
        return None
    values: list[int | None] = [part["arguments"][name] for name in ("channels", "height", "width")]
    return image_shape(description["sizes"]["input_dim"], *values)


def find_network(part: dict[str, Any]) -> str | None:
    """Return the name of the network of a pretrained encoder, without a folder before it; None for other parts."""
    from deephash.encoders.pretrained_encoder import PretrainedEncoder

    kind = storage.find_class(part)[0] if part else None
    if kind is None or not issubclass(kind, PretrainedEncoder):
        return None
    return str(part["arguments"].get("network", "")).rstrip("/").rpartition("/")[2]


def list_extras(description: dict[str, Any]) -> str:
    """Return the optional extras of the package that a user of the hasher needs, separated by commas."""
    part = description.get("encoder", {})
    kind = storage.find_class(part)[0] if part else None
    return ",".join(["hub", *filter(None, [getattr(kind, "extra", None)])])


def count_bytes(bits: int) -> str:
    """Return the number of bytes of a code, in words."""
    count = code_bytes(bits)
    return f"{count} byte" if count == 1 else f"{count} bytes"


def write_example(description: dict[str, Any], repo: str) -> str:
    """Return five lines of Python that use the hasher."""
    views = description["sizes"].get("input_dims")
    if views:
        first, second = list(views)[:2]
        # A view of the data arrays can have a name that is not one of Python.
        queries, database = (f"{view}_features" for view in (first, second))
        if not (queries.isidentifier() and database.isidentifier()):
            queries, database = "queries", "database"
        return (
            "from deephash import CrossModalHasher\n\n"
            f"hasher = CrossModalHasher.from_pretrained({quote(repo)})\n"
            f"codes = hasher.view({quote(second)}).encode({database})\n"
            f"distances, ids = hasher.view({quote(first)}).search({queries}, codes, k=10)"
        )
    return (
        "from deephash import Hasher\n\n"
        f"hasher = Hasher.from_pretrained({quote(repo)})\n"
        f"codes = hasher.encode(database)  # (n, {description['sizes']['input_dim']}) → uint8 "
        f"(n, {code_bytes(description['sizes']['bits'])})\n"
        "distances, ids = hasher.search(queries, codes, k=10)"
    )


def describe_evidence(evidence: Evidence) -> Iterator[str]:
    """Yield the blocks of the section on evaluation; columns without a value are left out."""
    yield "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in evidence.settings.items())
    queries = "queries" if evidence.queries is None else f"{evidence.queries:,} queries"
    columns = {
        "value": [format_figure(figure.value) for figure in evidence.figures],
        f"95 % interval over {queries}": [format_interval(figure.interval) for figure in evidence.figures],
        "ties worst": [format_figure(figure.worst) for figure in evidence.figures],
        "ties best": [format_figure(figure.best) for figure in evidence.figures],
    }
    columns = {title: cells for title, cells in columns.items() if any(cells)}
    names = [escape(figure.name) for figure in evidence.figures]
    rows = [("metric", *columns), ("---", *("---:" for _ in columns)), *zip(names, *columns.values(), strict=True)]
    yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
    ties = "Equal distances count as their mean over all orders."
    if "ties best" in columns:
        ties += (
            " Published figures often break ties in the order of the database; they lie between the last two columns."
        )
    yield ties
    yield from map(escape, evidence.notes)


def format_figure(value: float | None) -> str:
    """Format a figure with four decimals, or as it is if it is a count; empty if there is none."""
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def format_interval(interval: tuple[float, float] | None) -> str:
    """Format the ends of an interval; empty if there is none."""
    return "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def escape(text: str) -> str:
    """Return text on one line, in which Markdown sees no cell, tag, link or code."""
    return re.sub(r"([\\|<\[\]`])", r"\\\1", " ".join(text.split()))


def quote(text: str) -> str:
    """Return a string literal of Python, readable in any script, that a file in UTF-8 can contain."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def to_yaml(content: dict[str, Any]) -> str:
    """Format metadata as YAML, in the given order."""
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
