"""What the `run_fn` of a TFX Trainer and the Evaluator behind it need; nothing of TFX has to be installed."""

from .evaluator import add_cohort_slices as add_cohort_slices, tfma_config as tfma_config
from .metadata import parsing_spec as parsing_spec
from .records import read_examples as read_examples, read_raw as read_raw
from .transform import Transform as Transform, load_transform as load_transform
