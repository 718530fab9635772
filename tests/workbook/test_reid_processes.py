"""Training in several processes: each step is that of one process, on the same whole batch."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from workbook.cache.processes import leave
from workbook.reid.config import TrainConfig
from workbook.reid.losses import ReidLoss
from workbook.reid.training import Learner, _step

CONFIG = TrainConfig(center_weight=0.01, ids_per_batch=3, images_per_id=2)


class WithoutBatchNorm(nn.Module):
    """Batch norm sees each process's part; everything else must not notice how many processes there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Linear(4, 3)

    def heads(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled = self.conv(images).relu().mean((2, 3))
        return pooled, self.classifier(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.heads(images)[0]


def two_steps(fabric: Fabric) -> dict[str, list]:
    """Weights and centers after two steps on one seeded batch; tensors would die with their process."""
    torch.manual_seed(0)
    model, loss = WithoutBatchNorm(), ReidLoss(CONFIG, 3, 4)
    wrapped, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    wrapped.mark_forward_method("heads")
    images, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 0, 1, 1, 2, 2])
    for _ in range(2):
        _step(Learner(model, wrapped, optimizer, loss), images, labels, fabric)
    found = {name: values.tolist() for name, values in {**model.state_dict(), "centers": loss.centers}.items()}
    leave(fabric)
    return found


def test_two_processes_take_the_steps_of_one() -> None:
    expected = two_steps(Fabric(accelerator="cpu", devices=1))
    found = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn").launch(two_steps)
    torch.manual_seed(0)
    start = WithoutBatchNorm().state_dict()
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(values), rtol=1e-5, atol=1e-6)
        assert name == "centers" or values != start[name].tolist(), f"{name} was not trained"
