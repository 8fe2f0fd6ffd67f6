"""Keras layers of the backbone and its task heads: `keras.ops` alone, for any Keras backend."""

from .dhen import DHENBlock as DHENBlock
from .field_embedding import FieldEmbedding as FieldEmbedding
from .fm_attention import FMAttention as FMAttention, fm_attention as fm_attention
from .interactions import FieldMixing as FieldMixing
from .task_head import TaskHead as TaskHead
