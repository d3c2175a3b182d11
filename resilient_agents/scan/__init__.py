"""Finds the external calls of a code base and says which of them can wait for ever.

Nothing is imported and nothing is run: files are read, objects are followed from where they are made to where they are
used, and a table says what each library does when nobody answers. `scan(paths)` gives a `Report` of calls and findings.
"""

from resilient_agents.scan.records import Call, FileStatus, Finding, Report
from resilient_agents.scan.run import Options, scan

__all__ = ["Call", "FileStatus", "Finding", "Options", "Report", "scan"]
