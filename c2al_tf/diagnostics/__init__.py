"""What the factorization machines of a model attend to, and what the auxiliary tasks do to them."""

from .attention import attention_weights as attention_weights, measure_attention as measure_attention
from .callback import AttentionDiagnostics as AttentionDiagnostics, read_diagnostics as read_diagnostics
from .gradients import attention_gradients as attention_gradients
