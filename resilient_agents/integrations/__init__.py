"""One module for each outside framework or protocol, imported only by those who use it."""
