"""A program that serves the package it is in, without a guard: importing it must not start a worker in a worker."""

from __future__ import annotations

from r7kit.worker import R7Worker

R7Worker("tests.r7kit.packages.good", queue="good-queue").start()
