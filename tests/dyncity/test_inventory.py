"""What a folder holds, in rows that are read at a glance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from numbered_scenes import NumberedScenes, small_plan

from dyncity.config_file import config_json
from dyncity.datasets.manifest import Manifest
from dyncity.inventory import describe
from dyncity.presets import preset
from exporters.manifest import commit_shard, write_manifest
from exporters.parquet import ParquetExporter


def test_a_run_tells_what_is_watched_and_not_every_class(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/step-00000004").mkdir(parents=True)
    (tmp_path / "config.json").write_text(config_json(preset("tiny")))
    classes = {f"iou_class_{n}": 0.5 for n in range(30)}
    line = json.dumps({"step": 4, "steps": 4, "loss": 3.817, "ce": 3.4, "miou": 0.25, **classes})
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    rows = dict(describe(tmp_path))
    assert rows["last metrics"] == "step 4, steps 4, loss 3.817, miou 0.25; all are in metrics.jsonl"
    assert rows["last state"] == "step-00000004"


def test_what_was_not_asked_for_has_no_row(tmp_path: Path) -> None:
    plan = small_plan(4)
    made = NumberedScenes().generate([plan.spec(i) for i in range(4)])
    record = commit_shard(tmp_path, 0, made, (), ParquetExporter(), 0)
    values = replace(plan, command=None).to_dict()
    write_manifest(tmp_path, Manifest(values, plan.fingerprint(), (record,)))
    rows = dict(describe(tmp_path))
    assert "command" not in rows
    assert rows["seed"] == str(plan.seed)
