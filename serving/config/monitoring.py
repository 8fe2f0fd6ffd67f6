"""What Prometheus may read, from tensorflow_model_server's `--monitoring_config_file`."""

from pathlib import Path

from google.protobuf import text_format

from ..protocol import messages

PATH = "/monitoring/prometheus/metrics"


def read_metrics_path(path: Path) -> str | None:
    """Reads a `MonitoringConfig` as text: the path of the metrics on the REST port; None if they are not enabled.

    Raises:
        ValueError: If it is none, or `path` does not begin with a slash; the message names file, line and field.
    """
    try:
        config = text_format.Parse(path.read_text(), messages.MonitoringConfig(), descriptor_pool=messages.POOL)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ValueError(f"{path}: {error}") from error
    prometheus = config.prometheus_config
    if prometheus.path and not prometheus.path.startswith("/"):
        raise ValueError(f"{path}: `path` must begin with a slash, such as {PATH}. Received: {prometheus.path!r}")
    return (prometheus.path or PATH) if prometheus.enable else None
