"""Loops over senders, compiled by numba; the innermost, over entries of a state, is one of vector instructions."""
# Axes: B graphs, S sender, R receiver, H hidden.

from nar.ops.loops import Arrays, strict_njit


@strict_njit
def recurrence(opened: Arrays, candidate: Arrays, is_heard: Arrays, state: Arrays) -> None:
    """Take ``h ← (1 - u_i) h + u_i c_i`` from sender to sender.

    Args:
        opened: u, [B, S, R, H].
        candidate: c, [B, S, R, H].
        is_heard: [B, S, R]; of size 0 if all are.
        state: h, [B, R, H], of zeros; the last is written.
    """
    num_graphs, num_senders, num_receivers, width = opened.shape
    for b in range(num_graphs):
        for s in range(num_senders):
            for r in range(num_receivers):
                if is_heard.size > 0 and not is_heard[b, s, r]:
                    continue
                for h in range(width):
                    u = opened[b, s, r, h]
                    state[b, r, h] = (1 - u) * state[b, r, h] + u * candidate[b, s, r, h]


@strict_njit
def recurrence_backward(
    gradient: Arrays,
    opened: Arrays,
    candidate: Arrays,
    is_heard: Arrays,
    before: Arrays,
    grad_gate: Arrays,
    grad_candidate: Arrays,
) -> None:
    """Write the gradients of what u is the sigmoid of, and of c, from that of the last state.

    Args:
        gradient: [B, R, H]; it becomes that of the first state.
        opened: u, [B, S, R, H].
        candidate: c, [B, S, R, H].
        is_heard: [B, S, R]; of size 0 if all are.
        before: Written, [B, S, R, H]: the state before each sender.
        grad_gate: Written, [B, S, R, H].
        grad_candidate: Written, [B, S, R, H].
    """
    num_graphs, num_senders, num_receivers, width = opened.shape
    for b in range(num_graphs):
        before[b, 0] = 0
        for s in range(num_senders - 1):
            for r in range(num_receivers):
                if is_heard.size > 0 and not is_heard[b, s, r]:
                    before[b, s + 1, r] = before[b, s, r]
                    continue
                for h in range(width):
                    u = opened[b, s, r, h]
                    before[b, s + 1, r, h] = (1 - u) * before[b, s, r, h] + u * candidate[b, s, r, h]
        for s in range(num_senders - 1, -1, -1):
            for r in range(num_receivers):
                if is_heard.size > 0 and not is_heard[b, s, r]:
                    grad_gate[b, s, r] = 0
                    grad_candidate[b, s, r] = 0
                    continue
                for h in range(width):
                    u, g = opened[b, s, r, h], gradient[b, r, h]
                    grad_candidate[b, s, r, h] = g * u
                    grad_gate[b, s, r, h] = g * (candidate[b, s, r, h] - before[b, s, r, h]) * (u * (1 - u))
                    gradient[b, r, h] = g * (1 - u)
