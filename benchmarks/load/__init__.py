"""What the servers are loaded with."""
