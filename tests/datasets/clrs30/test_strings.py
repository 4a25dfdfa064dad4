"""The string matchers, beside Python's search and, on odd inputs, beside dm-clrs."""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from engine import assert_equals_probes, by_hand

from nar.batch import NumpyArray
from nar.datasets.clrs30.samplers import CLRS_30
from nar.datasets.clrs30.strings import STRINGS, draw_strings
from nar.datasets.engine.algorithm import trajectories
from nar.errors import UserError

every_algorithm = pytest.mark.parametrize("name", STRINGS)


def letters(string: str) -> NumpyArray:
    """What the algorithms see of the letters a, b, c and d."""
    return np.array(["abcd".index(letter) for letter in string])


def match(name: str, haystack: str, needle: str) -> int:
    """Where the needle is found in the haystack."""
    return int(by_hand(name, letters(haystack), letters(needle)).outputs["match"][0])


def find(T: NumpyArray, P: NumpyArray) -> int:
    """Where Python finds the needle; the first node of the needle if it does not."""
    return bytes(T.tolist()).find(bytes(P.tolist())) % (len(T) + 1)


def assert_equals_dm_clrs(clrs: Any, name: str, T: NumpyArray, P: NumpyArray) -> None:
    """Fail if on the given strings a probe differs from dm-clrs's."""
    place, probes = getattr(clrs._src.algorithms, name)(T.copy(), P.copy())
    if name == "naive_string_matcher" and place == len(T):
        clrs._src.probing.finalize(probes)  # which it leaves out if there is no match
    assert_equals_probes(clrs, name, by_hand(name, T, P), probes)


@every_algorithm
@pytest.mark.parametrize("num_nodes", [3, 4, 16, 100, 512])
@pytest.mark.parametrize("args", [{}, {"length_needle": 1}, {"chars": 2}, {"chars": 1}])
def test_the_match_is_pythons(name: str, num_nodes: int, args: dict[str, int]) -> None:
    rng = np.random.RandomState(num_nodes)
    (inputs, _, _), outputs = trajectories(
        CLRS_30[name], num_nodes=num_nodes, num_samples=16, rng=rng, hints="none", **args
    )
    for key, in_needle, found in zip(inputs["key"], inputs["string"], outputs["match"], strict=True):
        assert found == find(key[in_needle == 0], key[in_needle == 1])


@every_algorithm
def test_where_there_is_no_match_the_answer_is_the_needle(name: str) -> None:
    rng = np.random.RandomState(0)
    found = []
    for _ in range(300):
        T, P = rng.randint(0, 2, rng.randint(1, 30)), rng.randint(0, 2, rng.randint(1, 6))
        if len(P) <= len(T):
            assert by_hand(name, T, P).outputs["match"] == [find(T, P)]
            found.append(find(T, P) < len(T))
    assert True in found
    assert False in found


@every_algorithm
@pytest.mark.parametrize(
    ("haystack", "needle", "place"),
    [
        ("a", "a", 0),
        ("a", "b", 1),
        ("abc", "abc", 0),
        ("aaaab", "aab", 2),
        ("abababac", "ababac", 2),
        ("aaa", "aab", 3),
    ],
)
def test_matches_at_either_end_and_across_partial_ones(name: str, haystack: str, needle: str, place: int) -> None:
    assert match(name, haystack, needle) == place


def test_a_needle_longer_than_the_haystack_is_not_found() -> None:
    assert match("kmp_matcher", "ab", "abab") == 2


@every_algorithm
def test_odd_strings_equal_dm_clrs(clrs: Any, name: str) -> None:
    rng = np.random.RandomState(0)
    for num_letters in (1, 2, 4):
        for n in (1, 2, 3, 7, 20, 40):
            for m in range(1, min(n, 8) + 1):
                T, P = rng.randint(0, num_letters, n), rng.randint(0, num_letters, m)
                assert_equals_dm_clrs(clrs, name, T, P)


@every_algorithm
@pytest.mark.parametrize(("haystack", "needle"), [("aaaaaaaa", "aaab"), ("abaababaab", "abaabaa"), ("dddd", "d")])
def test_repetitive_strings_equal_dm_clrs(clrs: Any, name: str, haystack: str, needle: str) -> None:
    assert_equals_dm_clrs(clrs, name, letters(haystack), letters(needle))


def test_prefixes_of_the_needle_are_the_longest() -> None:
    rng = np.random.RandomState(0)
    for m in range(1, 20):
        P = rng.randint(0, 2, m)
        hints = by_hand("kmp_matcher", letters("cc"), P).features.hints
        pointers, is_reset = hints["pi"][-1, 0, 2:], hints["is_reset"][-1, 0, 2:]
        for q in range(m):
            longest = max(k for k in range(q + 1) if P[:k].tolist() == P[q + 1 - k : q + 1].tolist())
            assert (pointers[q], is_reset[q]) == (2 + max(longest - 1, 0), longest == 0)


def test_knuth_morris_pratt_never_goes_back_in_the_haystack() -> None:
    hints = by_hand(
        "kmp_matcher", *draw_strings(np.random.RandomState(0), 512, length_needle=40, chars=2)
    ).features.hints
    i = hints["i"][hints["phase"] == 1]
    assert all(earlier <= later <= earlier + 1 for earlier, later in pairwise(i.tolist()))


def test_a_fifth_of_the_letters_are_the_needles() -> None:
    rng = np.random.RandomState(0)
    assert [len(draw_strings(rng, num_nodes)[1]) for num_nodes in (3, 4, 5, 9, 10, 64)] == [1, 1, 1, 1, 2, 12]


def test_a_negative_needle_length_is_the_longest_that_is_drawn() -> None:
    rng = np.random.RandomState(0)
    drawn = [draw_strings(rng, 20, length_needle=-8) for _ in range(300)]
    assert {len(P) for _, P in drawn} == set(range(1, 9))
    assert {len(T) + len(P) for T, P in drawn} == {20}


def test_an_empty_needle_is_refused() -> None:
    with pytest.raises(UserError, match="expected a length_needle of at least 1, or a negative one, given 0"):
        draw_strings(np.random.RandomState(0), 10, length_needle=0)


@pytest.mark.parametrize("length_needle", [5, 9, 10, 11])
def test_a_needle_that_leaves_no_room_is_refused(length_needle: int) -> None:
    with pytest.raises(UserError, match=f"10 nodes cannot hold a needle of {length_needle} letters"):
        draw_strings(np.random.RandomState(0), 10, length_needle=length_needle)


@every_algorithm
def test_needles_of_all_lengths_share_the_compiled_code(name: str) -> None:
    run: Any = STRINGS[name].run
    by_hand(name, letters("abab"), letters("b"))
    compiled = len(run.signatures)
    for length_needle in (None, 1, 2, -3):
        drawn = draw_strings(np.random.RandomState(0), 16, length_needle=length_needle)
        by_hand(name, *drawn)
    assert len(run.signatures) == compiled


@every_algorithm
def test_the_strings_stay_as_they_are(name: str) -> None:
    drawn = draw_strings(np.random.RandomState(0), 20)
    before = deepcopy(drawn)
    by_hand(name, *drawn)
    assert all(map(np.array_equal, drawn, before))
