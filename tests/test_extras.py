import json

import pytest

from seglab.errors import ConfigError
from seglab.extras import load, require


def test_an_installed_package_is_imported_and_a_missing_one_names_its_extra() -> None:
    assert load("json.decoder", "volumes", "reading") is json.decoder
    with pytest.raises(ConfigError, match="reading x needs no_such_package") as caught:
        load("no_such_package.part", "volumes", "reading x")
    assert "seglab[volumes]" in caught.value.fix
    with pytest.raises(ConfigError, match="no package no_such_package"):
        require("no_such_package", "volumes", "reading x")
