"""The one formatter."""

from __future__ import annotations

import math

import pytest

from finetune_trainer.publish import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.97134, "0.9713"),
        (1.0, "1.0000"),
        (0.0, "0.0000"),
        (-0.25, "-0.2500"),
        (12345.678, "12,345.7"),
        (2e-5, "2.000e-05"),
        (math.nan, "not a number"),
        (math.inf, "infinite"),
        (-math.inf, "-infinite"),
    ],
)
def test_measured_values_have_four_digits(value: float, text: str) -> None:
    assert figures.format_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.96, "60.0 s"),
        (60, "1 min"),
        (95, "1 min 35 s"),
        (3725, "1 h 2 min"),
        (86400, "1 d"),
        (97200, "1 d 3 h"),
    ],
)
def test_times_name_their_two_largest_units(seconds: float, text: str) -> None:
    assert figures.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (2e-05, "2e-05"),
        (3.0, "3"),
        ("linear", "linear"),
        (("query", "value"), "query, value"),
        ({"text": "body"}, "text: body"),
    ],
)
def test_settings_read_as_in_yaml(value: object, text: str) -> None:
    assert figures.format_setting(value) == text


@pytest.mark.parametrize(
    ("name", "title", "phrase"),
    [
        ("f1", "F1 (macro)", "F1 (macro)"),
        ("f1_weighted", "F1 weighted", "F1 weighted"),
        ("token_accuracy", "Token accuracy", "token accuracy"),
        ("mae", "MAE", "MAE"),
        ("f1/spam", "F1 of spam", "F1 of spam"),
    ],
)
def test_metrics_are_named_for_people(name: str, title: str, phrase: str) -> None:
    assert (figures.title_metric(name), figures.phrase_metric(name)) == (title, phrase)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:pass@host/rows.csv?X-Amz-Signature=abc", "https://host/rows.csv"),
        ("s3://bucket/folder/rows.jsonl", "s3://bucket/folder/rows.jsonl"),
        ("hf://owner/name", "hf://owner/name"),
        ("file:///data/rows.jsonl", "file:///data/rows.jsonl"),
        ("pvc://claim/path", "pvc://claim/path"),
    ],
)
def test_secrets_in_addresses_are_hidden(uri: str, shown: str) -> None:
    assert figures.hide_secrets(uri) == shown


def test_wilson_interval_matches_the_published_example() -> None:
    # Brown, Cai and DasGupta 2001: 10 of 10 rows right still leaves room down to about 0.72.
    low, high = figures.wilson_interval(1.0, 10)
    assert (round(low, 4), high) == (0.7225, 1.0)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (272_640_000, "260.0 MiB"), (2**50, "1024.0 TiB")],
)
def test_sizes_are_binary(size: int, text: str) -> None:
    assert figures.format_bytes(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999"), (1_900_000, "1.9 M"), (22_713_986, "22.7 M"), (1_235_814_400, "1.24 B")]
)
def test_weights_are_counted_as_people_say_it(count: int, text: str) -> None:
    assert figures.format_parameters(count) == text


def test_a_change_carries_its_sign() -> None:
    assert (figures.format_change(0.5, 0.75), figures.format_change(3.0, 1.5)) == ("+0.2500", "−1.5000")
