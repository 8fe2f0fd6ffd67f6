"""What `c2al` offers: a configuration, the steps of a run, and serving."""

from .command import Command as Command
from .init import INIT_COMMANDS
from .run import RUN_COMMANDS
from .serving import SERVING_COMMANDS

COMMANDS = {**INIT_COMMANDS, **RUN_COMMANDS, **SERVING_COMMANDS}
