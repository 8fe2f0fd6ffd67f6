"""Synthetic ads as sharded files, with the truth about them beside; made by several processes or machines at will.

- `train/00003-of-00008.parquet`, and so in `validation` and `test`: the rows.
- `shards/train-00003-of-00008.json`: what a file was made from, and its sums of the truth.
- `schema.json`, for `make_dataset` on the files as they are, and `run.yaml`, for `c2al run` on them.
- `truth.json`, once every file is there: what was planted, true click rates, the Bayes-optimal NE.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml
from tqdm import tqdm

from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.storage import shown
from c2al_tf.types import Columns

from .ads_truth import Truth, Truths, merge_truths, truths_of
from .ads_world import BLOCK_ROWS, COHORT_NAMES, HEAD, MAJORITY, TAIL, SyntheticAds
from .synthetic_ads import (
    count_shard_rows,
    generate,
    make_schema,
    open_source,
    planted_cohorts,
    raw_columns,
)

Format: TypeAlias = Literal["parquet", "tfrecord"]


@dataclass(frozen=True)
class Plan:
    """Which files there will be, and what from.

    Args:
        parameters: The world and the number of rows.
        output: The folder.
        format: Of the files.
        num_shards: Files per split, fewer where a split has fewer blocks of rows.
    """

    parameters: SyntheticAds
    output: Path
    format: Format = "parquet"
    num_shards: int = 1

    def __post_init__(self) -> None:
        most = -(-self.parameters.num_rows // BLOCK_ROWS)
        if not 1 <= self.num_shards <= most:
            raise ValueError(
                f"`num_shards` must be from 1 to {most}: every file holds whole blocks of {BLOCK_ROWS:,} of the "
                f"{self.parameters.num_rows:,} training rows. Received: num_shards={self.num_shards}"
            )

    @property
    def made_from(self) -> dict[str, Any]:
        """All that the files' rows and names follow from."""
        return {**dataclasses.asdict(self.parameters), "format": self.format, "num_shards": self.num_shards}

    def parts(self, shard: int | None = None) -> list["Part"]:
        """The files, or those of one shard."""
        if shard is not None and not 0 <= shard < self.num_shards:
            raise ValueError(f"`shard` must be in [0, {self.num_shards}). Received: shard={shard}")
        shards = range(self.num_shards) if shard is None else [shard]
        parts = [Part(self, split, i) for split in self.parameters.split_rows for i in shards]
        return [part for part in parts if part.num_rows]


@dataclass(frozen=True)
class Part:
    """One file: a shard of a split. It is done once what it was made from is written beside it."""

    plan: Plan
    split: str
    shard: int

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return count_shard_rows(self.plan.parameters, self.split, self.shard, self.plan.num_shards)

    @property
    def file(self) -> Path:
        """The rows."""
        return self.plan.output / self.split / f"{self._name}.{self.plan.format}"

    @property
    def record(self) -> Path:
        """What the file was made from, and its sums of the truth."""
        return self.plan.output / "shards" / f"{self.split}-{self._name}.json"

    @property
    def done(self) -> bool:
        """Whether the file is there, whole."""
        return self.record.exists() and self.file.exists()

    @property
    def _name(self) -> str:
        return f"{self.shard:05d}-of-{self.plan.num_shards:05d}"


def generate_files(
    plan: Plan, *, shard: int | None = None, jobs: int = 1, progress: bool = True
) -> Mapping[str, Truths] | None:
    """Writes what is not there yet of a plan's files, each beside its place before it is renamed into it.

    Args:
        plan: Which files.
        shard: Writes the files of one shard only, as one of several machines does.
        jobs: Processes that write files, each with a world of its own in its memory.
        progress: Whether to show a progress bar.

    Returns:
        The truth by split and cohort, once all files are there; None while others' are not.

    Raises:
        ValueError: If the folder holds files that were made from something else, or a number is out of range.
    """
    if jobs < 1:
        raise ValueError(f"`jobs` must be at least 1. Received: jobs={jobs}")
    parts = plan.parts(shard)
    _check_records(plan)
    left = [part for part in parts if not part.done]
    rows, rows_left = (sum(part.num_rows for part in some) for some in (parts, left))
    with tqdm(
        total=rows, initial=rows - rows_left, desc="generate", unit=" rows", unit_scale=True, disable=not progress
    ) as bar:
        if jobs == 1:
            for part in left:
                _write(part, bar.update)
        else:
            _write_in_jobs(left, jobs, bar)
    make_schema(plan.parameters).save(plan.output / "schema.json")
    _write_config(plan)
    return _write_truth(plan)


def _check_records(plan: Plan) -> None:
    for path in sorted((plan.output / "shards").glob("*.json")):
        there, wanted = read_json(path)["made_from"], plan.made_from
        for name in wanted:
            if there.get(name) != wanted[name]:
                raise ValueError(
                    f"`{name}` must be {there.get(name)}, as of the files that {plan.output} holds; give another "
                    f"`output`, or delete that folder. Received: {name}={wanted[name]}"
                )


def _write(part: Part, on_rows: Callable[[int], Any]) -> None:
    plan = part.plan
    columns = raw_columns(plan.parameters)
    truths: list[Truths] = []

    def batches() -> Iterator[Columns]:
        rows = generate(plan.parameters, part.split, shard=part.shard, num_shards=plan.num_shards)
        for batch, probability in rows:
            truths.append(truths_of(plan.parameters, batch, probability))
            yield batch
            on_rows(len(probability))

    part.file.parent.mkdir(parents=True, exist_ok=True)
    # What a run that was killed left of this file.
    for stale in part.file.parent.glob(f".*-{part.file.name}"):
        stale.unlink(missing_ok=True)
    if plan.format == "parquet":
        write_parquet(part.file, batches(), columns)
    else:
        from c2al_tf.data.columns.examples import write_tfrecord  # TensorFlow, which the others do without

        write_tfrecord(part.file, batches(), columns)
    truth = {name: truth.to_json() for name, truth in merge_truths(truths).items()}
    write_json(part.record, {"made_from": plan.made_from, "truth": truth})


# What a process that `_write_in_jobs` started shares with it: the rows done by all, and whether to stop.
_shared: tuple[Any, Any] | None = None


def _write_in_jobs(parts: Sequence[Part], jobs: int, bar: Any) -> None:
    context = multiprocessing.get_context("spawn")
    rows_done, stop = context.Value("q", 0), context.Event()
    with ProcessPoolExecutor(jobs, context, _start_job, (rows_done, stop)) as pool:
        waiting = {pool.submit(_write_in_job, part) for part in parts}
        before = bar.n
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_EXCEPTION)
                bar.update(before + rows_done.value - bar.n)
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            # Waits: a process that has only just begun needs this one to get to know of the stop.
            pool.shutdown(cancel_futures=True)
            raise


def _start_job(rows_done: Any, stop: Any) -> None:
    global _shared
    _shared = rows_done, stop
    # A Ctrl-C in the terminal reaches every process; who started this one says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


class _StoppedError(Exception):
    """Another file failed, or the user interrupted."""


def _write_in_job(part: Part) -> None:
    assert _shared is not None
    rows_done, stop = _shared

    def on_rows(rows: int) -> None:
        if stop.is_set():
            raise _StoppedError
        with rows_done.get_lock():
            rows_done.value += rows

    # Nobody waits for this file any more.
    with contextlib.suppress(_StoppedError):
        _write(part, on_rows)


def _write_config(plan: Plan) -> None:
    """The demo's configuration, on the files."""
    source = open_source(plan.parameters)
    config = yaml.safe_load(Path(__file__).parents[1].joinpath("configs", "demo.yaml").read_text(encoding="utf-8"))
    files = {split: f"{split}/*.{plan.format}" for split in plan.parameters.split_rows}
    described = {
        "label": source.label,
        "features": [_given(feature) for feature in source.features],
        "axes": [list(axis) for axis in source.axes],
    }
    config["data"] = {"name": "files", "files": files | described}
    folder = shown(plan.output)
    text = f"# c2al run {folder}/run.yaml --data {folder} --run-dir runs/ads\n"
    with replace_file(plan.output / "run.yaml") as temporary:
        temporary.write_text(text + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _given(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults."""
    fields = dataclasses.fields(value)
    return {field.name: getattr(value, field.name) for field in fields if getattr(value, field.name) != field.default}


def _write_truth(plan: Plan) -> Mapping[str, Truths] | None:
    parts = plan.parts()
    if not all(part.done for part in parts):
        return None
    records = [(part.split, read_json(part.record)["truth"]) for part in parts]
    truth = {
        split: merge_truths(
            {name: Truth.from_json(value) for name, value in record.items()} for at, record in records if at == split
        )
        for split in plan.parameters.split_rows
    }
    rows = {split: {name: value.to_json() for name, value in by.items()} for split, by in truth.items()}
    write_json(plan.output / "truth.json", {"made_from": plan.made_from, "planted": _planted(plan), "rows": rows})
    return truth


def _planted(plan: Plan) -> dict[str, Any]:
    """By cohort: who is in it, the pairs of fields that interact, how strongly, and the click rate aimed at."""
    head, tail = planted_cohorts(plan.parameters)
    members = {MAJORITY: None, HEAD: head, TAIL: tail}
    return {
        name: {
            "members": "all others" if (cohort := members[number]) is None else str(cohort),
            "cohort": None if cohort is None else cohort.to_json(),
            "pairs": [list(pair) for pair in plan.parameters.cohort_pairs[number]],
            "strength": plan.parameters.cohort_strengths[number],
            "click_rate": plan.parameters.cohort_click_rates[number],
        }
        for number, name in enumerate(COHORT_NAMES)
    }
