"""Configs: what they say, checked before anything is built."""

from mmbeit3.config.arguments import check_arguments

__all__ = ["check_arguments"]
