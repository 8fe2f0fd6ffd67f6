"""The extras of `pyproject.toml` that a user may lack: the modules of each, and how to install what is missing."""

import importlib.util
import itertools
from collections.abc import Sequence

MODULES = {
    "client": ("google.protobuf", "grpc"),
    "cohorts": ("datasketches", "pyarrow", "rich", "scipy", "tqdm"),
    "train": ("keras", "tensorflow", "tensorflow_serving"),
    "serving": ("aiohttp", "grpc_health", "grpc_reflection", "prometheus_client", "tensorflow"),
    "report": ("jinja2", "matplotlib"),
    "experiments": ("optuna", "sklearn", "tensorboard"),
    "tfrs": ("tensorflow_recommenders", "tf_keras"),
    "beam": ("apache_beam",),
}
"""Extra to the modules that it adds to those of the extras that it includes."""


class MissingExtraError(ModuleNotFoundError):
    """Modules are not installed, and an extra has them."""


def require(*extras: str) -> None:
    """Checks that the modules of extras can be found, and imports none.

    Raises:
        MissingExtraError: If modules are missing. It names them, and the command that installs them.
    """
    missing = {extra: [name for name in MODULES[extra] if not _is_there(name)] for extra in extras}
    if any(missing.values()):
        names = list(dict.fromkeys(itertools.chain(*missing.values())))
        raise _missing(names, [extra for extra in extras if missing[extra]])


def as_missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error that names the extra of the module that was not found; None if no extra has that module."""
    name = error.name or ""
    extras = [extra for extra, modules in MODULES.items() if any(f"{each}.".startswith(f"{name}.") for each in modules)]
    return _missing([name], extras[:1]) if extras else None


def _is_there(name: str) -> bool:
    # Parents first: of a module in an absent package `find_spec` raises.
    return all(map(importlib.util.find_spec, itertools.accumulate(name.split("."), "{}.{}".format)))


def _missing(names: Sequence[str], extras: Sequence[str]) -> MissingExtraError:
    return MissingExtraError(
        f"not installed: {', '.join(names)}. Install with: pip install 'c2al_tf[{','.join(extras)}]'", name=names[0]
    )
