"""The pages of the API reference, a Markdown file for each public module: `python pipelines/reference/pages.py FOLDER`.

A page names what is public, and mkdocstrings puts signatures and docstrings there: see `mkdocs.yml`.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import c2al_tf

REPOSITORY = Path(__file__).parents[2]
ADAPTERS = ("c2al_tf.integrations.tfrs", "c2al_tf.integrations.tfx")
SERVING = {
    "c2al_serving.client": ("PredictClient", "ModelClient", "VersionStatus", "PredictError"),
    "c2al_serving.async_client": ("AsyncPredictClient",),
    "c2al_serving.admin": ("reload_config",),
    "c2al_serving.server": ("Server", "serve"),
}


@dataclass(frozen=True)
class Page:
    """A module's page.

    Args:
        module: Its full name.
        names: Full names of what `c2al_tf` or the module offers, in order.
        further: Full names of what the module's own `__init__` offers beside.
    """

    module: str
    names: Sequence[str]
    further: Sequence[str] = ()

    @property
    def file(self) -> str:
        """Name of the page's file: `cohorts.md`, `serving/client.md`."""
        top, _, rest = self.module.partition(".")
        return f"{rest}.md" if top == "c2al_tf" else f"serving/{rest}.md"

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        return (ast.get_docstring(_tree(self.module)) or "").splitlines()[0]

    def text(self) -> str:
        """The page. A narrow screen breaks its title at the dots."""
        source = self.names[0].rpartition(".")[0]
        parts = [f"# {self.module.replace('.', '.<wbr>')}", self.summary, f"Import from `{source}`:"]
        parts += [f"::: {name}" for name in self.names]
        if self.further:
            parts += ["## More { #more }", f"Import from `{self.module}`:"]
            parts += [f"::: {name}" for name in self.further]
        return "\n\n".join(parts) + "\n"


def pages() -> Iterator[Page]:
    """All pages, in the order of the index."""
    modules: dict[str, list[str]] = {}
    for module, of_module in c2al_tf._MODULES.items():
        modules.setdefault(f"c2al_tf.{module.partition('.')[0]}", []).extend(of_module)
    for module, names in sorted(modules.items()):
        further = [name for name in _offered(module) if name.rpartition(".")[2] not in names]
        yield Page(module, [f"c2al_tf.{name}" for name in sorted(names)], further)
    for module in ADAPTERS:
        yield Page(module, _offered(module))
    for module, offered in SERVING.items():
        yield Page(module, [f"{module}.{name}" for name in offered])


def index(of: Sequence[Page]) -> str:
    """The first page: each module, what it is for, and its names."""
    parts = [
        "# API reference",
        "The public names of `c2al_tf`, by module: `import c2al_tf` gives each as `c2al_tf.NAME`, and loads TensorFlow "
        "when one needs it. The adapters and the server are imported by their modules' names.",
    ]
    for page in of:
        names = ", ".join(f"[`{name.rpartition('.')[2]}`]({page.file}#{name})" for name in page.names)
        parts.append(f"**[{page.module}]({page.file})**  \n{page.summary}  \n{names}")
    return "\n\n".join(parts) + "\n"


def write_pages(folder: Path) -> None:
    """Writes all pages into a folder, from which earlier ones are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.rglob("*.md"):
        stale.unlink()
    written = list(pages())
    for page in written:
        path = folder / page.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(page.text(), encoding="utf-8")
    (folder / "index.md").write_text(index(written), encoding="utf-8")


def _offered(module: str) -> list[str]:
    """Full names of classes and functions that a package's `__init__` hands on; none for a module that is a file."""
    path = _path(module)
    if path.name != "__init__.py":
        return []
    imports = [node for node in _tree(module).body if isinstance(node, ast.ImportFrom) and node.module]
    names = sorted((alias.name, node.module) for node in imports for alias in node.names if not alias.name.isupper())
    # A function that its module is named after: the package's name would mean the module.
    return [f"{module}.{home}.{name}" if name == home else f"{module}.{name}" for name, home in names]


def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text(encoding="utf-8"))


def _path(module: str) -> Path:
    top, *rest = module.split(".")
    folder = (REPOSITORY / {"c2al_tf": "c2al_tf", "c2al_serving": "serving"}[top]).joinpath(*rest)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
