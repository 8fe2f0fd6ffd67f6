"""A blocking gRPC client of TensorFlow Serving's API, tested with the embedded server. Imports no TensorFlow."""

import functools
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Concatenate, ParamSpec

from .async_client import AsyncPredictClient, VersionStatus as VersionStatus
from .requests.model_client import ModelClient, PredictError as PredictError, T, run

P = ParamSpec("P")


def _blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The method without `await`: over a blocking channel no coroutine waits for an event loop."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> T:
        return run(method(*args, **kwargs))

    return call


class PredictClient(ModelClient, AbstractContextManager["PredictClient"]):
    """Asks one model. A context manager; calls may come from many threads.

    The arguments are `ModelClient`'s, and the methods are `AsyncPredictClient`'s, called without `await`.
    """

    predict = _blocking(AsyncPredictClient.predict)
    predict_examples = _blocking(AsyncPredictClient.predict_examples)
    classify = _blocking(AsyncPredictClient.classify)
    regress = _blocking(AsyncPredictClient.regress)
    metadata = _blocking(AsyncPredictClient.metadata)
    status = _blocking(AsyncPredictClient.status)
    pin = _blocking(AsyncPredictClient.pin)

    def close(self) -> None:
        """Closes the connections."""
        self._channel.close()

    def __exit__(self, *error: object) -> None:
        self.close()
