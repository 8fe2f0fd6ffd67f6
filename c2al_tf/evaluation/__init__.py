"""Arms against a reference arm, slice by slice, with paired intervals over seeds and rows.

With all rows at hand `evaluate_by_cohort` does everything. Where logits lie in shards, each shard is counted where it
lies, and the sums, which are small, are added up; every figure and interval is that of all rows at once:

    counts = [count_arms(logits, labels, slices, row_numbers=numbers) for logits, labels, slices, numbers in shards]
    evaluation = compare_arms(sum(counts))

but for the AUC, which then comes from a histogram of the scores (`scoring.histogram_auc` bounds its error).
"""

from .comparison import Evaluation as Evaluation, compare_arms as compare_arms, evaluate_by_cohort as evaluate_by_cohort
from .counts import (
    ALL as ALL,
    REST as REST,
    ArmCounts as ArmCounts,
    add_label as add_label,
    count_arms as count_arms,
    join_arms as join_arms,
    join_slices as join_slices,
)
from .recommendation import Recommendation as Recommendation, recommend as recommend
