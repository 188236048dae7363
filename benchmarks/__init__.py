"""Benchmarks of redflow itself: one command each, all of them with `python -m benchmarks`. See README.md here."""
