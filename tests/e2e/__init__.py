"""Tests of the whole, over real processes."""
