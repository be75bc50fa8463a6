"""The HTML pages' templates."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def html_environment() -> Environment:
    """Templates of the folder `pages`: text is escaped, and a name that is not given is an error."""
    return Environment(
        loader=PackageLoader("seglab.run.reports", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
