"""What a scheduler calls once a day: train on from yesterday's weights, publish unless some cohort got worse.

    .venv/bin/python pipelines/examples/daily_job.py clicks.yaml --data logs/day=2026-11-26 --day 2026-11-26 \
        --runs runs/daily --base-path models/ranker

`clicks.yaml` is a configuration as `c2al init` writes it, of files relative to `--data`. The first day trains from
nothing. Each later one begins with the run whose export is the newest version. On its test rows the new export is
compared with that version, by cohort; it becomes the next one in `--base-path`, which a server watches, only if the
gate lets it pass. Called again, a day goes on where it stopped. `--data`, `--runs` and `--base-path` may be URLs of an
object store. Arguments that the script does not know go to `c2al run`.

Exit status: 0 published; 3 refused, the server goes on with the version that it has; 4 published, and what C2AL is
trained for has drifted: look at the report, and let a run of its own find cohorts anew; 1 or 2 something failed.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from c2al_pipelines import cli

from c2al_tf.cohorts import Discovery
from c2al_tf.files import read_json, replace_directory
from c2al_tf.schema import Schema
from c2al_tf.storage import folders_in, is_there, local_path, pull, shown, with_urls

PASSED, REFUSED, DRIFTED = 0, 3, 4


def c2al(*words: object) -> int:
    """Prints a command, runs it in this process and returns its exit status; a failure ends this script."""
    print(with_urls(f"$ c2al {shlex.join(map(str, words))}"), flush=True)
    try:
        cli.main([str(word) for word in words])
    except SystemExit as end:
        if end.code not in (None, PASSED, REFUSED):
            raise
        return end.code or PASSED
    return PASSED


def versions(base_path: Path) -> list[Path]:
    """The folders of versions, the newest last."""
    found = folders_in(base_path) if is_there(base_path) else ()
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def export_of(run: Path) -> Path:
    """The version folder that a run has exported."""
    return run / "export" / read_json(run / "export.json")["version"]


def is_export(version: Path, run: Path) -> bool:
    """Whether a version is the export of a run: TensorFlow gives each a fingerprint of its own."""
    prints = [pull(folder / "fingerprint.pb") for folder in (version, export_of(run))]
    return all(path.exists() for path in prints) and prints[0].read_bytes() == prints[1].read_bytes()


def earlier_run(run: Path, newest: Path | None) -> Path | None:
    """The run to begin with: the one that the newest version came from; that of a day's first call, in a later one."""
    if (run / "config.json").exists():
        begun = read_json(run / "config.json").get("warm_start")
        return None if begun is None else Path(begun)
    if newest is None:
        return None
    runs = folders_in(run.parent) if is_there(run.parent) else ()
    exported = (each for each in runs if pull(each / "export.json").exists())
    return next((each for each in exported if is_export(newest, each)), None)


def may_be_published(run: Path, served: Path) -> bool:
    """Whether no slice of the day's test rows got worse from the served version to the run's export."""
    schema, discovery = Schema.load(run / "schema.json"), Discovery.from_json(read_json(run / "cohorts.json"))
    read = {name for axis in discovery.axes for each in axis.cohorts for name in each.cohort.columns}
    unit = read_json(run / "config.json")["unit"]
    rules = [*(["--weight", schema.weight] if schema.weight else []), *(["--unit", unit] if unit else [])]
    models = "--models.served", shown(served), "--models.new", export_of(run)
    arms = "--arms.served", "[served]", "--arms.new", "[new]", "--reference", "served"
    passed = []
    for label in schema.labels:
        log, output = ["--label", label, *rules], "logits" if len(schema.labels) == 1 else f"{label}_logits"
        folder = run / "gate" / f"{label}-beside-{served.name}"
        kept = "--keep", *sorted(read), "--model-output", output, "--output", folder / "scored"
        c2al("score-logs", run / "data" / "test-*.parquet", *log, *models, *kept)
        written = "--cohorts", run / "cohorts.json", "--output", folder / "metrics.json"
        c2al("evaluate-logs", shown(folder / "scored"), *log, *arms, *written)
        passed.append(c2al("gate", folder / "metrics.json") == PASSED)
    return all(passed)


def publish(run: Path, base_path: Path) -> Path:
    """Copies the run's export into the folder of versions, where it appears whole; returns its folder there."""
    target = base_path / str(1 + max((int(path.name) for path in versions(base_path)), default=0))
    with replace_directory(target) as folder:
        shutil.copytree(export_of(run), folder, dirs_exist_ok=True)
    return target


def main() -> int:
    """Trains, compares, publishes; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("config", type=Path, help="configuration of a run on files")
    parser.add_argument("--data", type=Path, required=True, help="folder of the day's files")
    parser.add_argument("--day", required=True, help="name of the day's run")
    parser.add_argument("--runs", type=Path, default=Path("runs/daily"), help="folder of the runs")
    parser.add_argument("--base-path", type=Path, required=True, help="folder of versions that a server watches")
    options, settings = parser.parse_known_args()

    # Of a URL the path of its copy on this machine, whose changes are put into the store.
    runs, base_path = local_path(options.runs), local_path(options.base_path)
    run, served = pull(runs / options.day), versions(base_path)
    newest = served[-1] if served else None
    earlier = earlier_run(run, newest)
    warm = ["--warm_start", shown(earlier)] if earlier else []
    if newest and not earlier and not run.exists():
        print(f"No run in {options.runs} has exported {shown(newest)}: this one begins from nothing")
    c2al("run", options.config, "--data", options.data, "--run-dir", run, *warm, *settings)
    if any(is_export(version, run) for version in served):
        print("Published before")
    elif newest and not may_be_published(run, newest):
        print(f"Not published: {shown(newest)} stays")
        return REFUSED
    else:
        print(f"Published: {shown(publish(run, base_path))}")
    drift = read_json(run / "drift.json") if warm else []
    print(*(f"Drift: {words}" for words in drift), sep="\n")
    return DRIFTED if drift else PASSED


if __name__ == "__main__":
    sys.exit(main())
