"""What a subcommand of `c2al` is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonargparse


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, how it is called, its arguments, and the function that gets them."""

    description: str
    usage: str
    example: str
    add_arguments: Callable[[jsonargparse.ArgumentParser], None]
    call: Callable[[Any], None]
