"""What no result depends on stays whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from wormjax.structure._groups import find_groups


def shaped(*shape):
    return jax.ShapeDtypeStruct(shape, np.float32)


X = shaped(5, 4)


def sizes(groups):
    return {group.name: group.size for group in groups}


def whole(groups):
    return {(place.path, place.axis): list(map(str, whys)) for place, whys in groups.whole}


UNREAD = "no result depends on it for these inputs"


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint])
def test_positions_behind_the_example(wrap):
    @wrap
    def embed(position, hidden):
        return hidden + position.astype(jnp.float32)[:5]

    def apply(p, x):
        return jnp.cos(embed(p["position"], x @ p["w"])) @ p["out"]

    params = {"out": shaped(8, 2), "position": shaped(16, 8), "w": shaped(4, 8)}
    groups = find_groups(apply, params, X)
    assert sizes(groups) == {"out:0": 8}
    assert whole(groups)["position", 0] in (
        [UNREAD],
        ["it is an axis of the model's input", UNREAD],
    )
    assert UNREAD in str(groups.explain())


def test_a_parameter_that_is_not_used():
    def apply(p, x):
        _ = lax.dot_general(x, p["spare"], (((1,), (0,)), ((), ())))
        return jnp.cos(x @ p["w"]) @ p["out"]

    params = {"never": shaped(3, 7), "out": shaped(8, 2), "spare": shaped(4, 9), "w": shaped(4, 8)}
    groups = find_groups(apply, params, X)
    assert sizes(groups) == {"out:0": 8}
    assert whole(groups)["spare", 1] == [UNREAD]
    assert whole(groups)["never", 0] == whole(groups)["never", 1] == [UNREAD]


def test_what_one_slice_leaves_another_may_take():
    def apply(p, x):
        hidden = jnp.cos(x @ p["w"])
        return hidden[:, :3] @ p["a"] + hidden[:, 5:] @ p["b"]

    params = {"a": shaped(3, 2), "b": shaped(3, 2), "w": shaped(4, 8)}
    groups = find_groups(apply, params, X)
    assert sizes(groups) == {"a:0": 3, "b:0": 3}
    assert whole(groups)["w", 1] == [UNREAD]  # the two channels between


def test_channels_of_a_piece_that_is_thrown_away():
    def apply(p, x):
        kept, _ = jnp.split(x @ p["w"], [3], axis=1)
        return kept @ p["out"]

    groups = find_groups(apply, {"out": shaped(3, 2), "w": shaped(4, 8)}, X)
    assert sizes(groups) == {"out:0": 3}
    assert whole(groups)["w", 1] == [UNREAD]


def test_axes_that_end_in_a_contraction_are_read():
    def apply(p, x):
        return x @ (p["down"] @ p["up"]) + lax.reduce_sum(p["shift"] * p["shift"], (0,))

    params = {"down": shaped(4, 6), "shift": shaped(7), "up": shaped(6, 2)}
    assert sizes(find_groups(apply, params, X)) == {"down:1": 6, "shift:0": 7}


def test_a_piece_of_a_loop_is_read_where_the_loop_is():
    def apply(p, x):
        def step(carry, kernel):
            return jnp.tanh(carry @ kernel[:, :8]), None

        hidden, _ = lax.scan(step, x @ p["w"], p["layers"])
        return hidden @ p["out"]

    params = {"layers": shaped(3, 8, 12), "out": shaped(8, 2), "w": shaped(4, 8)}
    groups = find_groups(apply, params, X)
    assert sizes(groups) == {"layers:1": 8}
    assert UNREAD in whole(groups)["layers", 2]
