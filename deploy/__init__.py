"""Deployment: systemd units, installer, example configurations, and the demo."""
