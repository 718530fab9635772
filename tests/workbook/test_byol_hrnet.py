"""The paper's network of Figure 6, HRNet-W30, through the same code as the small one: a step and maps at two layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from byol_toys import train_in
from workbook import byol
from workbook.byol.experiments import HRNET_LAYERS


def test_hrnet_takes_a_step_and_is_explained_at_both_layers(tmp_path: Path) -> None:
    small = dict(batch_size=2, view_size=(64, 64), hidden_dim=32, output_dim=16, precision="32-true")
    config = replace(byol.PAPER, epochs=2, warmup_epochs=0, learning_rate=10.0, **small)
    images = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    untrained, trained = train_in(tmp_path, images, config, stop_after=1)
    before, after = (c.backbone.state_dict() for c in (untrained, trained))
    assert trained.backbone.num_features == 2048 and -4 <= trained.loss <= 4
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])

    coarse = byol.explain_checkpoints([trained], images, config, ["grad-fam", "uniform"], HRNET_LAYERS["last"])
    fine = byol.explain_checkpoints([trained], images[:1], config, ["grad-fam", "score-fam"], HRNET_LAYERS["earlier"])
    assert coarse["grad-fam"][0].shape == (2, 2, 2)
    assert {method: cams[0].shape for method, cams in fine.items()} == dict.fromkeys(fine, (1, 16, 16))
    for cams in (coarse["grad-fam"], coarse["uniform"], fine["grad-fam"], fine["score-fam"]):
        assert cams[0].isfinite().all() and (cams[0] >= 0).all() and cams[0].amax() > 0
