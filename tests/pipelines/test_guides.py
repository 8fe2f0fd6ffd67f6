"""Every `c2al` command of the guides is one that the command understands."""

import shlex
from pathlib import Path

import pytest
from c2al_pipelines import cli

REPOSITORY = Path(__file__).parents[2]
GUIDES = ("README.md", "pipelines/README.md", "serving/model_server/README.md", "pipelines/datasets/README.md")


def commands(guide: str) -> list[str]:
    """Lines of code that call `c2al`, those that go on in the next one joined."""
    text = (REPOSITORY / guide).read_text().replace("\\\n", " ")
    for written in ("data/ads/run.yaml", "ads.yaml", "clicks.yaml"):  # by commands before
        text = text.replace(f" {written}", " pipelines/configs/demo.yaml")
    return [line.strip() for line in text.splitlines() if line.strip().startswith("c2al ") and "`" not in line]


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_are_understood(guide, monkeypatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    found = commands(guide)
    assert len(found) > 2
    for command in found:
        words = shlex.split(command.rstrip("&"), comments=True)[1:]
        words = cli._positional_config(words)
        assert cli._parser(words[0]).parse_args(words).subcommand == words[0], command
