"""One loaded version of a model."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModel

from ..config.batching_parameters import BatchingParameters
from ..protocol.messages import PredictEnvelope, PredictResponse
from .batching import Batcher
from .decoding import Decoder, Inputs
from .encoding import Encoder
from .warmup import warm_up

_log = logging.getLogger(__name__)
_decoder = Decoder()
"""Of all versions: what clients send looks the same to the next one, whose first request it need not slow."""


class Servable:
    """A version that answers: loaded, and warmed by its `assets.extra/tf_serving_warmup_requests`.

    Args:
        name: Name that requests call it by.
        version: Its number.
        directory: The version folder.
        batching: How requests are merged; None: they are not.
    """

    def __init__(self, name: str, version: int, directory: Path, batching: BatchingParameters | None = None) -> None:
        self.name, self.version = name, version
        started = time.monotonic()
        self.model = SavedModel(directory, num_threads=1)
        self._encoder, self._specs = Encoder(), dict[str, bytes]()
        self._batcher = Batcher(self.model, batching)
        try:
            warmed = warm_up(self, directory)
        except BaseException:
            self.close()
            raise
        seconds = time.monotonic() - started
        _log.info("loaded %s version %d in %.1f s, %d warm-up requests", name, version, seconds, warmed)

    async def predict(self, envelope: Any) -> bytes:
        """Answers a PredictRequest, read as a PredictEnvelope, with a serialized PredictResponse."""
        signature = envelope.model_spec.signature_name or DEFAULT_SIGNATURE
        inputs = _decoder.decode(envelope.inputs)
        outputs = await self._batcher.run(inputs, signature, envelope.output_filter)
        return self.response(outputs, signature)

    async def run(
        self, arrays: Mapping[str, NDArray[Any]], signature: str, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """What `SavedModel.run` gives, batched with other requests where the server batches."""
        return await self._batcher.run(Inputs.of(arrays), signature, outputs)

    def response(self, outputs: Mapping[str, NDArray[Any]], signature: str) -> bytes:
        """The serialized PredictResponse of some outputs."""
        if signature not in self._specs:
            response = PredictResponse()
            spec = response.model_spec
            spec.name, spec.version.value, spec.signature_name = self.name, self.version, signature
            self._specs[signature] = response.SerializeToString()
        # Serialized messages that follow each other are one message with the fields of all.
        return self._specs[signature] + b"".join(self._encoder.encode(name, array) for name, array in outputs.items())

    def warm_up(self, request: Any) -> None:
        """Answers a PredictRequest to nobody, outside any event loop."""
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        envelope = PredictEnvelope.FromString(request.SerializeToString())
        inputs = _decoder.decode(envelope.inputs).arrays()
        # Of all outputs, as the batcher asks for them: TensorFlow prepares each set of outputs apart.
        self.response(self.model.run(inputs, signature), signature)

    def close(self) -> None:
        """Finishes the calls under way and releases the model."""
        self._batcher.close()
        self.model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
