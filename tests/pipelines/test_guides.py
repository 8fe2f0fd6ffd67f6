"""Commands of the guides are understood, their links lead somewhere, and every example has a guide."""

import re
import shlex
from pathlib import Path

import pytest
from c2al_pipelines import cli

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for folder in (".", "c2al_tf", "pipelines", "serving")
    for path in (REPOSITORY / folder).glob("*.md" if folder == "." else "**/*.md")
)
GUIDES = (
    "README.md",
    "pipelines/README.md",
    "pipelines/datasets/README.md",
    "pipelines/datasets/TFRECORD.md",
    "serving/model_server/README.md",
    "serving/model_server/DEPLOYMENT.md",
)
EXAMPLES = sorted(path.name for path in (REPOSITORY / "pipelines" / "examples").glob("*.py"))


def commands(guide: str) -> list[str]:
    """Lines of code that call `c2al`, those that go on in the next one joined."""
    text = (REPOSITORY / guide).read_text().replace("\\\n", " ")
    for written in ("data/ads/run.yaml", "ads.yaml", "clicks.yaml"):  # by commands before
        text = text.replace(f" {written}", " pipelines/configs/demo.yaml")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("c2al ") and "`" not in line]


def links(page: str) -> list[str]:
    """Targets of the page's links within the repository, as FILE, FILE#PLACE or #PLACE."""
    text = re.sub(r"^```.*?^```$", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if ":" not in target]


def places(page: Path) -> set[str]:
    """What links into a page may name: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_are_understood(guide, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    found = commands(guide)
    assert len(found) > 2
    for command in found:
        words = shlex.split(command.rstrip("&"), comments=True)[1:]
        words = cli._positional_config(words)
        assert cli._parser(words[0]).parse_args(words).subcommand == words[0], command


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page) -> None:
    for target in links(page):
        file, _, place = target.partition("#")
        path = (REPOSITORY / page).parent / file if file else REPOSITORY / page
        assert path.exists(), target
        assert not place or place in places(path), target


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_has_a_guide_that_says_how_to_run_it(example) -> None:
    guides = [page for page in PAGES if any(target.endswith(f"examples/{example}") for target in links(page))]
    assert guides
    script = f"pipelines/examples/{example}"
    assert f"python {script}" in (REPOSITORY / script).read_text()
    assert any(f"python {script}" in (REPOSITORY / page).read_text() for page in guides) or example == "census_dcn.py"
