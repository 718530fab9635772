"""The evaluation in two processes: the same bytes as in one, also after one of the two was killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException

from evaluation_toys import SIZE, tiny_model, write_blocks
from workbook.cache.context import Context
from workbook.cache.store import write_json, write_text
from workbook.reid import evaluation, experiment, queries
from workbook.reid.budgeted import SHARES
from workbook.reid.data import load_market_layout
from workbook.reid.evaluation import TABLE2_METHODS
from workbook.reid.tables import equal_area_table, table2

pytestmark = pytest.mark.filterwarnings("ignore")

SCORED = len(TABLE2_METHODS) + 1 + len(SHARES)  # methods of Table 2; the exact map and each budget's


@contextmanager
def one_thread() -> Iterator[None]:
    """The last bits depend on the number of threads, and several processes get fewer by default than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def evaluate(fabric: Fabric, root: Path, cache: Path, killed: int | None = None) -> None:
    """The evaluation of six toy queries; each process writes its tables and what it computed for them.

    Table 2 has six shards of maps and two of results for each method; the budget table two of results for each of
    its maps. The process numbered `killed` dies when it begins its second shard of maps.
    """
    made: list[str] = []
    explain_all, score_shard = evaluation.explain_all, evaluation._score_shard

    def explaining(model: Any, images: Any, methods: Any, *args: Any, **options: Any) -> Any:
        if fabric.global_rank == killed and made:
            os.kill(os.getpid(), signal.SIGKILL)
        made.extend(["maps"] * (len(methods) > len(TABLE2_METHODS)))
        return explain_all(model, images, methods, *args, **options)

    def scoring(model: Any, queries: Any, *args: Any) -> Any:
        made.extend(["results"] * (len(queries) > 1))  # one query is ablated
        return score_shard(model, queries, *args)

    with pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(queries, "FEATURE_SHARD", 4)
        patch.setattr(evaluation, "MAP_SHARD", 1)
        patch.setattr(evaluation, "SCORE_SHARD", 4)
        patch.setattr(evaluation, "explain_all", explaining)
        patch.setattr(evaluation, "_score_shard", scoring)
        data = load_market_layout(root, "blocks")
        found = experiment.run(tiny_model(), data, SIZE, n_ablated=1, context=Context(cache, fabric, progress=False))
    tables = {
        "table2": table2("blocks", found.results),
        "equal area": equal_area_table("blocks", found.results),
        "ablation": found.ablation,
        "dependence": found.dependence,
        "budget": found.budget,
    }
    folder = cache / f"process {fabric.global_rank}"
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False))
    write_json(folder / "made.json", made)


def evaluate_twice(fabric: Fabric, root: Path, whole: Path, killed: Path) -> None:
    """To the end in one folder, and in the other until process 1 is killed."""
    evaluate(fabric, root, whole)
    evaluate(fabric, root, killed, killed=1)


def contents(cache: Path) -> dict[str, bytes]:
    """Every finished shard: features, maps, exact and budgeted, and results."""
    folders = ("features", "maps", "budgeted", "results")
    return {path.name: path.read_bytes() for name in folders for path in cache.glob(f"{name}/[!.]*")}


def tables(cache: Path, process: int = 0) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in (cache / f"process {process}").glob("*.csv")}
    assert len(found) == 5
    return found


def made(cache: Path, process: int = 0) -> list[str]:
    """What a process computed: the maps of Table 2, and the results of its and of the budget table's maps."""
    return json.loads((cache / f"process {process}" / "made.json").read_text())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blocks(tmp_path_factory.mktemp("blocks"))


@pytest.fixture(scope="module")
def alone(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of one process."""
    cache = tmp_path_factory.mktemp("alone")
    evaluate(Fabric(accelerator="cpu", devices=1), root, cache)
    assert made(cache) == ["maps"] * 6 + ["results"] * 2 * SCORED
    return cache


@pytest.fixture(scope="module")
def shared(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The caches of two processes, one of whole tables and one of a run in which process 1 was killed."""
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    with pytest.raises(ProcessExitedException, match="process 1 terminated with signal SIGKILL"):
        fabric.launch(evaluate_twice, root, whole, killed)
    return whole, killed


def test_two_processes_share_the_shards_and_write_the_bytes_of_one(alone: Path, shared: tuple[Path, Path]) -> None:
    cache, _ = shared
    assert contents(cache) == contents(alone)
    assert tables(cache, 0) == tables(cache, 1) == tables(alone)
    assert made(cache, 0) == made(cache, 1) == ["maps"] * 3 + ["results"] * SCORED


def test_a_killed_process_ends_the_other_and_loses_its_unfinished_shard_only(
    root: Path, alone: Path, shared: tuple[Path, Path]
) -> None:
    _, cache = shared
    whole, kept = contents(alone), contents(cache)
    assert kept and kept.items() < whole.items()
    assert not list(cache.glob("process *"))
    evaluate(Fabric(accelerator="cpu", devices=1), root, cache)
    assert contents(cache) == whole and tables(cache) == tables(alone)
    assert made(cache).count("maps") < 6
