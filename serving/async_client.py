"""An asyncio gRPC client of TensorFlow Serving's API, tested with the embedded server. Imports no TensorFlow."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any, NamedTuple, Unpack

import grpc
import numpy as np
from numpy.typing import NDArray

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import DEFAULT_SIGNATURE, Signature, fill_proto, from_proto

from .requests import pieces
from .requests.casting import Rows, as_array, cast_columns, named_columns
from .requests.model_client import EXAMPLES_INPUT, EXAMPLES_SIGNATURE, Call, ModelClient, PredictError as PredictError

_CONCURRENCY = 4  # pieces of one batch that are under way at a time


class VersionStatus(NamedTuple):
    """State of one version: `AVAILABLE`, `LOADING`, `END` ...; `error` says why it is not available."""

    version: int
    state: str
    error: str


class AsyncPredictClient(ModelClient, AbstractAsyncContextManager["AsyncPredictClient"]):
    """Asks one model from coroutines. An asynchronous context manager.

    It is made where an event loop runs, and belongs to that loop. The arguments are `ModelClient`'s. A cancelled call
    cancels its requests, and the pieces of a large batch go out a few at a time.
    """

    async def predict(
        self, columns: Rows, signature_name: str = DEFAULT_SIGNATURE, outputs: Sequence[str] = (), **call: Unpack[Call]
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for a batch of rows, in order.

        Args:
            columns: An array or list for each input, all with the same number of rows; a pandas DataFrame or a pyarrow
                Table of them. A multi-valued input's rows are lists of one length.
            signature_name: Signature to call.
            outputs: Outputs to return; all of them if empty.
            **call: As of every method: `timeout`, seconds that each request may take, instead of the client's, and
                `metadata`, what goes with each request, beside the client's or, for the same key, instead.

        Raises:
            ValueError: If columns do not fit the signature or each other, or a value is missing.
            PredictError: If the server refuses, is late, or cannot be reached.
        """
        arrays, signatures = named_columns(columns), self._signatures
        if self.cast and signatures is None:
            signatures = self._signatures = (await self._ask_metadata(call))[1]
        if signatures is None:
            arrays = {name: as_array(name, column) for name, column in arrays.items()}
        elif signature_name in signatures:
            arrays = cast_columns(arrays, signatures[signature_name].inputs)
        else:
            raise ValueError(f"{self.model_name}: no signature {signature_name!r}. It has: {', '.join(signatures)}")

        def make(piece: slice) -> Any:
            request = messages.PredictRequest(model_spec=self._spec(signature_name), output_filter=outputs)
            for name, array in arrays.items():
                fill_proto(request.inputs[name], array[piece])
            return request

        slices, answers = await self._ask_in_pieces("PredictionService.Predict", make, arrays, call)
        parts = [{name: _writeable(answer.outputs[name]) for name in sorted(answer.outputs)} for answer in answers]
        return pieces.concatenate(parts, slices)

    async def predict_examples(
        self, examples: Sequence[bytes], outputs: Sequence[str] = (), **call: Unpack[Call]
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for serialized tf.Examples, by the signature `serialized_examples`."""
        columns = {EXAMPLES_INPUT: np.array(examples, object)}
        # Of the class: `PredictClient`, which runs this too, has another `predict`.
        return await AsyncPredictClient.predict(self, columns, EXAMPLES_SIGNATURE, outputs, **call)

    async def classify(
        self, examples: Sequence[bytes], signature_name: str = DEFAULT_SIGNATURE, **call: Unpack[Call]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns labels and scores of serialized tf.Examples, (rows, classes) each, by a signature of Classify."""
        kind = messages.ClassificationRequest
        results = await self._ask_examples("Classify", kind, examples, signature_name, call)
        rows = [row.classes for result in results for row in result.classifications]
        labels = np.array([[each.label for each in row] for row in rows], object)
        return labels, np.array([[each.score for each in row] for row in rows], np.float32)

    async def regress(
        self, examples: Sequence[bytes], signature_name: str = DEFAULT_SIGNATURE, **call: Unpack[Call]
    ) -> NDArray[Any]:
        """Returns values of serialized tf.Examples, (rows,), by a signature of Regress."""
        results = await self._ask_examples("Regress", messages.RegressionRequest, examples, signature_name, call)
        return np.array([row.value for result in results for row in result.regressions], np.float32)

    async def metadata(self, **call: Unpack[Call]) -> dict[str, Signature]:
        """Returns the model's signatures, as the server declares them now."""
        return (await self._ask_metadata(call))[1]

    async def status(self, **call: Unpack[Call]) -> list[VersionStatus]:
        """Returns the state of each version that the server knows."""
        request, name = messages.GetModelStatusRequest(model_spec=self._spec()), messages.ModelVersionStatus.State.Name
        found = (await self._ask("ModelService.GetModelStatus", request, call)).model_version_status
        return [VersionStatus(each.version, name(each.state), each.status.error_message) for each in found]

    async def pin(self, **call: Unpack[Call]) -> int:
        """Asks the version that answers now, and no other, from now on; returns its number."""
        spec, _ = await self._ask_metadata(call)
        if not spec.HasField("version"):
            raise ValueError(f"{self.target} does not tell which version answers: give `version`")
        self.version, self.label, self._signatures = spec.version.value, None, None
        return self.version

    async def close(self) -> None:
        """Closes the connections."""
        await self._channel.close()

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _transport(self) -> ModuleType:
        asyncio.get_running_loop()  # without one, only the first call would fail
        return grpc.aio

    async def _send_pieces(self, send: Callable[[slice], Any], slices: Sequence[slice]) -> list[Any]:
        waiting, answers = iter(enumerate(slices)), [None] * len(slices)

        async def work() -> None:
            for number, piece in waiting:  # shared: each takes the next one
                answers[number] = await send(piece)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in slices[:_CONCURRENCY]:
                    tasks.create_task(work())
        except ExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__
        return answers


def _writeable(proto: Any) -> NDArray[Any]:
    return np.require(from_proto(proto), requirements="W")
