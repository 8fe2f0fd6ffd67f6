"""One loaded version of a model, which answers requests."""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from c2al_tf.protocol.messages import PredictResponse
from c2al_tf.protocol.tensors import fill_proto
from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModel

from ..config.batching_parameters import BatchingParameters
from ..metrics import Metrics
from .batching import Batcher


class Servable(AbstractContextManager["Servable"]):
    """A version folder that is loaded and answers requests; `load_servable` also warms it up.

    Without `batching` requests are not merged; `num_threads` work on one call of the model.
    """

    def __init__(
        self,
        name: str,
        version: int,
        directory: Path,
        batching: BatchingParameters | None = None,
        num_threads: int = 1,
        metrics: Metrics | None = None,
    ) -> None:
        self.name, self.version = name, version
        self.metrics = metrics or Metrics()
        self.model = SavedModel(directory, num_threads=num_threads)
        self._batcher = Batcher(self.model, batching, self.metrics)

    async def predict(self, request: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
        """Answers a PredictRequest with these inputs; those in the message are not looked at."""
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        outputs = await self.run(inputs, signature, request.output_filter)
        response = PredictResponse()
        self.fill_model_spec(response.model_spec, signature)
        for name, array in outputs.items():
            fill_proto(response.outputs[name], array, as_fields=True)
        return response

    async def run(
        self, inputs: Mapping[str, NDArray[Any]], signature: str, outputs: Sequence[str] = (), api: str = "Predict"
    ) -> dict[str, NDArray[Any]]:
        """What `SavedModel.run` gives, batched with other requests where the server batches."""
        start = time.perf_counter()
        answers = await self._batcher.run(inputs, signature, outputs)
        self.metrics.inference(self.name, self.version, api, start)
        return answers

    def fill_model_spec(self, spec: Any, signature: str) -> None:
        """Says which version and signature have answered."""
        spec.name, spec.signature_name, spec.version.value = self.name, signature, self.version

    def close(self) -> None:
        """Finishes the calls under way and releases the model."""
        self._batcher.close()
        self.model.close()

    def __exit__(self, *error: object) -> None:
        self.close()
