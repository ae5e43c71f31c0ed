"""All actions by name; another one is a file and a row here."""

from collections.abc import Mapping

from iddpm.ui.actions.action import Action
from iddpm.ui.actions.compare_actions import CompareDataAction, CompareRunsAction
from iddpm.ui.actions.edit_actions import EditAction, InpaintAction, InterpolateAction
from iddpm.ui.actions.inspect_action import InspectAction
from iddpm.ui.actions.look_action import LookAction
from iddpm.ui.actions.measure_actions import EvaluateAction, LikelihoodAction, TuneAction
from iddpm.ui.actions.nearest_action import NearestAction
from iddpm.ui.actions.restore_action import RestoreAction
from iddpm.ui.actions.sample_action import SampleAction
from iddpm.ui.actions.upscale_action import UpscaleAction

ACTIONS: Mapping[str, type[Action]] = {
    action.kind: action
    for action in (
        SampleAction,
        EditAction,
        InpaintAction,
        InterpolateAction,
        RestoreAction,
        UpscaleAction,
        LookAction,
        InspectAction,
        LikelihoodAction,
        EvaluateAction,
        TuneAction,
        NearestAction,
        CompareRunsAction,
        CompareDataAction,
    )
}
