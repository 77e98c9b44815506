"""Tests of parts together, on a real MongoDB."""
