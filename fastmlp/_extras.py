"""Packages that fastmlp works without."""

import importlib


def require(module, *, extra):
    """Import `module`, or name the extra of fastmlp that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{module.partition(".")[0]} is not installed: pip install "fastmlp[{extra}]"', name=error.name
        ) from error
