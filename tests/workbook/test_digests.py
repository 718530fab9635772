"""A model's digest is part of the keys of all that is computed with it: it sees every bit."""

from __future__ import annotations

import copy

import pytest
import torch

from toys import GapNet, seeded
from workbook.cache.digests import state_digest


@pytest.mark.parametrize("name", ["conv.bias", "neck.running_var"])
def test_the_digest_sees_the_last_bit_of_every_parameter_and_buffer(name: str) -> None:
    model = seeded(GapNet(neck=True))
    before = state_digest(model)
    assert state_digest(copy.deepcopy(model)) == before
    other = copy.deepcopy(model)
    value = other.state_dict()[name]
    value[0] = torch.nextafter(value[0], torch.tensor(9.0))
    assert state_digest(other) != before
    assert state_digest(model) == before
