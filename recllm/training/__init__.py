"""The training of the tasks, jointly: losses, loop, checkpoints, calibration (DESIGN 6)."""
