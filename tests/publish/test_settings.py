"""Every setting says who set it and why."""

from __future__ import annotations

from finetune_trainer.publish.settings import Setting, list_settings
from tests.publish.make import make_chat_inputs, make_report


def test_written_derived_and_default_settings_are_told_apart() -> None:
    rows = {row.path: row for row in list_settings(make_report())}
    assert [rows[path] for path in ("training.learningRate", "training.microBatchSize", "training.warmupRatio")] == [
        Setting("training.learningRate", "0.0001", "yours", "Peak learning rate"),
        Setting(
            "training.microBatchSize",
            "16",
            "derived",
            "32 rows a process in one step; at most 16 at a time for text-classification",
        ),
        Setting("training.warmupRatio", "0.1", "default", "Share of steps over which the learning rate rises from 0"),
    ]


def test_a_method_shows_its_options_although_none_is_written() -> None:
    rows = {row.path: (row.value, row.origin) for row in list_settings(make_report(make_chat_inputs()))}
    assert (rows["strategy.method"], rows["strategy.lora.rank"]) == (("lora", "yours"), ("16", "default"))


def test_every_setting_stands_once_and_has_a_value_and_a_reason() -> None:
    rows = list_settings(make_report())
    assert len({row.path for row in rows}) == len(rows)
    assert [row.path for row in rows if not (row.value and row.reason)] == []
