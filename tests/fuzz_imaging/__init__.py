"""Feeds broken images to the real codec pool: `python -m tests.fuzz_imaging --minutes N [--seed S] [--workers W]`.

A seed set of every format is mutated; under a budget of 12 megapixels each input must end in a reason or in a picture,
which is decoded and measured, within the CPU seconds of its output format and 512 MiB, and the pool must live on.
Prints the seed, the counts by reason and the worst time and memory. An input that broke a bound, ended its worker or
met a mistake in the code is kept in `.fuzz/`, and the exit code is 1.
"""
