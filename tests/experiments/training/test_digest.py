import numpy as np

from experiments.training import digest


def test_a_digest_sees_every_bit_and_the_order_of_the_leaves():
    tree = {"a": np.zeros(3, np.float32), "b": np.ones(2, np.float32)}
    other = {"a": np.array([0.0, -0.0, 0.0], np.float32), "b": tree["b"]}
    assert digest(tree) == digest({k: v.copy() for k, v in tree.items()})
    assert digest(tree) != digest(other)
