"""`resilient-agents demo`: one misbehaving server, the same traffic without and with policies, and what the policies did about it.

Needs the extra `demo`; nothing here is imported by the library itself.
"""
