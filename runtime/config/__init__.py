"""Typed configuration, validated as a whole: all errors at once, each with file, line, value and fix."""

from runtime.config.directories import Directories, resolve_directories
from runtime.config.receiver_config import ReceiverConfig, load_receiver_config
from runtime.config.rig_config import RULE_LIBRARY, RigConfig, load_config, parse_config

__all__ = [
    "RULE_LIBRARY",
    "Directories",
    "ReceiverConfig",
    "RigConfig",
    "load_config",
    "load_receiver_config",
    "parse_config",
    "resolve_directories",
]
