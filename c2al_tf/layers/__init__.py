"""Keras layers of the backbone and its task heads, the model that holds them: `keras.ops` alone, for any backend."""

from .cross import CrossLayer as CrossLayer
from .dhen import DHENBlock as DHENBlock
from .field_embedding import FieldEmbedding as FieldEmbedding
from .fm_attention import (
    FMAttention as FMAttention,
    attention_sparsity as attention_sparsity,
    fm_attention as fm_attention,
    freeze_attention as freeze_attention,
)
from .history_attention import HistoryAttention as HistoryAttention
from .interactions import FieldMixing as FieldMixing
from .mixture_head import Experts as Experts, MixtureHead as MixtureHead
from .named_inputs import NamedInputs as NamedInputs
from .task_head import TaskHead as TaskHead
