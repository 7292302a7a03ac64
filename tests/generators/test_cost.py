"""What a run costs: hours and money by hand, and what makes no sense is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numbered_scenes import small_plan, source

from dyncity.errors import InputError
from exporters.parquet import ParquetExporter
from generators.cost import Prices, run_cost
from generators.dry_run import dry_run


def test_a_million_scenes_by_hand():
    rows = run_cost(1_000_000, 4.0, (1, 8), Prices(gpu_hour=0.6).of_worker(cpus=1, gpus=1.0))
    assert rows == {
        "worker hours, about": 69.44,
        "hours, about": "69.44 with 1, 8.68 with 8",
        "cost, about": 41.67,
    }


def test_a_worker_costs_its_share_of_a_gpu_and_its_cpus():
    assert Prices(gpu_hour=1.0, cpu_hour=0.05).of_worker(cpus=2, gpus=0.5) == pytest.approx(0.6)
    assert Prices(cpu_hour=0.05).of_worker(cpus=1, gpus=0.0) == 0.05
    assert Prices(gpu_hour=0.0).of_worker(cpus=1, gpus=1.0) == 0.0
    assert Prices().of_worker(cpus=1, gpus=1.0) is None


@given(st.integers(1, 10**8), st.floats(0.01, 1e4), st.integers(1, 500), st.floats(0, 100))
def test_the_money_does_not_depend_on_how_many_workers_there_are(scenes, rate, workers, hourly):
    alone, many = run_cost(scenes, rate, (1, 1), hourly), run_cost(scenes, rate, (workers, workers), hourly)
    assert alone["cost, about"] == many["cost, about"]


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"gpu_hour": -0.1}, "--price-per-gpu-hour"),
        ({"cpu_hour": float("nan")}, "--price-per-cpu-hour"),
        ({"scenes_per_second": 0.0}, "--scenes-per-second"),
        ({"scenes_per_second": float("inf")}, "--scenes-per-second"),
    ],
)
def test_impossible_prices_and_rates_are_refused(fields, option):
    with pytest.raises(InputError, match=option):
        Prices(**fields)


def test_a_price_of_gpus_for_workers_without_one_is_refused():
    with pytest.raises(InputError, match="--gpus-per-worker"):
        dry_run(small_plan(), source(), ParquetExporter(), prices=Prices(gpu_hour=1.0))


def test_a_dry_run_takes_a_given_rate_and_says_the_cost_only_where_a_price_is():
    rows = dry_run(
        small_plan(7200), source(), ParquetExporter(), (2, 4), 1.0, Prices(gpu_hour=3.0, scenes_per_second=2.0)
    )
    assert rows["seconds, about"] == 1800.0
    assert (rows["worker hours, about"], rows["cost, about"]) == (1.0, 3.0)
    assert "cost, about" not in dry_run(small_plan(), source(), ParquetExporter())
