"""Figures of the server, measured on this machine: nothing here is a test."""
