"""The loaded models by name and version: which one answers a request."""

from collections.abc import Mapping
from typing import Any

from .errors import NOT_FOUND, RequestError
from .messages import GetModelStatusResponse, ModelVersionStatus
from .servable import Servable


class Models:
    """Finds the servable that a request means.

    Args:
        servables: Each model's loaded versions by number, at least one.
    """

    def __init__(self, servables: Mapping[str, Mapping[int, Servable]]) -> None:
        self._servables = servables

    def find(self, model_spec: Any) -> Servable:
        """The servable of a ModelSpec: its version, or the latest.

        Raises:
            RequestError: If the model or version is not loaded.
        """
        if not model_spec.name:
            raise RequestError("ModelSpec has no name specified.")
        if model_spec.version_label:
            raise RequestError(f"Unrecognized servable version label: {model_spec.version_label}")
        versions = self._servables.get(model_spec.name, {})
        if not model_spec.HasField("version"):
            if not versions:
                known = ", ".join(sorted(self._servables))
                raise RequestError(
                    f"Servable not found for request: Latest({model_spec.name}). Models: {known}", NOT_FOUND
                )
            return versions[max(versions)]
        number = model_spec.version.value
        if number not in versions:
            loaded = ", ".join(map(str, sorted(versions))) or "none"
            raise RequestError(
                f"Servable not found for request: Specific({model_spec.name}, {number}). Versions: {loaded}", NOT_FOUND
            )
        return versions[number]

    def status(self, model_spec: Any) -> Any:
        """The GetModelStatusResponse for a ModelSpec: one version, or all.

        Raises:
            RequestError: If there is none.
        """
        versions = self._servables.get(model_spec.name, {})
        if model_spec.HasField("version"):
            chosen = [number for number in versions if number == model_spec.version.value]
            missing = f"Could not find version {model_spec.version.value} of model {model_spec.name}"
        else:
            chosen = sorted(versions, reverse=True)
            missing = f"Could not find any versions of model {model_spec.name}"
        if not chosen:
            raise RequestError(missing, NOT_FOUND)
        response = GetModelStatusResponse()
        for number in chosen:
            status = response.model_version_status.add(version=number, state=ModelVersionStatus.AVAILABLE)
            status.status.SetInParent()
        return response
