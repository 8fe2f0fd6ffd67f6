"""What a subcommand of `c2al` is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jsonargparse


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, how it is called, its arguments, the function that gets them, and its extras."""

    description: str
    usage: str
    example: str
    add_arguments: Callable[[jsonargparse.ArgumentParser], None]
    call: Callable[[Any], None]
    extras: tuple[str, ...]  # of the wheel: what it imports, late or early
