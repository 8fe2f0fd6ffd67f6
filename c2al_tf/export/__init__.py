"""Export for serving: the primary heads alone, as a SavedModel that is checked before it is published."""

from .facts import ExportError as ExportError
from .publish import Export as Export, export_for_serving as export_for_serving, try_export as try_export
