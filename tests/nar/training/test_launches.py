"""How many kernels a recorded training step launches on a GPU."""

import pytest
from launches import count

# By algorithm, those of one step of the processor, forward and backward, and those of a trajectory besides its steps.
MOST = {"insertion_sort": (58, 399), "bridges": (93, 588), "jarvis_march": (66, 379)}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", MOST)
def test_a_training_step_launches_no_more_kernels_than_it_did(algorithm: str) -> None:
    forward, backward, trajectory = count(algorithm)
    assert (forward + backward, trajectory) <= MOST[algorithm]
