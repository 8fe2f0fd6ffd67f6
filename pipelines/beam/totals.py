"""The sum of what is counted in each piece: in this process, or by a runner of Apache Beam."""

import pickle
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from c2al_tf.files import remove, replace_file
from c2al_tf.storage import local_path, opened


class Rows(Protocol):
    """What is counted at a time."""

    @property
    def num_rows(self) -> int:
        """Number of rows, for the progress bar."""


P = TypeVar("P", bound=Rows)
T = TypeVar("T")


@dataclass(frozen=True)
class Runner:
    """What runs a pipeline.

    Args:
        name: Beam's runner, such as `DirectRunner`, `PortableRunner`, `FlinkRunner` or `DataflowRunner`. None: this
            process, one piece after another.
        options: Its options as on a command line, such as `--direct_num_workers=2`.
        scratch: Folder or URL that this process and all workers can write to and read; what is there for a moment is
            the sum. Beam's runners need it.
    """

    name: str | None = None
    options: tuple[str, ...] = ()
    scratch: str = ""

    def __post_init__(self) -> None:
        if self.name is not None and not self.scratch:
            raise ValueError(f"`scratch` must be a folder or URL that all workers reach. Received: '' for {self.name}")


def total(pieces: Sequence[P], count: Callable[[P], T], runner: Runner, description: str) -> T:
    """The sum of `count(piece)` over pieces.

    Args:
        pieces: At least one.
        count: What is counted in a piece, a value that adds up with `+=`, from 0; it is sent to the workers.
        runner: What runs it.
        description: What the progress bar calls it.
    """
    if runner.name is not None:
        return _total_by_beam(pieces, count, runner, description)
    found: Any = 0
    with tqdm(total=sum(p.num_rows for p in pieces), desc=description, unit=" rows", unit_scale=True, delay=1) as bar:
        for piece in pieces:
            found += count(piece)
            bar.update(piece.num_rows)
    return found


def _total_by_beam(pieces: Sequence[P], count: Callable[[P], T], runner: Runner, description: str) -> T:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    class Sum(beam.CombineFn):
        """`sum` would copy what it has each time that Beam adds a few more."""

        def create_accumulator(self, *args: Any, **kwargs: Any) -> Any:
            return 0

        def add_input(self, accumulator: Any, element: Any, *args: Any, **kwargs: Any) -> Any:
            accumulator += element
            return accumulator

        def merge_accumulators(self, accumulators: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
            found: Any = 0
            for accumulator in accumulators:
                found += accumulator
            return found

        def extract_output(self, accumulator: Any, *args: Any, **kwargs: Any) -> Any:
            return accumulator

    path = f"{runner.scratch}/total-{secrets.token_hex(8)}.pickle"
    try:
        with beam.Pipeline(runner=runner.name, options=PipelineOptions(list(runner.options))) as pipeline:
            (
                pipeline
                | "pieces" >> beam.Create(list(pieces))
                | "to all workers" >> beam.Reshuffle()
                | description >> beam.Map(count)
                | "add up" >> beam.CombineGlobally(Sum()).without_defaults()
                | "save" >> beam.Map(_save, path)
            )
        return pickle.loads(opened(path).read_bytes())
    finally:
        remove(local_path(path))


def _save(value: Any, path: str) -> None:
    with replace_file(path) as temporary:
        temporary.write_bytes(pickle.dumps(value))
