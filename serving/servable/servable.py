"""One loaded version of a model, which answers requests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModel

from ..config.batching_parameters import BatchingParameters
from ..protocol.errors import RequestError
from ..protocol.memory import MAX_MEMORY
from ..protocol.messages import PredictEnvelope, PredictResponse
from .batching import Batcher
from .decoding import Decoder, Inputs
from .encoding import Encoder

_decoder = Decoder()
"""Shared by all versions: clients send the same forms to the next version, whose first request is then as fast."""


class Servable:
    """A version that is loaded and answers requests; `load_servable` also warms it up.

    Args:
        name: Name that requests call it by.
        version: Its number.
        directory: The version folder.
        batching: How requests are merged; None: they are not.
    """

    def __init__(self, name: str, version: int, directory: Path, batching: BatchingParameters | None = None) -> None:
        self.name, self.version = name, version
        self.model = SavedModel(directory, num_threads=1)
        self._encoder, self._specs = Encoder(), dict[str, bytes]()
        self._batcher = Batcher(self.model, batching)

    async def predict(self, envelope: Any, room: int = MAX_MEMORY) -> bytes:
        """Answers a PredictRequest, read as a PredictEnvelope, with a serialized PredictResponse.

        Args:
            envelope: The request.
            room: Bytes that its inputs may cost beyond two copies of what they send.
        """
        signature = envelope.model_spec.signature_name or DEFAULT_SIGNATURE
        self._check_count(envelope, signature)
        inputs = _decoder.decode(envelope.inputs, room)
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

    def _check_count(self, envelope: Any, signature: str) -> None:
        """Refuses more inputs or outputs than the signature has, before any is read.

        protobuf's maps let the last of two entries with one name win. Here they are refused: as many entries as inputs
        can only be all inputs, once each.
        """
        if signature not in self.model.signatures:
            self.model.check_forms({}, signature)  # which says so
        specs = self.model.signatures[signature]
        if len(envelope.inputs) > len(specs.inputs):
            raise RequestError(
                f"Inputs do not match the signature. `inputs` may have one entry for each of: "
                f"{', '.join(sorted(specs.inputs))}. Received: {len(envelope.inputs)} entries"
            )
        if len(envelope.output_filter) > len(specs.outputs):
            raise RequestError(
                f"`output_filter` may have each of the signature's outputs once: {', '.join(sorted(specs.outputs))}. "
                f"Received: {len(envelope.output_filter)} names"
            )

    def warm_up(self, request: Any) -> None:
        """Answers a PredictRequest outside any event loop and drops the answer."""
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        envelope = PredictEnvelope.FromString(request.SerializeToString())
        inputs = _decoder.decode(envelope.inputs).arrays()
        # All outputs, as the batcher asks for: TensorFlow prepares each set of outputs separately.
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
