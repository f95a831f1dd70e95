from src.benchmarks.spread import spread


def test_spread_is_median_and_quartiles():
    assert spread([1, 2, 3, 4, 100]) == {"q1": 2, "median": 3, "q3": 4}
