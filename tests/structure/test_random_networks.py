"""Random networks: shrunk equals masked, values and gradients, and nothing crashes."""

import pytest
from hypothesis import HealthCheck, given, settings
from random_networks import build, networks

CHECKS = settings(
    deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
QUARTERS = 4  # the first is in every run


def _check(network, check_function, seed):
    apply, params, x = build(network)
    checked = check_function(apply, params, x, seed=seed, tolerance=1e-4)
    assert checked.free >= 1


@pytest.mark.parametrize(
    "quarter", [0, *(pytest.param(q, marks=pytest.mark.slow) for q in range(1, QUARTERS))]
)
def test_a_hundred_networks(quarter, check_function):
    @settings(CHECKS, max_examples=25)
    @given(networks)
    def run(network):
        _check(network, check_function, quarter)

    run.hypothesis.inner_test.__name__ = f"quarter_{quarter}"
    run()


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_a_thousand_networks(tenth, check_function):
    @settings(CHECKS, max_examples=100, derandomize=False)
    @given(networks)
    def run(network):
        _check(network, check_function, tenth)

    run()
