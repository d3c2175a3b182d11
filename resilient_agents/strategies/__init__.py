"""What no library below offers: one module = one strategy."""
