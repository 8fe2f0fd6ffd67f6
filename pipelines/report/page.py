"""The page of a report: sections that appear where there is something to show, in one HTML file that stands alone."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jinja2
import numpy as np
from markupsafe import Markup, escape

from c2al_tf.files import replace_file

from .evidence import label
from .pairs import refusal

HEADLINES = {"use": "Use it", "do not use": "Do not use it", "undecided": "Undecided"}
"""What is recommended, as a headline."""


class _Interval(Protocol):
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def write_page(folder: Path, content: Mapping[str, Any]) -> Path:
    """Writes `report.html`, which loads nothing from anywhere; what `content` lacks has no section."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "signed": _signed, "interval": _interval, "size": _size, "span": _span}
    environment.filters |= {"label": label, "refusal": refusal, "code": _code}
    page = environment.get_template("page.html").render({"headlines": HEADLINES, **content})
    path = folder / "report.html"
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _code(text: str) -> Markup:
    """Text with `code` in it."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _figure(value: float | None, digits: int = 4) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "\N{EN DASH}" if value is None else f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _interval(found: _Interval, digits: int = 3) -> str:
    return "no interval" if found.low is None else f"{_signed(found.low, digits)} to {_signed(found.high, digits)}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.2f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.2f} kB"


def _span(seconds: Sequence[float]) -> str:
    """Mean of durations, in words; of a training too short to be timed there is none."""
    mean = float(np.mean(seconds))
    if not mean:
        return "\N{EN DASH}"
    return f"{mean:.1f} s" if mean < 120 else f"{mean / 60:.1f} min" if mean < 7200 else f"{mean / 3600:.1f} h"
