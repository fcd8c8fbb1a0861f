"""The labelled simulation in small: attacks are found, ordinary life is left alone."""

import json
from typing import Any

import pytest

from benchmarks import anomalies
from benchmarks.customers import Customer


def test_recall_and_false_alerts(capsys: pytest.CaptureFixture[str]) -> None:
    """On a seed that no threshold was set on, both bars are kept; each kind has its line."""
    assert 21 not in anomalies.TUNED
    total = anomalies.measure(seeds=[21], customers=10, days=75, attacks=6)
    assert total["recall"] >= anomalies.RECALL, total
    assert total["false_per_customer_month"] <= anomalies.FALSE, total
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert len(kinds) >= 6 and total["attacks"] >= 25


def test_below_the_bar_it_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A detection that finds nothing ends with status 1."""

    def blind(*_given: Any) -> list[Any]:
        return []

    for name in ("bursts", "sprays", "guessed", "unusual_uses"):
        monkeypatch.setattr(anomalies, name, blind)
    arguments = ["--customers", "2", "--days", "60", "--seeds", "21", "--attacks", "3", "--no-cost"]
    assert anomalies.main(arguments) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["recall"] < anomalies.RECALL


def test_the_same_seed_is_the_same_life() -> None:
    """A measurement can be repeated."""
    lives = [[hour.sent for hour in Customer(1, seed=4, first_user=100, days=9).hours()] for _run in range(2)]
    assert lives[0] == lives[1] and any(lives[0])
