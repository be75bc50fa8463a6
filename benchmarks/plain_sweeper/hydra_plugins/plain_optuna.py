"""A Hydra sweeper of the plain kind that asks Optuna, for where hydra-optuna-sweeper cannot be installed."""

from typing import Any

import optuna
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

TARGET = "hydra_plugins.plain_optuna.PlainOptuna"
ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node={"_target_": TARGET, "n_trials": 20})


class PlainOptuna(Sweeper):
    """Draws intervals with Optuna, and runs the trials one after another with Hydra's launcher.

    Args:
        n_trials: how many.
    """

    def __init__(self, n_trials: int) -> None:
        self.n_trials = n_trials

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Make the launcher."""
        given = {"hydra_context": hydra_context, "task_function": task_function, "config": config}
        self.launcher = Plugins.instance().instantiate_launcher(**given)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials."""
        study = optuna.create_study()
        for number in range(self.n_trials):
            trial, overrides = study.ask(), []
            for override in OverridesParser.create().parse_overrides(arguments):
                swept = override.value()
                if isinstance(swept, IntervalSweep):
                    log = "log" in swept.tags
                    text = str(trial.suggest_float(override.key_or_group, swept.start, swept.end, log=log))
                else:
                    text = override.get_value_element_as_str()
                overrides.append(f"{override.get_key_element()}={text}")
            study.tell(trial, float(self.launcher.launch([overrides], number)[0].return_value))
