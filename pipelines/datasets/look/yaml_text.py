"""The configuration that `c2al init` writes, with a comment for each choice."""

import contextlib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.names import input_name

from .axes import AxisChoice, choose_axes, gives_answer_away
from .choices import Choice, choose_roles, find_unit
from .column_names import is_id, words_of
from .columns import SeenColumn, look_at
from .found_files import FoundFiles
from .sample import Sample

_WIDTH = 120
_RARE = 0.05  # positive rate below which negatives are worth dropping
_LARGE_TABLE = 50_000  # rows of an embedding table from which an optimizer of touched rows pays
_GUARD = 100  # positives of a cohort that `cohorts.guard` asks for by default


@dataclass(frozen=True)
class Draft:
    """All that is chosen for a run on some files.

    Args:
        found: The files.
        sample: The rows that were read.
        choices: What each column is for.
        axes: What cohorts may be cut along.
        unit: Column whose rows of one value are not independent.
        stored: The names of the columns in the files, by those that they have here.
    """

    found: FoundFiles
    sample: Sample
    choices: tuple[Choice, ...]
    axes: tuple[AxisChoice, ...]
    unit: str | None
    stored: Mapping[str, str]

    @property
    def label(self) -> SeenColumn:
        """The label's column."""
        return self.of("label")[0].column

    def of(self, role: str) -> list[Choice]:
        """The columns of a role."""
        return [choice for choice in self.choices if choice.role == role]


def make_draft(found: FoundFiles, sample: Sample, label: str | None = None) -> Draft:
    """Chooses what to do with the columns of files.

    Raises:
        ValueError: If no column can be the label, a feature or an axis.
    """
    stored: dict[str, str] = {}
    for name in sample.columns:
        if input_name(name) in stored:
            raise ValueError(
                "Every column needs a name of its own as an input of the model; rename one. Received: "
                f"{stored[input_name(name)]!r} and {name!r}, both `{input_name(name)}`"
            )
        stored[input_name(name)] = name
    columns = {name: _as_ids(name, sample.columns[column]) for name, column in stored.items()}
    seen = [look_at(name, values, stored[name] in sample.with_nulls) for name, values in columns.items()]
    choices = choose_roles(seen, label and input_name(label), sample.all_train_rows, sample.is_whole)
    target = next(choice.column.name for choice in choices if choice.role == "label")
    train = {name: values.slice(0, sample.train_rows) for name, values in columns.items()}
    for place, choice in enumerate(choices):
        column = choice.column
        if choice.role == "feature" and gives_answer_away(train[column.name], train[target], column.distinct):
            reason = f"each of its values goes with one label: it seems to give `{target}` away"
            choices[place] = Choice(column, "left out", reason)
    if not any(choice.role == "feature" for choice in choices):
        reasons = [f"{choice.column.name}: {choice.reason}" for choice in choices if choice.role == "left out"]
        raise ValueError(f"At least one column beside the label must be a feature. Received: {reasons}")
    axes = choose_axes(choices, train, target)
    return Draft(found, sample, tuple(choices), tuple(axes), find_unit(choices, sample.is_whole), stored)


def _as_ids(name: str, values: pa.Array) -> pa.Array:
    """Whole floats of an id as the integers that pandas made them of."""
    if is_id(words_of(name)) and pa.types.is_floating(values.type):
        with contextlib.suppress(pa.ArrowInvalid):
            return pc.if_else(pc.is_nan(values), None, values).cast(pa.int64())
    return values


def as_yaml(draft: Draft) -> str:
    """The configuration as text: YAML that `load_config` reads."""
    return "\n".join([*_head(draft), *_data(draft), *_features(draft), *_axes(draft), *_run(draft), ""])


def _head(draft: Draft) -> Iterator[str]:
    sample = draft.sample
    read = "every training row" if sample.is_whole else f"{sample.train_rows:,} of {_rows(sample)} training rows"
    yield from _comment(
        "Written by `c2al init`. Each choice says what was seen; change what you know better, `c2al run --help` lists "
        f"all keys. It read {read}, and some of the other files."
    )
    if not sample.is_whole:
        yield from _comment(
            "A null in a row that was not read stops the run with the row's number: `missing: slot` then allows it."
        )
    name = draft.found.folder.resolve().name
    yield f"title: {_text(f'{draft.label.name} in {name}')}"


def _rows(sample: Sample) -> str:
    return f"{sample.all_train_rows:,}" if sample.exact else f"about {float(f'{sample.all_train_rows:.2g}'):,.0f}"


def _data(draft: Draft) -> Iterator[str]:
    found = draft.found
    yield "data:"
    yield "  name: files"
    if _positive_rate(draft) < _RARE:
        yield from _comment(
            f"Only {_positive_rate(draft):.2%} of the rows are positive: a tenth of the training negatives, at weight "
            "10, tells nearly as much in a tenth of the time. Where training takes long:",
            2,
        )
        yield "  # negative_sampling: 0.1"
    yield "  files:"
    yield from _comment("Patterns relative to the folder of --data.", 4)
    for split in ("train", "validation", "test"):
        if split in found.patterns:
            yield from _comment(f"{found.notes[split]}.", 4)
            yield f"    {split}: {_text(found.patterns[split])}"
        else:
            yield from _comment("No validation files: a tenth of the training rows is set aside.", 4)
    if found.ignored:
        more = f" and {len(found.ignored) - 5:,} more" if len(found.ignored) > 5 else ""
        yield from _comment(f"Files of no split: {', '.join(found.ignored[:5])}{more}.", 4)
    yield from _csv(draft.sample.csv)
    yield from _comment(f"{draft.of('label')[0].reason}.", 4)
    yield f"    label: {_text(draft.label.name)}"
    weights = draft.of("weight")
    for place, choice in enumerate(weights):
        yield from _comment(f"{choice.reason}.", 4)
        yield f"    {'# ' if place else ''}weight: {_text(choice.column.name)}"


def _csv(csv_format: CsvFormat | None) -> Iterator[str]:
    if csv_format is None or csv_format == CsvFormat():
        return
    fields: dict[str, Any] = {}
    if csv_format.column_names is not None:
        yield from _comment("The first line holds values, not names: rename the columns here and below.", 4)
        fields["column_names"] = list(csv_format.column_names)
    if csv_format.delimiter != ",":
        yield from _comment("The delimiter that splits the first lines into equally many fields.", 4)
        fields["delimiter"] = csv_format.delimiter
    if csv_format.quote_char is None:
        yield from _comment("Quotation marks are part of the fields: they do not come in pairs.", 4)
        fields["quote_char"] = None
    if csv_format.newlines_in_values:
        yield from _comment("Quoted fields hold line breaks.", 4)
        fields["newlines_in_values"] = True
    yield f"    csv: {_flow(fields)}"


def _features(draft: Draft) -> Iterator[str]:
    yield "    features:"
    for choice in draft.of("feature"):
        stored = draft.stored[choice.column.name]
        named = "" if stored == choice.column.name else f"`{stored}` in the files: "
        yield from _comment(f"{named}{choice.reason}.", 6)
        yield f"      - {_flow(choice.spec)}"
    if left_out := draft.of("left out"):
        yield from _comment("Left out:", 6)
    for choice in left_out:
        yield from _comment(f"- {choice.column.name}: {choice.reason}.", 6)


def _axes(draft: Draft) -> Iterator[str]:
    yield from _comment(
        "What cohorts may be cut along, those first whose cells differ most in the positive rate; of more than ten the "
        "others are comments, but for people's traits. Keep the ones that mean something to you; a column that the "
        "model must not see goes to "
        "`axis_columns: [{name: x, dtype: string}]`.",
        4,
    )
    yield "    axes:"
    for axis in draft.axes:
        rates = f"positive rates from {axis.lowest:.2%} to {axis.highest:.2%}"
        yield f"      {'' if axis.proposed else '# '}- [{', '.join(map(_text, axis.columns))}] # {rates}"


def _run(draft: Draft) -> Iterator[str]:
    rows = draft.sample.all_train_rows
    small = rows < 20_000
    yield "model:"
    yield f"  embedding_dim: {8 if small else 16}"
    yield f"  num_blocks: {1 if small else 2}"
    yield "  num_outputs: 8"
    yield "training:"
    size, epochs = next((s, e) for most, s, e in _SIZES if rows < most)
    yield from _comment(f"For {_rows(draft.sample)} training rows, {max(rows * epochs // size, 1):,} steps in all.", 2)
    yield f"  batch_size: {size}"
    yield f"  epochs: {epochs}"
    yield "  learning_rate: 1.0e-3"
    yield "  decay: cosine"
    table = max(int(choice.spec.get("num_hash_buckets", 0)) for choice in draft.of("feature"))
    if table >= _LARGE_TABLE:
        yield from _comment(f"Updates the rows of the batch alone, of a table of {table:,} rows.", 2)
        yield "  table_optimizer: lazy_adam"
    yield "cohorts:"
    positives = rows * _positive_rate(draft)
    if positives < 20 * _GUARD:
        yield from _comment(
            f"About {positives:,.0f} training rows are positive, and of a cohort at least {_GUARD} must be: small "
            "cohorts are refused.",
            2,
        )
    yield from _comment(
        "Each axis is cut by default: numbers at the 5, 25, 75 and 95 % quantiles, categories into their most frequent "
        "values. Weight of the cohorts' auxiliary losses:",
        2,
    )
    yield "  lambdas: [0.1]"
    yield from _comment("Paired seeds, each a baseline and a C2AL model: intervals need several.")
    yield f"seeds: {5 if rows < 10_000_000 else 3}"
    if draft.unit:
        yield from _comment(
            "By its name a person, with several rows: they are not independent, and resampled together."
        )
        yield f"unit: {_text(draft.unit)}"
    else:
        yield from _comment(
            "No column names a person with several rows. If rows of one value are not independent: `unit: COLUMN`, "
            "which must be a feature or one of `axis_columns`."
        )


# Training rows below which, rows per step, and epochs.
_SIZES = (
    *((20_000, 128, 5), (100_000, 512, 4), (1_000_000, 1024, 3), (10_000_000, 2048, 1)),
    (float("inf"), 4096, 1),
)


def _positive_rate(draft: Draft) -> float:
    return float(draft.label.numbers.mean())


def _comment(text: str, indent: int = 0) -> list[str]:
    start = f"{' ' * indent}# "
    # A line break in a value would end the comment, and YAML holds no control characters.
    clean = "".join(letter if letter.isprintable() else " " for letter in text)
    return textwrap.wrap(clean, _WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def _flow(fields: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in fields.items()) + "}"


def _value(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_value, value))}]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """A text as YAML has it: in quotes where it would be read as something else, such as `y` or `*.csv`."""
    plain = text.replace("_", "").replace("-", "").replace("/", "").replace(".", "").replace("*", "").replace(" ", "")
    if plain.isascii() and plain.isalnum() and text[0].isalpha() and text.lower() not in ("y", "n"):
        with_spaces = f"a: {text}"
        if yaml.safe_load(with_spaces) == {"a": text}:
            return text
    return json.dumps(text, ensure_ascii=False)
