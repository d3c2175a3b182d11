"""Objects of established libraries as strategies, as they are: with their own options, state and hooks."""
