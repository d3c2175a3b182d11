"""The ground floor, which imports nothing of ours: time, forks, what is alive, warnings, and the checks of numbers."""
