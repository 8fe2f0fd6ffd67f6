"""A base path with a small export, and a server process over it."""

import pytest
from c2al_pipelines.benchmarks.serving_proofs.exports import publish_small
from c2al_pipelines.benchmarks.serving_proofs.questions import read_questions
from c2al_pipelines.benchmarks.serving_proofs.server_process import serve


@pytest.fixture(scope="session")
def base_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("served")
    publish_small(path, seed=0)
    return path


@pytest.fixture(scope="session")
def questions(base_path):
    return read_questions(base_path / "1")


@pytest.fixture
def server(base_path):
    with serve(base_path) as server:
        yield server
