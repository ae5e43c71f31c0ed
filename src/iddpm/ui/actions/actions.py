"""All actions by name; another one is a file and a row here."""

from collections.abc import Mapping

from iddpm.ui.actions.action import Action
from iddpm.ui.actions.inspect_action import InspectAction
from iddpm.ui.actions.sample_action import SampleAction

ACTIONS: Mapping[str, type[Action]] = {
    action.kind: action for action in (SampleAction, InspectAction)
}
