"""What `c2al predict` has finished: parts beside the output, so that a killed run goes on where they end.

`OUTPUT.parts/` holds `job.json`, what the predictions are made from and the version that gives them, and Parquet files
of consecutive rows, each named by its first row. Every file appears whole or not at all.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from c2al_serving.client import PredictClient

from c2al_tf.files import lock, read_json, remove, replace_file, write_json
from c2al_tf.storage import delete, local_path, pull, shown, stat_of

_DIGITS = 12


@dataclass(frozen=True)
class Job:
    """What predictions are made from: the parts of equal jobs fit together."""

    input: str
    input_files: str
    input_bytes: int
    input_mtime_ns: int
    server: str
    model: str
    version: int | None
    label: str | None
    batch_size: int

    @classmethod
    def of(cls, path: Path, files: Sequence[Path], client: PredictClient) -> "Job":
        """The rows of the files that `path` names, as a client is to ask for them."""
        asked = client.target, client.model_name, client.version, client.label
        return cls(shown(local_path(path).resolve()), *_state(files), *asked, client.max_rows)

    def has_read(self, files: Sequence[Path]) -> bool:
        """Whether the files are still as they were."""
        return _state(files) == (self.input_files, self.input_bytes, self.input_mtime_ns)


def _state(files: Sequence[Path]) -> tuple[str, int, int]:
    stats = [(shown(file.resolve()), *stat_of(file)) for file in files]
    named = "\n".join(f"{name} {size} {mtime}" for name, size, mtime in stats)
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    return digest, sum(size for _, size, _ in stats), max(mtime for *_, mtime in stats)


class Parts:
    """The first rows of an output, as far as they are finished. `open_parts` makes it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._record = folder, folder / "job.json"
        self._files: list[Path] = []
        self.rows = 0
        while self._record.exists() and self._next_file().exists():
            self._count(pq.read_metadata(self._next_file()).num_rows)

    def begin(self, job: Job, answered_by: int) -> None:
        """Records what the parts to come are made from, and the version that answers."""
        write_json(self._record, {**asdict(job), "answered_by": answered_by})

    def resume(self, job: Job) -> int:
        """Takes the parts for `job`'s; returns the version that answered.

        Raises:
            ValueError: If they are made from something else.
        """
        written = read_json(self._record)
        changed = [
            f"{name} was {written.get(name)!r}, is {value!r}"
            for name, value in asdict(job).items()
            if written.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"{self._folder} holds {self.rows:,} rows predicted from something else: {'; '.join(changed)}. "
                "Give what it was to go on with them, or --restart to begin anew"
            )
        return int(written["answered_by"])

    def append(self, table: pa.Table) -> None:
        """Adds the outputs of the next rows."""
        with replace_file(self._next_file()) as temporary:
            pq.write_table(table, temporary)
        self._count(len(table))

    def combine(self, output: Path) -> None:
        """Writes the parts as one Parquet or CSV file, by its suffix, in place of what had its name."""
        writer = pq.ParquetWriter if output.suffix == ".parquet" else pa.csv.CSVWriter
        schema = pq.read_schema(self._files[0])
        with replace_file(output) as temporary, writer(str(temporary), schema) as file:
            for path in self._files:
                file.write_table(pq.read_table(path))

    def clear(self) -> None:
        """Removes the parts."""
        remove(self._record)  # first: without it parts are no one's
        for pattern in (f"{'[0-9]' * _DIGITS}.parquet", ".partial-*"):
            for path in self._folder.glob(pattern):
                remove(path)
        self._files, self.rows = [], 0

    def _next_file(self) -> Path:
        return self._folder / f"{self.rows:0{_DIGITS}}.parquet"

    def _count(self, rows: int) -> None:
        self._files.append(self._next_file())
        self.rows += rows


@contextlib.contextmanager
def open_parts(output: Path) -> Iterator[Parts]:
    """Yields what is finished of an output; at the end its folder goes if it is empty.

    Raises:
        ValueError: If another process has them open.
    """
    folder = output.with_name(f"{output.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock(folder))
        except BlockingIOError:
            raise ValueError(f"{folder}: another `c2al predict` is writing there") from None
        parts = Parts(pull(folder))
        try:
            yield parts
        finally:
            if not parts.rows:
                parts.clear()
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
                delete(folder)
