"""A blocking gRPC client of TensorFlow Serving's API, tested with the embedded server. Imports no TensorFlow."""

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


class PredictClient(ModelClient):
    """Asks one model of one server. A context manager; calls may come from many threads.

    The arguments are `ModelClient`'s.
    """

    def predict(
        self,
        columns: Rows,
        signature_name: str = DEFAULT_SIGNATURE,
        outputs: Sequence[str] = (),
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for a batch of rows, in order.

        Args:
            columns: An array or list for each input, all with the same number of rows; a pandas DataFrame or a pyarrow
                Table of them. A multi-valued input's rows are lists of one length.
            signature_name: Signature to call.
            outputs: Outputs to return; all of them if empty.
            timeout: Seconds that each request may take, instead of the client's.

        Raises:
            ValueError: If columns do not fit the signature or each other, or a value is missing.
            PredictError: If the server refuses, is late, or cannot be reached.
        """
        signatures = self._signatures
        if self.cast and signatures is None:
            signatures = self._signatures = self.metadata(timeout)
        slices, requests = self._split(columns, signatures, signature_name, outputs)
        parts = [read_outputs(self._call(self._predict, request, timeout)) for _, request in requests]
        return pieces.concatenate(parts, slices)

    def predict_examples(
        self, examples: Sequence[bytes], outputs: Sequence[str] = (), timeout: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Returns the model's outputs for serialized tf.Examples, by the signature `serialized_examples`."""
        return self.predict(as_column(examples), EXAMPLES_SIGNATURE, outputs, timeout)

    def metadata(self, timeout: float | None = None) -> dict[str, Signature]:
        """Returns the model's signatures, as the server declares them now."""
        return read_signatures(self._call(self._metadata, self._metadata_request(), timeout))

    def status(self, timeout: float | None = None) -> list[VersionStatus]:
        """Returns the state of each version that the server knows."""
        return read_status(self._call(self._status, self._status_request(), timeout))

    def pin(self, timeout: float | None = None) -> int:
        """Asks the version that answers now, and no other, from now on; returns its number."""
        return self._pin(self._call(self._metadata, self._metadata_request(), timeout))

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _transport(self) -> ModuleType:
        return grpc

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        try:
            return method(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise self._refused(error) from error
