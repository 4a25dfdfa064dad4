"""How large some settings can be beyond which training would overflow, or would not come to an end."""

_MOST_LEARNING_RATE = 1000.0
MOST_STEPS = 1000
"""The most steps of a processor between two hints, or two blocks of a language model."""
_MOST_OF_SCALARS = {"num_frequencies": 20, "difference_scales": 7}
"""The most frequencies and scales at which scalars are encoded: float32 tells apart no less."""


def check_learning_rate(value: float) -> None:
    """Raise a :class:`ValueError` unless an optimizer can have it."""
    if not 0 < value <= _MOST_LEARNING_RATE:
        limit = f"of at most {_MOST_LEARNING_RATE:g}" if value > 0 else "above 0"
        raise ValueError(f"expected a learning_rate {limit}, given {value}")


def check_steps(name: str, number: int) -> None:
    """Raise a :class:`ValueError` unless a processor can take so many steps in a row."""
    if not 1 <= number <= MOST_STEPS:
        raise ValueError(f"expected {name} {'≥ 1' if number < 1 else f'≤ {MOST_STEPS}'}, given {number}")


def check_of_scalars(**numbers: int) -> None:
    """Raise a :class:`ValueError` unless scalars can be encoded at so many frequencies or scales, by name."""
    for name, number in numbers.items():
        most = _MOST_OF_SCALARS[name]
        if not 0 <= number <= most:
            raise ValueError(f"expected {name} {'≥ 0' if number < 0 else f'≤ {most}'}, given {number}")
