"""What an algorithm is to this library, and how its trajectories are made."""
