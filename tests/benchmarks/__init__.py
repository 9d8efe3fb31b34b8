"""Tests of the benchmarks: that they measure what they say, and report what they measured."""
