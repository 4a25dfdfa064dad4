"""The 30 algorithms of CLRS-30, and what the published recipe makes of them.

To add an algorithm, write its probes into the table of ``specs.py``. In the file of its family write the function that
runs it, and those that draw its arguments, make its inputs of them and take a user's own; then put these, and what else
is known of it, into the record (:class:`nar.datasets.clrs30.known.KnownAlgorithm`) in the table at the file's end.
``samplers.py`` names the tables of all families. Of an algorithm that dm-clrs does not have no more is needed than a
subclass of :class:`nar.datasets.Algorithm`, wherever it is written.
"""

from nar.datasets.clrs30.samplers import sample
from nar.datasets.clrs30.specs import ALGORITHMS, SPECS

__all__ = ["ALGORITHMS", "SPECS", "sample"]
