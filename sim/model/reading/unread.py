"""Keys that nobody asked for: harmless, or a part of the model that would go missing."""

from vsim.sim.inputs.model_faults import show
from vsim.sim.model.reading.keys import Keys


def complain_of_unread(keys: Keys, known: bool) -> None:
    """Refuse keys that may change a model's structure and were not understood."""
