"""Importers: request traces in foreign formats, one format a file."""

from vsim.traces.importers.formats import FORMATS as FORMATS
from vsim.traces.importers.formats import import_requests as import_requests
from vsim.traces.importers.imported import Imported as Imported
from vsim.traces.importers.imported import ImportOptions as ImportOptions
