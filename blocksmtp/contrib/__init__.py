"""Homes in frameworks. Each needs the extra of its name: `blocksmtp[django]` and so on."""
