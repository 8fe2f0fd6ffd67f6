"""Export for serving: the primary heads alone, as a SavedModel that is checked before it is published."""

from .facts import ExportError as ExportError
from .publish import MAX_ERROR as MAX_ERROR, Export as Export, export_for_serving as export_for_serving
