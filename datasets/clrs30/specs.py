"""The probes of the 30 algorithms of CLRS-30.

Source: ``clrs/_src/specs.py`` of dm-clrs 2.0.3; the numbers of classes are those of its trajectories.
"""

from collections.abc import Mapping
from types import MappingProxyType

from nar.specs import Location, Probe, Spec, Stage, Type

_TABLE = """
articulation_points
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output node mask: is_cut
    hint node mask: is_cut_h
    hint node pointer: pi_h
    hint node categorical 3: color
    hint node scalar: d f low child_cnt
    hint node pointer: s_prev
    hint node mask_one: s u v s_last
    hint graph scalar: time
activity_selector
    input node scalar: pos s f
    output node mask: selected
    hint node pointer: pred_h
    hint node mask: selected_h
    hint node mask_one: m k
bellman_ford
    input node scalar: pos
    input node mask_one: s
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node pointer: pi_h
    hint node scalar: d
    hint node mask: msk
bfs
    input node scalar: pos
    input node mask_one: s
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node mask: reach_h
    hint node pointer: pi_h
binary_search
    input node scalar: pos key
    input graph scalar: target
    output node mask_one: return
    hint node pointer: pred_h
    hint node mask_one: low high mid
bridges
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output edge mask: is_bridge
    hint edge mask: is_bridge_h
    hint node pointer: pi_h
    hint node categorical 3: color
    hint node scalar: d f low
    hint node pointer: s_prev
    hint node mask_one: s u v s_last
    hint graph scalar: time
bubble_sort
    input node scalar: pos key
    output node should_be_permutation: pred
    hint node pointer: pred_h
    hint node mask_one: i j
dag_shortest_paths
    input node scalar: pos
    input node mask_one: s
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node pointer: pi_h
    hint node scalar: d
    hint node mask: mark
    hint node pointer: topo_h
    hint node mask_one: topo_head_h
    hint node categorical 3: color
    hint node pointer: s_prev
    hint node mask_one: u v s_last
    hint graph mask: phase
dfs
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node pointer: pi_h
    hint node categorical 3: color
    hint node scalar: d f
    hint node pointer: s_prev
    hint node mask_one: s u v s_last
    hint graph scalar: time
dijkstra
    input node scalar: pos
    input node mask_one: s
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node pointer: pi_h
    hint node scalar: d
    hint node mask: mark in_queue
    hint node mask_one: u
find_maximum_subarray_kadane
    input node scalar: pos key
    output node mask_one: start end
    hint node pointer: pred_h
    hint node mask_one: best_low best_high
    hint graph scalar: best_sum
    hint node mask_one: i j
    hint graph scalar: sum
floyd_warshall
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output edge pointer: Pi
    hint edge pointer: Pi_h
    hint edge scalar: D
    hint edge mask: msk
    hint node mask_one: k
graham_scan
    input node scalar: pos x y
    output node mask: in_hull
    hint node mask_one: best
    hint node scalar: atans
    hint node mask: in_hull_h
    hint node pointer: stack_prev
    hint node mask_one: last_stack i
    hint graph categorical 5: phase
heapsort
    input node scalar: pos key
    output node should_be_permutation: pred
    hint node pointer: pred_h parent
    hint node mask_one: i j largest heap_size
    hint graph categorical 3: phase
insertion_sort
    input node scalar: pos key
    output node should_be_permutation: pred
    hint node pointer: pred_h
    hint node mask_one: i j
jarvis_march
    input node scalar: pos x y
    output node mask: in_hull
    hint node pointer: pred_h
    hint node mask: in_hull_h
    hint node mask_one: best last_point endpoint i
    hint graph categorical 2: phase
kmp_matcher
    input node mask: string
    input node scalar: pos
    input node categorical 4: key
    output node mask_one: match
    hint node pointer: pred_h pi
    hint node mask: is_reset
    hint node mask_one: k
    hint graph mask: k_reset
    hint node mask_one: q
    hint graph mask: q_reset
    hint node mask_one: s i
    hint graph mask: phase
lcs_length
    input node mask: string
    input node scalar: pos
    input node categorical 4: key
    output edge categorical 4: b
    hint node pointer: pred_h
    hint edge categorical 4: b_h
    hint edge scalar: c
matrix_chain_order
    input node scalar: pos p
    output edge pointer: s
    hint node pointer: pred_h
    hint edge scalar: m
    hint edge pointer: s_h
    hint edge mask: msk
minimum
    input node scalar: pos key
    output node mask_one: min
    hint node pointer: pred_h
    hint node mask_one: min_h i
mst_kruskal
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output edge mask: in_mst
    hint edge mask: in_mst_h
    hint node pointer: pi
    hint node mask_one: u v root_u root_v
    hint node mask: mask_u mask_v
    hint graph categorical 3: phase
mst_prim
    input node scalar: pos
    input node mask_one: s
    input edge scalar: A
    input edge mask: adj
    output node pointer: pi
    hint node pointer: pi_h
    hint node scalar: key
    hint node mask: mark in_queue
    hint node mask_one: u
naive_string_matcher
    input node mask: string
    input node scalar: pos
    input node categorical 4: key
    output node mask_one: match
    hint node pointer: pred_h
    hint node mask_one: s i j
optimal_bst
    input node scalar: pos p q
    output edge pointer: root
    hint node pointer: pred_h
    hint edge pointer: root_h
    hint edge scalar: e w
    hint edge mask: msk
quickselect
    input node scalar: pos key
    output node mask_one: median
    hint node pointer: pred_h
    hint node mask_one: p r i j
    hint graph scalar: i_rank target
    hint node mask_one: pivot
quicksort
    input node scalar: pos key
    output node should_be_permutation: pred
    hint node pointer: pred_h
    hint node mask_one: p r i j
segments_intersect
    input node scalar: pos x y
    output graph mask: intersect
    hint node mask_one: i j k
    hint node scalar: dir
    hint node mask: on_seg
strongly_connected_components
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output node pointer: scc_id
    hint node pointer: scc_id_h
    hint edge mask: A_t
    hint node categorical 3: color
    hint node scalar: d f
    hint node pointer: s_prev
    hint node mask_one: s u v s_last
    hint graph scalar: time
    hint graph mask: phase
task_scheduling
    input node scalar: pos d w
    output node mask: selected
    hint node pointer: pred_h
    hint node mask: selected_h
    hint node mask_one: i
    hint graph scalar: t
topological_sort
    input node scalar: pos
    input edge scalar: A
    input edge mask: adj
    output node pointer: topo
    output node mask_one: topo_head
    hint node pointer: topo_h
    hint node mask_one: topo_head_h
    hint node categorical 3: color
    hint node pointer: s_prev
    hint node mask_one: s u v s_last
"""


def _parse(table: str) -> Mapping[str, Spec]:
    specs: dict[str, dict[str, Probe]] = {}
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            spec = specs[line] = {}
            continue
        kind, names = line.split(":")
        stage, location, type_, *num_classes = kind.split()
        probe = Probe(Stage(stage), Location(location), Type(type_), *map(int, num_classes))
        spec.update(dict.fromkeys(names.split(), probe))
    return MappingProxyType({name: MappingProxyType(spec) for name, spec in specs.items()})


SPECS: Mapping[str, Spec] = _parse(_TABLE)
"""The probes of each algorithm as dm-clrs records them, before the recipe of :mod:`nar.datasets.clrs30.recipe`.

The hint ``pivot`` of quickselect is of 2024: it is neither in the published archive CLRS30_v1.0.0 nor among what the
published models predict.
"""

ALGORITHMS: tuple[str, ...] = tuple(SPECS)
"""The names of the 30 algorithms, in dm-clrs's order."""
