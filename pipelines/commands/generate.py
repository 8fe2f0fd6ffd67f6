"""`c2al generate`: synthetic ad clicks with planted cohorts, as files."""

import dataclasses
from pathlib import Path
from typing import Any

import jsonargparse

from c2al_tf.storage import is_url, local_path, opened, shown

from .command import Command


def _add_generate(parser: jsonargparse.ArgumentParser) -> None:
    from ..datasets.ads_world import SyntheticAds

    parser.add_argument("--output", type=Path, required=True, help="folder, new or to be completed")
    parser.add_argument("--format", choices=["parquet", "tfrecord"], default="parquet", help="of the files")
    parser.add_argument("--num_shards", type=int, default=1, help="files per split")
    parser.add_argument("--shard", type=int, help="write this one of the shards only, as one of several machines does")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each holds the world in its memory")
    parser.add_class_arguments(SyntheticAds)


def _generate(values: Any) -> None:
    from ..datasets.ads_world import SyntheticAds
    from ..datasets.generate import Plan, generate_files
    from ..datasets.truth_table import print_truth

    if values.shard is not None and is_url(values.output):
        raise ValueError(
            "Machines that write a shard each write it on a disk; copy the folders into one place when all are there. "
            f"Received: --shard {values.shard} --output {shown(local_path(values.output))}"
        )
    parameters = SyntheticAds(**{field.name: values[field.name] for field in dataclasses.fields(SyntheticAds)})
    plan = Plan(parameters, opened(values.output), values.format, values.num_shards)
    truth = generate_files(plan, shard=values.shard, jobs=values.jobs)
    if truth is None:
        print(f"{shown(plan.output)}: other shards are still to come; the last one writes truth.json")
        return
    print_truth(truth)
    folder = shown(plan.output)
    print(f"Train on it: c2al run {folder}/run.yaml --data {folder} --run-dir runs/ads")


GENERATE_COMMANDS = {
    "generate": Command(
        "Writes synthetic ad clicks with planted cohorts as files, and the truth about them. The head and the tail "
        "cohort are the rows of the highest and lowest 5 % of user_value: their clicks depend on other pairs of fields "
        "than the majority's, cohort_strength logits strong. DIR gets train/, validation/, test/, schema.json for "
        "make_dataset, run.yaml for `c2al run`, and truth.json: what was planted, the true click rates, and the NE "
        "that no model can beat, overall and by cohort. The same parameters give the same rows. An interrupted call "
        "goes on where it stopped. Several machines share the work: each writes its own shards, into one folder or "
        "into folders that are then put together and completed by a call without --shard.",
        "--output DIR [--format {parquet,tfrecord}] [--num-shards N [--shard I]] [--jobs K] [--PARAMETER VALUE ...]",
        "c2al generate --output data/ads --num-rows 20000000 --num-users 5000000 --num-ads 1000000 --click-rate 0.005 "
        "--num-shards 16 --jobs 2",
        _add_generate,
        _generate,
        ("cohorts",),
    ),
}
