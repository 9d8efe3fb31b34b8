"""SMTP and LMTP as pure logic: lines in, replies out. Nothing here knows of sockets."""
