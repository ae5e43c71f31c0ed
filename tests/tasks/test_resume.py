"""What may be said in other words when a run goes on."""

import pytest

from iddpm.config import read_config, to_yaml
from iddpm.runs.layout import CONFIG, read_run_config
from iddpm.tasks.resume import settings_to_resume


@pytest.mark.parametrize("stored", ["true", "[true,true]"])
@pytest.mark.parametrize("given", ["true", "[true,true]"])
def test_all_axes_may_be_said_at_once_or_one_by_one(tmp_path, stored, given):
    facts = [
        "model.channels=1", "model.size=[8,8]", "model.channel_mult=[1]",
        "model.attention_downsampling=[]", "training.batch_size=4", "form={kind: array}",
        "data.path=pictures.npz", f"model.circular={stored}",
    ]  # fmt: skip
    (tmp_path / CONFIG).write_text(to_yaml(read_config(None, facts)))
    before = read_run_config(tmp_path)
    wanted = settings_to_resume(
        tmp_path,
        before,
        None,
        [f"model.circular={given}", "model.stride=[2,2]", "training.steps=9"],
    )
    assert wanted.training.steps == 9
    for other in ("model.circular=[true,false]", "model.stride=[1,2]"):
        with pytest.raises(ValueError, match="cannot continue with model"):
            settings_to_resume(tmp_path, before, None, [other])
