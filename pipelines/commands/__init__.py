"""What `c2al` offers: a configuration, the steps of a run, logs of any size, serving, and rows to try it on."""

from .command import Command as Command
from .generate import GENERATE_COMMANDS
from .init import INIT_COMMANDS
from .logs import LOG_COMMANDS
from .run import RUN_COMMANDS
from .serving import SERVING_COMMANDS

COMMANDS = {**INIT_COMMANDS, **RUN_COMMANDS, **GENERATE_COMMANDS, **LOG_COMMANDS, **SERVING_COMMANDS}
