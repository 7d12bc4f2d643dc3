"""What dies under a run on a cluster costs time and no episode: counted kills, equal records."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import toy_cluster
from command_line import environment, fresh, line
from toy_cluster import equal_records, task_processes
from toy_work import Hungry

from fssbench.cluster.connect import Ask
from fssbench.cluster.episodes import Episodes, Group
from fssbench.cluster.schedule import Schedule
from fssbench.engine.journal import Journal
from fssbench.errors import RecordError, UsageError

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="Ray is not installed (extra `cluster`)")


def _after(listener: Any, marks: list[int], act: Callable[[], None]) -> None:
    """`act` as soon as so many episodes are done, once for each mark."""
    plain, left = listener.advance, list(marks)

    def advance(episodes: int) -> None:
        plain(episodes)
        if left and listener.done >= left[0]:
            left.pop(0)
            act()

    listener.advance = advance


@contextmanager
def _another_second(nodes: Any, folder: str, **more: Any) -> Iterator[None]:
    """The second node in another state, for as long as the block lasts."""
    nodes.remove_node(nodes.second)
    nodes.second = toy_cluster.add_node(nodes, Path(nodes.temporary, folder), **more)
    try:
        yield
    finally:
        nodes.remove_node(nodes.second)
        nodes.second = toy_cluster.add_node(nodes, Path(nodes.temporary, "second"))


def test_killed_workers_are_replaced(on_cluster, run, listener) -> None:
    kills: list[int] = []

    def kill() -> None:
        victim = task_processes("ray::toy_methods")[0]
        kills.append(victim.pid)
        victim.kill()

    _after(listener, [5, 20, 35], kill)
    theirs, counts = on_cluster("ToySlow", shots=(1,), head_batch=1)
    assert len(kills) == counts.lost == 3
    assert listener.done == listener.episodes == 40  # a killed task's episodes are merged once
    equal_records(theirs, run("ToySlow", head_batch=1))


def test_a_lost_node_costs_no_episode(nodes, on_cluster, run, listener) -> None:
    def remove() -> None:
        nodes.remove_node(nodes.second, allow_graceful=False)

    _after(listener, [5], remove)
    try:
        theirs, counts = on_cluster("ToySlow", shots=(1,), head_batch=1)
    finally:
        nodes.second = toy_cluster.add_node(nodes, Path(nodes.temporary, "second"))
    assert counts.lost == 1
    equal_records(theirs, run("ToySlow", head_batch=1))


def test_a_full_disk_on_one_node_takes_it_out(nodes, on_cluster, run, listener) -> None:
    with _another_second(nodes, "full"):
        theirs, counts = on_cluster("ToyFillsDisk", shots=(1,), head_batch=1)
    assert counts.refused == 1
    assert any("refused node" in said and "could not be written" in said for said in listener.messages)
    equal_records(theirs, run("ToyFillsDisk", head_batch=1))


def test_what_kills_its_process_every_time_fails_alone(on_cluster, run) -> None:
    theirs, counts = on_cluster("ToyKills", "Toy", shots=(1,), folds=[0], retries=1)
    assert [outcome.state for outcome in theirs] == ["failed", "finished"]
    assert counts.split == 1
    assert counts.lost == 4  # twice beside the other, twice alone
    equal_records(theirs[1:], run("Toy", folds=[0]))


def test_a_node_with_other_code_is_refused_and_both_are_named(nodes, on_cluster, run, listener, tmp_path: Path) -> None:
    plugins = shutil.copytree(toy_cluster.PLACES[0], tmp_path / "plugins")
    with (plugins / "toy_methods.py").open("a") as file:
        file.write("# another revision\n")
    path = os.pathsep.join([str(plugins), str(toy_cluster.PLACES[1])])
    with _another_second(nodes, "second", env={"PYTHONPATH": path}):
        theirs, counts = on_cluster("ToySlow", shots=(1,), head_batch=1)
    assert counts.refused == 1
    (said,) = (message for message in listener.messages if message.startswith("refused node"))
    assert re.search(r"code: expected [0-9a-f]{64}, found [0-9a-f]{64} \(revision here", said)
    equal_records(theirs, run("ToySlow", head_batch=1))


def test_nodes_with_another_bank_end_the_run_and_both_are_named(on_cluster, two_way_bank: Path, monkeypatch) -> None:
    plain = Group.payload

    def elsewhere(self: Group) -> Episodes:
        asked = plain(self)
        return replace(asked, request=replace(asked.request, bank=two_way_bank))

    monkeypatch.setattr(Group, "payload", elsewhere)
    with pytest.raises(UsageError, match=r"no node .* bank: expected \w+, found \w+"):
        on_cluster("Toy", shots=(1,), folds=[0])


@pytest.mark.usefixtures("nodes")
def test_a_task_that_runs_out_of_memory_asks_for_more(listener) -> None:
    import ray

    largest = max(node["Resources"]["memory"] for node in ray.nodes() if node["Alive"])
    work = Hungry(int(largest * 0.75))
    schedule = Schedule(ray, Ask("auto"), listener.say)
    schedule.add([work])
    schedule.run()
    schedule.close()
    assert (schedule.counts.done, schedule.counts.lost) == (1, 2)
    assert [round(had / largest, 2) for had in work.had] == [0, 0.5, 1]


def test_a_killed_driver_goes_on_by_the_same_command(nodes, bank: Path, run, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = line(
        "run", "toy_methods:ToySlow", "--weights", "random", "--bank", bank, "--out", out, "--batch", "1",
        "--cluster", nodes.address, "--device", "cpu", "--json",
    )  # fmt: skip
    kills = 0
    for share in (5, 15):
        with (tmp_path / "said").open("w") as said:
            driver = subprocess.Popen(command, stdout=said, stderr=said, env=environment())
        while driver.poll() is None and _steps(out) < share:
            time.sleep(0.1)
        assert driver.returncode is None, (tmp_path / "said").read_text()
        driver.kill()
        kills += driver.wait() == -signal.SIGKILL
    assert kills == 2
    kept = _steps(out)
    assert f"going on after {kept} episodes" in fresh(command).said
    ours = run("ToySlow", head_batch=1)
    (folder,) = (path.parent for path in out.rglob("run.json"))
    theirs = [type(ours[0])(ours[0].name, 1, folder, "finished")]
    equal_records(theirs, ours)


def _steps(out: Path) -> int:
    """Steps in the driver's journal; a step is an episode here."""
    return sum(len(path.read_bytes().splitlines()) - 1 for path in out.rglob("journal") if path.stat().st_size)


def test_a_step_that_arrives_damaged_or_twice_changes_nothing(tmp_path: Path) -> None:
    there, here = Journal(tmp_path / "there", {}), Journal(tmp_path / "here", {})
    there.append(0, [(3, 1, range(6))], {})
    there.append(0, [(3, 1, range(6)), (4, 1, range(6))], {})
    first, second = there.steps()
    assert [here.merge(first), here.merge(first), here.merge(second)] == [1, 0, 1]
    with pytest.raises(RecordError, match="damaged"):
        here.merge(second[:-9])
    assert sorted(here.rows) == [(0, 3, 1), (0, 4, 1)]
    there.close()
    here.close()
