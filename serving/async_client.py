"""An asyncio gRPC client of TensorFlow Serving's API, tested with the embedded server. Imports no TensorFlow."""

import asyncio
from collections.abc import Sequence
from types import ModuleType, TracebackType
from typing import Any, Self

import grpc
from numpy.typing import NDArray

from .requests import pieces
from .requests.casting import Signature
from .requests.frames import Rows
from .requests.model_client import (
    DEFAULT_SIGNATURE,
    EXAMPLES_SIGNATURE,
    ModelClient,
    PredictError as PredictError,
    VersionStatus as VersionStatus,
    as_column,
    read_outputs,
    read_signatures,
    read_status,
)

_CONCURRENCY = 4
"""Pieces of one batch that are under way at a time."""


class AsyncPredictClient(ModelClient):
    """Asks one model of one server from coroutines: `PredictClient` with `await`. An asynchronous context manager.

    It is made where an event loop runs, and belongs to that loop. The arguments are `ModelClient`'s. A cancelled call
    cancels its requests, and the pieces of a large batch go out a few at a time.
    """

    async def predict(
        self,
        columns: Rows,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for a batch of rows, as `PredictClient.predict` does."""
        signatures = self._signatures
        if self.cast and signatures is None:
            signatures = self._signatures = await self.metadata(timeout)
        slices, requests = self._split(columns, signatures, signature_name, outputs)
        parts: list[dict[str, NDArray[Any]]] = [{}] * len(slices)

        async def send() -> None:
            for number, request in requests:  # shared: each takes the next one
                parts[number] = read_outputs(await self._call(self._predict, request, timeout))

        await _all_or_none([asyncio.create_task(send()) for _ in slices[:_CONCURRENCY]])
        return pieces.concatenate(parts, slices)

    async def predict_examples(
        self, examples: Sequence[bytes], outputs: Sequence[str] = (), timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for serialized tf.Examples, by the signature `serialized_examples`."""
        return await self.predict(as_column(examples), EXAMPLES_SIGNATURE, outputs, timeout)

    async def metadata(self, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the model's signatures, as the server declares them now."""
        return read_signatures(await self._call(self._metadata, self._metadata_request(), timeout))

    async def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of each version that the server knows."""
        return read_status(await self._call(self._status, self._status_request(), timeout))

    async def pin(self, timeout: float | None = None) -> int:
        """Asks the version that answers now, and no other, from now on; returns its number."""
        return self._pin(await self._call(self._metadata, self._metadata_request(), timeout))

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _transport(self) -> ModuleType:
        asyncio.get_running_loop()  # without one, only the first call would fail
        return grpc.aio

    async def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        try:
            return await method(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise self._refused(error) from error


async def _all_or_none(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits for the tasks; when one fails, or the waiting is cancelled, the others are cancelled too."""
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
