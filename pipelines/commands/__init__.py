"""What `c2al` offers: a configuration, the steps of a run, logs of any size, and serving."""

from .command import Command as Command
from .init import INIT_COMMANDS
from .logs import LOG_COMMANDS
from .run import RUN_COMMANDS
from .serving import SERVING_COMMANDS

COMMANDS = {**INIT_COMMANDS, **RUN_COMMANDS, **LOG_COMMANDS, **SERVING_COMMANDS}
