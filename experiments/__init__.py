"""Thin programs over the library: parse a dataclass, call `mnistjax`."""
