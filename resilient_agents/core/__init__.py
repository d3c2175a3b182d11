"""The path of a call: what a call is, how it runs in each colour, and which wrapper fits which callable."""
