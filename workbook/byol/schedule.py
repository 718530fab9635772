"""BYOL's learning rate and momentum: both follow their schedules step by step, not epoch by epoch."""

from __future__ import annotations

from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule

from workbook.byol.config import BYOLConfig


def peak_rate(config: BYOLConfig) -> float:
    """The learning rate after warm-up: the linear scaling rule."""
    return config.learning_rate * config.batch_size / 256


def rate_at(step: int, steps_per_epoch: int, config: BYOLConfig) -> float:
    """Learning rate of a step, counted from 0: linear warm-up that ends at the peak, then cosine to 0."""
    return cosine_warmup_schedule(
        step,
        max_steps=config.epochs * steps_per_epoch,
        start_value=peak_rate(config),
        end_value=0.0,
        warmup_steps=config.warmup_epochs * steps_per_epoch,
        warmup_start_value=0.0,
    )


def tau_at(step: int, steps_per_epoch: int, config: BYOLConfig) -> float:
    """Momentum after a step, counted from 0: 1 - (1 - tau) (cos(pi t / (T - 1)) + 1) / 2."""
    return cosine_schedule(step, config.epochs * steps_per_epoch, config.tau, 1.0)
