"""What C2AL is compared with under the same trainer: other losses, and other ways to combine gradients."""

from .gradients import PCGrad as PCGrad, ProjectedTasks as ProjectedTasks
from .groups import GroupDRO as GroupDRO, MinDiff as MinDiff, Reweighting as Reweighting
from .uncertainty import UncertaintyWeighting as UncertaintyWeighting
