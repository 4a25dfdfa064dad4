"""The locations and types of probes."""

from nar.specs import Location, Type

KINDS = [
    (Location.NODE, Type.SCALAR),
    (Location.NODE, Type.MASK),
    (Location.NODE, Type.MASK_ONE),
    (Location.NODE, Type.CATEGORICAL),
    (Location.NODE, Type.POINTER),
    (Location.NODE, Type.PERMUTATION_POINTER),
    (Location.EDGE, Type.SCALAR),
    (Location.EDGE, Type.MASK),
    (Location.EDGE, Type.CATEGORICAL),
    (Location.EDGE, Type.POINTER),
    (Location.GRAPH, Type.SCALAR),
    (Location.GRAPH, Type.MASK),
    (Location.GRAPH, Type.CATEGORICAL),
    (Location.GRAPH, Type.POINTER),
]
