"""Losses by hand of the objectives that read membership."""

import keras
import numpy as np
import pytest

from c2al_tf.losses import state_of, weighted_sum_of_tasks
from c2al_tf.objectives import GroupDRO, MinDiff, Reweighting
from c2al_tf.objectives.groups import SMALLEST_SHARE
from c2al_tf.types import member_of

ETA = 0.5
LOGITS = {"primary": np.array([[0.3], [-1.0], [2.0], [0.5]], "float32")}
LABELS = {
    "primary": np.array([[1.0], [0.0], [0.0], [1.0]], "float32"),
    member_of("young"): np.array([[1.0], [0.0], [0.0], [1.0]], "float32"),
    member_of("old"): np.array([[0.0], [1.0], [0.0], [0.0]], "float32"),
}
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0], "float32")


def losses_by_hand() -> np.ndarray:
    p = 1 / (1 + np.exp(-LOGITS["primary"][:, 0].astype(float)))
    return np.where(LABELS["primary"][:, 0] == 1, -np.log(p), -np.log(1 - p))


def test_weights_of_groups_follow_the_formula() -> None:
    """Groups young (rows 0 and 3, which has weight 0), old (row 1), everyone else (row 2)."""
    objective = GroupDRO(["young", "old"], eta=ETA)
    np.testing.assert_allclose(objective.q, np.full(3, 1 / 3), rtol=1e-6)
    l_group = losses_by_hand()[:3]
    q = np.full(3, 1 / 3)
    for _ in range(3):
        objective.update(objective.statistics(LABELS, LOGITS, WEIGHTS))
        q = q * np.exp(ETA * l_group)
        q /= q.sum()
        np.testing.assert_allclose(objective.q, q, rtol=1e-5)


def test_the_loss_is_of_the_groups_by_weight() -> None:
    """First the mean loss; then sum_g q_g l_g with the shares of weight 1, 2 and 0.5 of 3.5 and of the first row's."""
    objective = GroupDRO(["young", "old"], eta=ETA)
    losses = losses_by_hand()
    mean = np.average(losses, weights=WEIGHTS)
    loss, by_task = objective(LABELS, LOGITS, WEIGHTS)
    np.testing.assert_allclose(loss, mean, rtol=1e-5)
    np.testing.assert_allclose(by_task["primary"], mean, rtol=1e-5)
    objective.update(objective.statistics(LABELS, LOGITS, WEIGHTS))
    shares = (WEIGHTS[:3] + 1 / 3) / 4.5
    expected = np.sum(np.array(objective.q) / shares * WEIGHTS[:3] * losses[:3]) / 3.5
    np.testing.assert_allclose(objective(LABELS, LOGITS, WEIGHTS)[0], expected, rtol=1e-5)
    objective.row_weights.assign_add(10_000 * WEIGHTS[:3])
    objective.total_weight.assign_add(10_000 * 3.5)
    np.testing.assert_allclose(
        objective(LABELS, LOGITS, WEIGHTS)[0], np.sum(np.array(objective.q) * losses[:3]), rtol=1e-3
    )


def test_a_rare_group_counts_as_one_of_the_smallest_share() -> None:
    objective = GroupDRO(["young", "old"])
    objective.row_weights.assign([1e-6, 0.4, 0.6])
    labels = LABELS | {member_of("young"): np.ones((4, 1)), member_of("old"): np.zeros((4, 1))}
    loss, by_task = objective(labels, LOGITS, WEIGHTS)
    np.testing.assert_allclose(loss, by_task["primary"] / 3 / SMALLEST_SHARE, rtol=1e-5)


@pytest.mark.parametrize("objective", [Reweighting({"young": 2.0}), MinDiff(["young", "old"], 1.0)])
def test_a_zero_weight_row_changes_no_loss(objective) -> None:
    """Property 8. The row is a negative of the first cohort, of which there are others."""
    labels, logits, weights = min_diff_rows()
    negatives = np.flatnonzero((labels[member_of("young")] == 1) & (labels["primary"] == 0))
    assert len(negatives) > 1
    other = logits["primary"].copy()
    other[negatives[0]] += 50
    losses = [objective(labels, {"primary": z}, weights)[0] for z in (logits["primary"], other)]
    assert losses[0] != losses[1]
    weights[negatives[0]] = 0
    losses = [objective(labels, {"primary": z}, weights)[0] for z in (logits["primary"], other)]
    np.testing.assert_array_equal(*losses)


def test_a_zero_weight_row_changes_nothing() -> None:
    """Property 8."""
    other = LOGITS | {"primary": LOGITS["primary"] + np.array([[0], [0], [0], [50]], "float32")}
    states = []
    for logits in (LOGITS, other):
        objective = GroupDRO(["young", "old"])
        loss, _ = objective(LABELS, logits, WEIGHTS)
        objective.update(objective.statistics(LABELS, logits, WEIGHTS))
        states.append([np.array(loss), *(np.array(variable) for variable in objective.variables)])
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_group_that_a_batch_lacks() -> None:
    objective = GroupDRO(["nobody"])
    labels = LABELS | {member_of("nobody"): np.zeros((4, 1))}
    objective.update(objective.statistics(labels, LOGITS, WEIGHTS))
    rest = np.exp(0.01 * np.average(losses_by_hand(), weights=WEIGHTS))
    np.testing.assert_allclose(objective.q, np.array([1, rest]) / (1 + rest), rtol=1e-5)


def test_reweighting() -> None:
    """Rows 0 and 3 are young and weigh 1.5 times as much, row 1 is old, 3 times: of weights 1, 2, 0.5 and 0."""
    losses = losses_by_hand()
    young = keras.Variable(0.5)
    loss, by_task = Reweighting({"young": young, "old": 2.0})(LABELS, LOGITS, WEIGHTS)
    np.testing.assert_allclose(loss, (1.5 * losses[0] + 2 * 3 * losses[1] + 0.5 * losses[2]) / 3.5, rtol=1e-5)
    np.testing.assert_allclose(by_task["primary"], np.average(losses, weights=WEIGHTS), rtol=1e-5)
    young.assign(0.0)
    np.testing.assert_allclose(Reweighting({"young": young})(LABELS, LOGITS, WEIGHTS)[0], by_task["primary"], rtol=1e-6)


def min_diff_rows(num_rows: int = 40) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, (num_rows, 1))
    labels = {"primary": rng.integers(0, 2, (num_rows, 1))}
    labels |= {member_of(name): kind == number for number, name in enumerate(("young", "old"))}
    logits = {"primary": rng.normal(size=(num_rows, 1)).astype("float32")}
    return {name: y.astype("float32") for name, y in labels.items()}, logits, rng.random(num_rows).astype("float32")


def test_min_diff_is_the_double_sum_over_pairs_of_rows() -> None:
    labels, logits, weights = min_diff_rows()
    z, w = logits["primary"][:, 0].astype(float), weights.astype(float)

    def kernel(rows: np.ndarray, others: np.ndarray) -> float:
        total = sum(w[i] * w[j] * np.exp(-((z[i] - z[j]) ** 2) / (2 * 0.5**2)) for i in rows for j in others)
        return total / (w[rows].sum() * w[others].sum())

    young, old = (np.nonzero((labels[member_of(c)] == 1) & (labels["primary"] == 0))[0] for c in ("young", "old"))
    assert min(len(young), len(old)) > 1
    expected = kernel(young, young) + kernel(old, old) - 2 * kernel(young, old)
    loss, by_task = MinDiff(["young", "old"], 0.3, length=0.5)(labels, logits, weights)
    np.testing.assert_allclose((np.array(loss) - np.array(by_task["primary"])) / 0.3, expected, rtol=1e-4)


def test_min_diff_vanishes_where_cohorts_are_alike_or_one_is_absent() -> None:
    labels, logits, weights = min_diff_rows()
    twice = [{name: np.concatenate([y, y]) for name, y in rows.items()} for rows in (labels, logits)]
    young = np.concatenate([np.ones(40), np.zeros(40)])[:, None].astype("float32")
    twice[0] |= {member_of("young"): young, member_of("old"): 1 - young}
    loss, by_task = MinDiff(["young", "old"], 1.0)(*twice, np.concatenate([weights, weights]))
    np.testing.assert_allclose(loss, by_task["primary"], atol=1e-6)
    absent = labels | {member_of("old"): np.zeros((40, 1), "float32")}
    loss, by_task = MinDiff(["young", "old"], 1.0)(absent, logits, weights)
    np.testing.assert_array_equal(loss, by_task["primary"])


def test_state() -> None:
    objective = GroupDRO(["young"])
    assert [variable.name for variable in state_of(objective)] == ["log_q", "row_weights", "total_weight"]
    assert list(state_of(weighted_sum_of_tasks())) == list(state_of(lambda *_: None)) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GroupDRO([]), r"`cohorts` must be names, at least one. Received: \[\]"),
        (lambda: GroupDRO("young"), r"`cohorts` must be names, at least one. Received: 'young'"),
        (lambda: GroupDRO(["young"], eta=0.0), r"`eta` must be positive. Received: eta=0.0"),
        (lambda: MinDiff(["young"], 1.0), r"`cohorts` must be two names. Received: \['young'\]"),
        (lambda: MinDiff(["young", "old"], 1.0, length=0.0), r"`length` must be positive. Received: length=0.0"),
        (lambda: Reweighting({"x": 1.0})(LABELS, LOGITS, WEIGHTS), r"must have membership .* without \['member:x'\]"),
        (lambda: GroupDRO(["x"])(LABELS, LOGITS, WEIGHTS), r"must have membership .* without \['member:x'\]"),
        (lambda: GroupDRO(["young"], primary="y")(LABELS, LOGITS, WEIGHTS), r"`primary` must be an output, one of"),
    ],
)
def test_wrong_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
