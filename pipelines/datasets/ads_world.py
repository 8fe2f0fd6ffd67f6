"""The world behind the synthetic click log: who sees which ad where, and how likely a click is.

A row's cohort `c` chooses which pairs of fields interact. The rows with the highest `user_value`, 5 % if not said
otherwise, are the head cohort, as many with the lowest the tail cohort, the others the majority:

    logit p = bias_c + value_slope * log(user_value) + sum_f effect_f[x_f]
              + strength_c / sqrt(|pairs_c|) * sum_{(f, g) in pairs_c} <latent_f[x_f], latent_g[x_g]> / 2

The latent vectors belong to the fields' values and all cohorts share them; only the pairs differ. So a model learns
the vectors from the majority, and under a loss that the majority dominates it neglects the cohorts' pairs.

The vectors have a mean of length 1, so that half of a pair's variance is in main effects of its two fields. With mean
0 there would be none, and a gradient finds pairs without main effects late and by luck: in one pass over 4 M rows the
NE of two seeds then differed by up to 1 %, fifty times what is to be measured.

A world holds 27 bytes per user and 21 per ad, and half as many again while it is drawn: 20 million of each are 1 GB
and take some seconds. Rows are drawn from it block by block, so that the length of the log costs no memory.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from c2al_tf.fields import check_fields
from c2al_tf.types import Array

BLOCK_ROWS = 65_536
"""Rows that are drawn from one random stream."""

MAJORITY, HEAD, TAIL = range(3)
COHORT_NAMES = ("majority", "head", "tail")

NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "age_group": ("13-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+"),
        "advertiser_size": ("micro", "small", "medium", "large", "enterprise"),
        "surface": ("feed", "stories", "search", "video", "marketplace", "messages"),
        "category": tuple(f"category-{i:02d}" for i in range(16)),
        "country": tuple(f"country-{i:02d}" for i in range(20)),
        "device": tuple(f"device-{i:02d}" for i in range(8)),
        "language": tuple(f"language-{i:02d}" for i in range(7)),
        "placement": tuple(f"placement-{i:02d}" for i in range(6)),
    }
)
"""How the values of the fields that are strings are written."""

DECOYS = ("age_group", "advertiser_size", "surface")
"""Axes along which the click rate differs too, but far less than along `user_value`; no planted pair is on them."""

EFFECT_FIELDS = ("user_id", "ad_id", "advertiser_id", "category", "country", "device", "hour")
LATENT_FIELDS = ("advertiser_id", "category", "language", "country", "placement", "device", "hour")
PAIRS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("category", "language"), ("country", "placement"), ("device", "hour"), ("advertiser_id", "country")),
    (("category", "device"), ("language", "hour"), ("advertiser_id", "placement")),
    (("category", "country"), ("placement", "hour"), ("language", "device")),
)
"""The pairs of fields that interact, by cohort. Each pair is in one cohort only, each field in the majority's too."""

USER_WEIGHT, ROW_WEIGHT = 0.6, 0.8
"""Of the user's part of log(user_value) and of the row's, both normal with variance 1; so has their sum."""

_STREAMS = {"world": 0, "calibration": 1, "train": 2, "validation": 3, "test": 4}
_CALIBRATION_BLOCKS = 8


@dataclass(frozen=True)
class SyntheticAds:
    """What the synthetic click log looks like.

    Args:
        num_rows: Rows of the split `train`.
        validation_rows: Rows of the split `validation`.
        test_rows: Rows of the split `test`; a cohort's interval needs clicks, and clicks are rare.
        seed: Chooses the world (users, ads, effects) and its rows.
        click_rate: Mean click rate of all rows, in (0, 0.2].
        cohort_share: Share of the rows in each of the two cohorts, in (0, 0.25].
        head_lift: Click rate of the head cohort, as a multiple of `click_rate`.
        tail_lift: Click rate of the tail cohort, as a multiple of `click_rate`.
        majority_strength: Standard deviation of what the majority's planted pairs add, in logits.
        cohort_strength: Standard deviation of what each cohort's planted pairs add, in logits.
        own_pairs: Whether each cohort's clicks depend on pairs of fields of its own. If not, they depend on the
            majority's as the majority's do: the cohorts differ in their click rates alone.
        main_strength: Standard deviation of the main effects, in logits.
        decoy_spread: Difference between the logits at the two ends of each decoy axis.
        value_slope: Change of the logit per unit of log(user_value), whose standard deviation is 1.
        num_users: Number of users, at least 100.
        num_ads: Number of ads, at least `num_advertisers`.
        num_advertisers: Number of advertisers, at least 3.
        zipf_exponent: A user or ad of rank `r` is seen in proportion to `r ** -zipf_exponent`.
        num_extra_ids: Number of further id fields, `extra_id_00` and so on, each with a main effect alone: rows as wide
            and vocabularies as large as in production.
        extra_id_values: Number of values of each of them, distributed as users and ads are.
    """

    num_rows: int = 4_000_000
    validation_rows: int = 400_000
    test_rows: int = 1_000_000
    seed: int = 0
    click_rate: float = 0.0037
    cohort_share: float = 0.05
    head_lift: float = 2.2
    tail_lift: float = 0.52
    majority_strength: float = 0.85
    cohort_strength: float = 1.15
    own_pairs: bool = True
    main_strength: float = 0.4
    decoy_spread: float = 0.3
    value_slope: float = 0.15
    num_users: int = 5_000
    num_ads: int = 1_000
    num_advertisers: int = 100
    zipf_exponent: float = 0.8
    num_extra_ids: int = 0
    extra_id_values: int = 100_000

    def __post_init__(self) -> None:
        check_fields(self)
        least = {"num_rows": 1, "validation_rows": 1, "test_rows": 1, "seed": 0, "num_users": 100, "num_advertisers": 3}
        least |= {"num_ads": self.num_advertisers, "num_extra_ids": 0, "extra_id_values": 1}
        for name, minimum in least.items():
            if getattr(self, name) < minimum:
                raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={getattr(self, name)}")
        if not 0 < self.click_rate <= 0.2:
            raise ValueError(f"`click_rate` must be in (0, 0.2]. Received: click_rate={self.click_rate}")
        if not 0 < self.cohort_share <= 0.25:
            raise ValueError(f"`cohort_share` must be in (0, 0.25]. Received: cohort_share={self.cohort_share}")
        if not all(0 < rate < 1 for rate in self.cohort_click_rates):
            raise ValueError(
                "`head_lift` and `tail_lift` must leave every cohort a click rate in (0, 1). Received: "
                f"click_rate={self.click_rate}, head_lift={self.head_lift}, tail_lift={self.tail_lift}"
            )

    @property
    def cohort_click_rates(self) -> tuple[float, float, float]:
        """Mean click rates of the majority, the head cohort and the tail cohort."""
        share = self.cohort_share
        majority = (1 - share * (self.head_lift + self.tail_lift)) / (1 - 2 * share)
        return self.click_rate * majority, self.click_rate * self.head_lift, self.click_rate * self.tail_lift

    @property
    def split_rows(self) -> dict[str, int]:
        """Number of rows by split."""
        return {"train": self.num_rows, "validation": self.validation_rows, "test": self.test_rows}

    @property
    def cohort_strengths(self) -> tuple[float, float, float]:
        """Standard deviation of what the planted pairs add, in logits, by cohort."""
        of_cohorts = self.cohort_strength if self.own_pairs else self.majority_strength
        return self.majority_strength, of_cohorts, of_cohorts

    @property
    def cohort_pairs(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """The pairs of fields that interact, by cohort."""
        return PAIRS if self.own_pairs else (PAIRS[MAJORITY],) * len(PAIRS)

    @property
    def id_values(self) -> dict[str, int]:
        """Number of values of each field whose values are integers."""
        extra = {f"extra_id_{i:02d}": self.extra_id_values for i in range(self.num_extra_ids)}
        ids = {"user_id": self.num_users, "ad_id": self.num_ads, "advertiser_id": self.num_advertisers}
        return {**ids, "hour": 24, **extra}


@dataclass(frozen=True, eq=False)
class World:
    """All that is drawn once per seed.

    Args:
        distributions: Cumulative distribution of each field that every row draws.
        derived: Each field that is a function of another: that field, and the function as an array.
        user_log_value: The user's part of log(user_value).
        effects: Main effects, by field; each an array over the field's values.
        latents: Latent vectors, by field; each (values, 2).
        biases: Intercepts of the majority, the head cohort and the tail cohort.
        tail_below: The tail cohort's `user_value` is below this.
        head_from: The head cohort's `user_value` is at least this.
    """

    distributions: Mapping[str, Array]
    derived: Mapping[str, tuple[str, Array]]
    user_log_value: Array
    effects: Mapping[str, Array]
    latents: Mapping[str, Array]
    biases: tuple[float, ...] = (0.0, 0.0, 0.0)
    tail_below: float = -math.inf
    head_from: float = math.inf

    def cohort(self, user_value: Array) -> Array:
        """`MAJORITY`, `HEAD` or `TAIL` of each row."""
        return np.where(user_value >= self.head_from, HEAD, np.where(user_value < self.tail_below, TAIL, MAJORITY))

    def draw_fields(self, rng: np.random.Generator) -> tuple[dict[str, Array], Array]:
        """Draws a block of rows: the value index of every field, and `user_value`."""
        fields = {
            name: np.minimum(np.searchsorted(distribution, rng.random(BLOCK_ROWS)), len(distribution) - 1)
            for name, distribution in self.distributions.items()
        }
        for name, (parent, values) in self.derived.items():
            fields[name] = values[fields[parent]]
        of_row = rng.standard_normal(BLOCK_ROWS)
        log_value = USER_WEIGHT * self.user_log_value[fields["user_id"]] + ROW_WEIGHT * of_row
        return fields, np.exp(log_value).astype(np.float32)

    def logits(self, parameters: SyntheticAds, fields: Mapping[str, Array], user_value: Array) -> Array:
        """The click logits of rows: the equation at the top of this file."""
        logits = parameters.value_slope * np.log(user_value.astype(np.float64))
        for name, effect in self.effects.items():
            logits += effect[fields[name]]
        cohorts = self.cohort(user_value)
        planted = zip(self.biases, parameters.cohort_strengths, parameters.cohort_pairs, strict=True)
        for cohort, (bias, strength, pairs) in enumerate(planted):
            rows = np.flatnonzero(cohorts == cohort)
            interaction = sum(
                np.einsum("rk,rk->r", self.latents[f][fields[f][rows]], self.latents[g][fields[g][rows]])
                for f, g in pairs
            )
            logits[rows] += bias + strength / (2 * math.sqrt(len(pairs))) * interaction
        return logits


def random_stream(parameters: SyntheticAds, name: str, block: int) -> np.random.Generator:
    """The random stream of one block of a split."""
    return np.random.default_rng((parameters.seed, _STREAMS[name], block))


@functools.lru_cache(maxsize=4)
def make_world(parameters: SyntheticAds) -> World:
    """Draws the world of a seed, with cohort limits and biases that give the sizes and click rates asked for."""
    world = _draw_world(parameters)
    blocks = [world.draw_fields(random_stream(parameters, "calibration", i)) for i in range(_CALIBRATION_BLOCKS)]
    user_value = np.concatenate([value for _, value in blocks])
    low, high = np.quantile(user_value, (parameters.cohort_share, 1 - parameters.cohort_share))
    world = replace(world, tail_below=float(np.float32(low)), head_from=float(np.float32(high)))
    logits = np.concatenate([world.logits(parameters, *block) for block in blocks])
    cohorts = world.cohort(user_value)

    def bias(cohort: int, rate: float) -> float:
        members = logits[cohorts == cohort]
        return float(brentq(lambda b: expit(members + b).mean() - rate, -100.0, 100.0, xtol=1e-6))

    return replace(world, biases=tuple(bias(c, rate) for c, rate in enumerate(parameters.cohort_click_rates)))


def _draw_world(parameters: SyntheticAds) -> World:
    rng = random_stream(parameters, "world", 0)
    num_users, num_ads, num_advertisers = parameters.num_users, parameters.num_ads, parameters.num_advertisers
    sizes = {name: len(values) for name, values in NAMES.items()} | parameters.id_values
    extra_ids = [name for name in parameters.id_values if name.startswith("extra")]
    # Every advertiser has an ad, and chance decides who has more.
    advertisers = np.r_[np.arange(num_advertisers), rng.integers(0, num_advertisers, num_ads - num_advertisers)]
    age_shares = (0.06, 0.16, 0.24, 0.20, 0.15, 0.11, 0.08)
    derived = {
        "age_group": ("user_id", _compact(rng.choice(sizes["age_group"], num_users, p=age_shares))),
        "language": ("user_id", _compact(rng.choice(sizes["language"], num_users, p=_zipf(sizes["language"], 0.6)))),
        "country": ("user_id", _compact(rng.choice(sizes["country"], num_users, p=_zipf(sizes["country"], 0.6)))),
        "advertiser_id": ("ad_id", _compact(rng.permutation(advertisers))),
        "category": ("ad_id", _compact(rng.integers(0, sizes["category"], num_ads))),
        "advertiser_size": ("advertiser_id", _compact(rng.integers(0, sizes["advertiser_size"], num_advertisers))),
    }
    shares = {
        "user_id": _zipf(num_users, parameters.zipf_exponent),
        "ad_id": _zipf(num_ads, parameters.zipf_exponent),
        "surface": _zipf(sizes["surface"], 0.6),
        "placement": _zipf(sizes["placement"], 0.6),
        "device": _zipf(sizes["device"], 0.6),
        "hour": np.full(24, 1 / 24),
        **{name: _zipf(sizes[name], parameters.zipf_exponent) for name in extra_ids},
    }
    distributions = {name: np.cumsum(share) for name, share in shares.items()}
    for name, (parent, values) in derived.items():
        shares[name] = np.bincount(values, shares[parent], minlength=sizes[name])
    with_effect = [*EFFECT_FIELDS, *extra_ids]
    scale = parameters.main_strength / math.sqrt(len(with_effect))
    effects = {name: rng.normal(0.0, scale, sizes[name]) for name in with_effect}
    effects |= {name: parameters.decoy_spread * np.linspace(-0.5, 0.5, sizes[name]) for name in DECOYS}
    latents = {name: _latent_vectors(rng, shares[name]) for name in LATENT_FIELDS}
    return World(
        distributions=distributions,
        derived=derived,
        user_log_value=rng.standard_normal(num_users),
        effects=effects,
        latents=latents,
    )


def _zipf(size: int, exponent: float) -> Array:
    shares = np.arange(1.0, size + 1) ** -exponent
    return shares / shares.sum()


def _compact(indices: Array) -> Array:
    """The same indices, in the smallest type that holds them: with millions of users that is most of their memory."""
    return indices.astype(np.min_scalar_type(indices.max()))


def _latent_vectors(rng: np.random.Generator, shares: Array) -> Array:
    """Vectors in the plane, (values, 2), with a mean of length 1 and covariance 1 over the rows.

    So `<u, v> / 2` of two independent fields has variance 1, a quarter of it in each field's main effect.
    """
    angles = 2 * np.pi * rng.permutation(len(shares)) / len(shares)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors -= shares @ vectors
    covariance = np.einsum("v,vi,vj->ij", shares, vectors, vectors)
    return np.linalg.solve(np.linalg.cholesky(covariance), vectors.T).T + 1 / math.sqrt(2)
