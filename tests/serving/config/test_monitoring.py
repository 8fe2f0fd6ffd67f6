"""The real server's monitoring file: read, and what a server makes of it."""

import urllib.error
import urllib.request

import pytest
from c2al_serving.config.monitoring import PATH, read_metrics_path
from c2al_serving.server import Server


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "monitoring.config"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('prometheus_config { enable: true, path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", PATH),
        ('prometheus_config { path: "/metrics" }', None),
        ("", None),
    ],
)
def test_files_of_the_real_server(write, text, expected) -> None:
    assert read_metrics_path(write(text)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prometheus { }", 'monitoring.config: .*no field named "prometheus"'),
        ('prometheus_config { path: "metrics" }', "`path` must begin with a slash, such as /mon.*Received: 'metrics'"),
    ],
)
def test_what_is_no_config(write, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_metrics_path(write(text))


@pytest.mark.parametrize(("metrics_path", "found"), [("/metrics", [200, 404]), (None, [404, 404])])
def test_the_path_is_the_servers(export, metrics_path, found) -> None:
    with Server(export.base_path, rest_port=0, metrics_path=metrics_path) as server:
        statuses = []
        for path in ("/metrics?from=here", PATH):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{path}", timeout=300) as answer:
                    statuses.append(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    statuses.append(error.code)
        assert statuses == found
