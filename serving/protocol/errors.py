"""The error that a request gets, with its canonical status code, and what HTTP calls that code."""

import grpc

UNKNOWN, INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 2, 3, 5, 8, 9
PERMISSION_DENIED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 7, 12, 13, 14

GRPC_STATUS: dict[int, grpc.StatusCode] = {status.value[0]: status for status in grpc.StatusCode}
HTTP_STATUS = {1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429}
HTTP_STATUS |= {9: 400, 10: 409, 11: 400, 12: 501, 14: 503, 16: 401}
"""By status code; what is not listed is 500."""


class RequestError(ValueError):
    """A request that cannot be answered; `code` is the canonical status code (gRPC's and TensorFlow's numbers)."""

    def __init__(self, message: str, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code
