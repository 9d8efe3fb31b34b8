"""A server without a socket: the whole dialogue from memory, in the thread of the caller."""
