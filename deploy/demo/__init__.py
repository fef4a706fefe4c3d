"""The demo: a synthetic drive, the real daemon and a real receiver on one machine, and what came of it."""

from deploy.demo.run import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
