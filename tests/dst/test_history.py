import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiling import counted
from wormjax.dst import analysis


def _masks(*sets, size=4):
    return [
        {"w": jnp.asarray(np.isin(np.arange(size), list(s))), "b": jnp.array(True)} for s in sets
    ]


def test_exploration_of_the_specification():
    first, second, third = _masks({0}, {1}, {0})
    history = analysis.start_history(first)
    found = [float(analysis.exploration(history).total)]
    for masks in (second, third):
        history = analysis.advance_history(history, masks)
        found.append(float(analysis.exploration(history).total))
    assert found == [0.25, 0.5, 0.5]
    assert list(analysis.exploration(history).leaves) == ["w"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sets(st.integers(0, 11), min_size=1), min_size=1, max_size=6))
def test_a_history_agrees_with_python_sets(sets):
    masks = _masks(*sets, size=12)
    history = analysis.start_history(masks[0])
    fired, dropped, born = set(sets[0]), set(), dict.fromkeys(sets[0], 0)
    shares = [float(analysis.exploration(history).total)]
    for step, (before, now) in enumerate(itertools.pairwise(sets), 1):
        history = analysis.advance_history(history, masks[step])
        grown = now - before
        assert int(history.grown) == len(grown)
        assert int(history.regrown) == len(grown & dropped)
        rate = float(analysis.regrown_rate(history))
        assert (
            np.isnan(rate)
            if not grown
            else rate == pytest.approx(len(grown & dropped) / len(grown))
        )
        fired |= now
        dropped |= before - now
        born = {i: born[i] if i in before else step for i in now}
        ages = np.asarray(history.ages["w"])
        assert {i: step - b for i, b in born.items()} == {i: ages[i] for i in now}
        assert not ages[[i for i in range(12) if i not in now]].any()
        np.testing.assert_array_equal(np.flatnonzero(history.fired["w"]), sorted(fired))
        np.testing.assert_array_equal(np.flatnonzero(history.dropped["w"]), sorted(dropped))
        shares.append(float(analysis.exploration(history).total))
        expected = [sum(1 for b in born.values() if (step - b >= 2) == old) for old in (0, 1)]
        assert analysis.age_counts(history, (0, 2)).tolist() == expected
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(len(sets[0]) / 12)


def test_a_history_is_a_jittable_state():
    first, second = _masks({0, 1}, {1, 2})
    history = analysis.start_history(first)
    step, programs = counted(analysis.advance_history)
    after = step(step(history, second), first)
    assert int(after.regrown) == 1
    assert len(programs) == 1


def test_wrong_input_gets_its_sentence():
    history = analysis.start_history(_masks({0})[0])
    with pytest.raises(ValueError, match="edges must rise from 0"):
        analysis.age_counts(history, (1, 2))
    with pytest.raises(ValueError, match="no prunable leaf"):
        analysis.exploration(analysis.start_history({"b": jnp.array(True)}))
    with pytest.raises(ValueError, match="'w' has shape"):
        analysis.advance_history(history, _masks({0}, size=5)[0])
