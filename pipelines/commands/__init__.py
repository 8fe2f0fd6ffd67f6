"""What `c2al` offers: the steps of a run, and serving."""

from .command import Command as Command
from .run import RUN_COMMANDS
from .serving import SERVING_COMMANDS

COMMANDS = {**RUN_COMMANDS, **SERVING_COMMANDS}
