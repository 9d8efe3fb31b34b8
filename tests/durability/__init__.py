"""Whether a message that was acknowledged is there, whatever becomes of the server.

`python -m tests.durability` kills a server a hundred times; the suite does it less often.
"""
