"""Chaos: real processes are killed, frozen and stopped at random while they work; nothing may be lost or done wrong."""
