"""C2AL, Cohort-Contrastive Auxiliary Learning (arXiv 2510.02215), for Keras 3 on TensorFlow.

The public names, by module. They are imported when first used: `import c2al_tf` itself loads no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cohort_model import with_cohort_heads as with_cohort_heads
    from .cohorts import (
        Axis as Axis,
        Cohort as Cohort,
        Discovery as Discovery,
        Guard as Guard,
        Interval as Interval,
        Values as Values,
        discover_cohorts as discover_cohorts,
    )
    from .config import ModelConfig as ModelConfig, TrainingConfig as TrainingConfig
    from .data.columns.readers import read_columns as read_columns
    from .data.inputs.dataset import make_dataset as make_dataset
    from .data.inputs.encoded import encode_rows as encode_rows
    from .data.inputs.features import FeatureEncoder as FeatureEncoder
    from .data.inputs.labelled_dataset import add_cohort_labels as add_cohort_labels
    from .data.inputs.labels import cohort_labels as cohort_labels
    from .data.inputs.sharding import Shard as Shard
    from .data.preparation.prepare import prepare as prepare
    from .data.preparation.source import FeatureSpec as FeatureSpec, Source as Source
    from .diagnostics import (
        AttentionDiagnostics as AttentionDiagnostics,
        attention_gradients as attention_gradients,
        attention_weights as attention_weights,
        measure_attention as measure_attention,
    )
    from .evaluation import (
        compare_arms as compare_arms,
        count_arms as count_arms,
        evaluate_by_cohort as evaluate_by_cohort,
    )
    from .evaluation.scoring import slice_metrics as slice_metrics
    from .export import export_for_serving as export_for_serving
    from .integrations.schemas.make_schema import make_schema as make_schema
    from .integrations.schemas.parsing_spec import make_parsing_spec as make_parsing_spec
    from .layers import (
        CrossLayer as CrossLayer,
        DHENBlock as DHENBlock,
        FieldEmbedding as FieldEmbedding,
        FieldMixing as FieldMixing,
        FMAttention as FMAttention,
        HistoryAttention as HistoryAttention,
        TaskHead as TaskHead,
        freeze_attention as freeze_attention,
    )
    from .losses import binary_cross_entropy as binary_cross_entropy, weighted_sum_of_tasks as weighted_sum_of_tasks
    from .metrics import NormalizedEntropy as NormalizedEntropy
    from .model import (
        add_cohort_heads as add_cohort_heads,
        build_model as build_model,
        strip_auxiliary_heads as strip_auxiliary_heads,
    )
    from .objectives import (
        GroupDRO as GroupDRO,
        MinDiff as MinDiff,
        PCGrad as PCGrad,
        ProjectedTasks as ProjectedTasks,
        Reweighting as Reweighting,
        UncertaintyWeighting as UncertaintyWeighting,
    )
    from .optimizers import (
        FlatAdam as FlatAdam,
        LazyAdam as LazyAdam,
        RowWiseAdagrad as RowWiseAdagrad,
        SparseAdagrad as SparseAdagrad,
    )
    from .predictions import predict_columns as predict_columns
    from .saved_model import SavedModel as SavedModel
    from .schema import (
        CategoricalFeature as CategoricalFeature,
        Column as Column,
        NumericFeature as NumericFeature,
        Schema as Schema,
    )
    from .training import evaluate as evaluate, predict as predict, train as train
    from .trial import Trial as Trial, compare as compare

_MODULES = {
    "cohorts": ("Axis", "Cohort", "Discovery", "Guard", "Interval", "Values", "discover_cohorts"),
    "cohort_model": ("with_cohort_heads",),
    "config": ("ModelConfig", "TrainingConfig"),
    "data.columns.readers": ("read_columns",),
    "data.inputs.dataset": ("make_dataset",),
    "data.inputs.encoded": ("encode_rows",),
    "data.inputs.features": ("FeatureEncoder",),
    "data.inputs.labelled_dataset": ("add_cohort_labels",),
    "data.inputs.labels": ("cohort_labels",),
    "data.inputs.sharding": ("Shard",),
    "data.preparation.prepare": ("prepare",),
    "data.preparation.source": ("FeatureSpec", "Source"),
    "diagnostics": ("AttentionDiagnostics", "attention_gradients", "attention_weights", "measure_attention"),
    "evaluation": ("compare_arms", "count_arms", "evaluate_by_cohort"),
    "evaluation.scoring": ("slice_metrics",),
    "export": ("export_for_serving",),
    "integrations.schemas.make_schema": ("make_schema",),
    "integrations.schemas.parsing_spec": ("make_parsing_spec",),
    "layers": (
        "CrossLayer",
        "DHENBlock",
        "FMAttention",
        "FieldEmbedding",
        "FieldMixing",
        "HistoryAttention",
        "TaskHead",
        "freeze_attention",
    ),
    "losses": ("binary_cross_entropy", "weighted_sum_of_tasks"),
    "metrics": ("NormalizedEntropy",),
    "model": ("add_cohort_heads", "build_model", "strip_auxiliary_heads"),
    "objectives": ("GroupDRO", "MinDiff", "PCGrad", "ProjectedTasks", "Reweighting", "UncertaintyWeighting"),
    "optimizers": ("FlatAdam", "LazyAdam", "RowWiseAdagrad", "SparseAdagrad"),
    "predictions": ("predict_columns",),
    "saved_model": ("SavedModel",),
    "schema": ("CategoricalFeature", "Column", "NumericFeature", "Schema"),
    "training": ("evaluate", "predict", "train"),
    "trial": ("Trial", "compare"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; there are {__all__}")
    try:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        from .extras import as_missing_extra

        if missing := as_missing_extra(error):
            raise missing from error
        raise
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
