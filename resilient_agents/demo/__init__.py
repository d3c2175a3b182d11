"""`resilient-agents demo`: the same traffic to a misbehaving server, without and with policies.

Needs the extra `demo`; nothing here is imported by the library itself.
"""
