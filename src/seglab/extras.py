"""Packages that come with an extra of seglab."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from seglab.errors import ConfigError


def require(package: str, extra: str, purpose: str) -> None:
    """See that an optional package is installed.

    Args:
        package: as it is imported.
        extra: of seglab that brings it.
        purpose: what needs it.

    Raises:
        ConfigError: it is not.
    """
    if find_spec(package) is None:
        raise ConfigError(
            f"{purpose} needs {package}",
            given=f"no package {package}",
            allowed=f"an environment with the extra {extra}",
            fix=f"pip install 'seglab[{extra}]', or pip install -e '.[{extra}]' in a checkout",
        )


def load(package: str, extra: str, purpose: str) -> Any:
    """Import an optional package, or one of its modules.

    Args:
        package: as it is imported, such as "pydicom.encaps".
        extra: of seglab that brings it.
        purpose: what needs it.

    Raises:
        ConfigError: it is not installed.
    """
    require(package.partition(".")[0], extra, purpose)
    return import_module(package)
