"""The settings of the papers, each with what it deviates from.

Every preset takes the inner optimizer, a key and a density, and any argument of `wormjax.sparse_training` to override.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import optax
from jaxtyping import Array, Key

from wormjax.dst import _schedules
from wormjax.dst._ramps import phases, polynomial
from wormjax.dst._transformation import Density, sparse_training
from wormjax.dst.criteria import Criterion, criterion_of, magnitude
from wormjax.dst.criteria import mest as mest_score
from wormjax.dst.criteria import set_ as set_score
from wormjax.dst.growth import momentum, random, redistribution

Inner: TypeAlias = optax.GradientTransformation
Made: TypeAlias = optax.GradientTransformationExtraArgs
Keys: TypeAlias = Key[Array, ""] | Array


def static(inner: Inner, key: Keys, density: Density, **settings: Any) -> Made:
    """A random sparse network that never changes: the control of every dynamic one.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept.
      **settings: of `wormjax.sparse_training`.
    """
    # nothing drops and nothing grows; the masks are looked at now and then, so that a leak is found
    chosen = {"grow": None, "every": 1000, "stop": 2**31 - 1}
    return sparse_training(inner, key=key, density=density, **{**chosen, **settings})


def set_(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """SET: the weights of both signs nearest to zero go, random ones come.

    Deviations: exact numbers in place of draws entry by entry, a drop fraction that decays along a cosine from 0.3
    (the paper's is constant), none in the last quarter of the training. The original updates once an epoch: set
    ``every``.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`.

    References:
      Mocanu et al., `Scalable Training of Artificial Neural Networks <https://arxiv.org/abs/1707.04780>`_, 2017
    """
    chosen = {
        "drop": set_score(),
        "grow": random(),
        "order": "skip",
        "schedule": _schedules.cosine(0.3),
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def rigl(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """RigL: the smallest weights go, those of the largest gradients come, instead of an optimizer step.

    Deviations: the cosine starts at the first update and not at step 0 and ends at 0.005 and not 0; there is no
    noise on the scores.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`.

    References:
      Evci et al., `Rigging the Lottery <https://arxiv.org/abs/1911.11134>`_, 2019
    """
    chosen = {
        "grow": "gradient",
        "order": "skip",
        "rounding": "floor",
        "schedule": _schedules.cosine(0.3),
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def fantastic_weights(
    inner: Inner,
    key: Keys,
    density: Density,
    *,
    total_steps: int,
    drop: str | Criterion | Callable = "magnitude",
    order: Literal["after", "before", "skip", "fw_mixed"] = "after",
    **settings: Any,
) -> Made:
    """The setting of the study of criteria: one drop criterion, growth at random or by gradient, to the last step.

    The drop fraction falls along a cosine from 0.5 to 0.005 over the whole training, every 800 steps, the last one
    included; momentum is dense and stays.

    Deviations: exact numbers where the study draws entry by entry (``initial="bernoulli"`` draws the first masks so).
    Its code updates masks after the optimizer's step for magnitude, SET, random and the running magnitude, and before
    it for criteria that read the gradient, so that what is compared is criterion and order together. Here every
    criterion updates them before the step, ``order="after"``; ``"fw_mixed"`` does as the code. The optimizer
    must be given the study's: SGD with a momentum of 0.9.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      drop: which active weights go; as in `wormjax.sparse_training`.
      order: as in `wormjax.sparse_training`; ``"fw_mixed"`` is ``"before"`` for the criteria that read weights only,
        and ``"after"`` for the others.
      **settings: of `wormjax.sparse_training`; ``grow="random"`` by default.

    References:
      Nowak et al., `Fantastic Weights and How to Find Them: Where to Prune in Dynamic Sparse Training
      <https://arxiv.org/abs/2306.12230>`_, 2023
    """
    criterion = criterion_of(drop)
    if order == "fw_mixed":
        order = "after" if {"gradient", "curvature"} & set(criterion.needs) else "before"
    released = _schedules.cosine(0.5, 0.005, origin="global")
    chosen = {
        "drop": criterion,
        "grow": "random",
        "order": order,
        # by the step's share of the whole training
        "schedule": lambda step, begin, end: released(step, 0, total_steps),
        "every": 800,
        "stop": None,
        "guard_last": False,
        "opt_state": "keep",
        "mask_gradients": False,
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def snfs(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """SNFS: growth by momentum, and leaves share growth by their mean momentum.

    Deviations: the total is conserved at every update (the reference corrects it over the next ones), leaves are never
    filled beyond 99% while others have room, layers that grow keep the common drop fraction. ``inner`` needs a
    momentum, which stays dense.

    Args:
      inner: an optimizer with momentum.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`.

    References:
      Dettmers & Zettlemoyer, `Sparse Networks from Scratch <https://arxiv.org/abs/1907.04840>`_, 2019
    """
    chosen = {
        "grow": redistribution(momentum()),
        "order": "before",
        "mask_gradients": False,
        "opt_state": "keep",
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def itop(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """ITOP: random growth and long periods, so that most of the parameters are tried; R_s is kept.

    Read `SparseState.rate_explored`. Deviations: exact numbers where the reference draws and its threshold loses ties,
    no update in the last quarter of the training.

    Args:
      inner: any optimizer; the reference's momentum is masked at every step, as here.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`; ``grow="gradient", every=4000`` is RigL-ITOP.

    References:
      Liu et al., `Do We Actually Need Dense Over-Parameterization? In-Time Over-Parameterization in Sparse Training
      <https://arxiv.org/abs/2102.02887>`_, 2021
    """
    chosen = {"grow": "random", "order": "before", "every": 1500, "track_fired": True}
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def mest(
    inner: Inner,
    key: Keys,
    density: Density,
    *,
    total_steps: int,
    soft: bool = False,
    gamma: float = 0.0,
    **settings: Any,
) -> Made:
    """MEST: elastic mutation, with or without a soft memory bound.

    EM drops a fifth at first (sparsity 0.92 on the way to 0.9), less later, and grows back. EM&S keeps more than the
    density at first (0.88 on the way to 0.9) and drops back to it.

    Deviations: the bounds move along a cosine and a polynomial, where the reference lists them by epoch.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept at the end.
      total_steps: length of the training in optimizer updates.
      soft: the soft memory bound, EM&S: 1.2 times the density at the start.
      gamma: weight of the gradient in the score; 0 is the default of MEST's code.
      **settings: of `wormjax.sparse_training`.

    References:
      Yuan et al., `MEST: Accurate and Fast Memory-Economic Sparse Training Framework on the Edge
      <https://arxiv.org/abs/2110.14032>`_, 2021
    """
    score = mest_score(gamma) if gamma else magnitude()
    chosen: dict[str, Any] = {
        "drop": score,
        "grow": "random",
        "schedule": _schedules.cosine(0.2),
    }
    if soft:
        chosen |= {
            "ramp": polynomial(1),
            "initial_density": min(1.0, round(1.2 * float(density), 6)),
        }
        chosen["schedule"] = _schedules.cosine(0.1667)
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def granet(
    inner: Inner,
    key: Keys,
    density: Density,
    *,
    total_steps: int,
    initial_density: Density = 0.5,
    **settings: Any,
) -> Made:
    """GraNet: global gradual pruning, and after each pruning connections move in every layer.

    Deviations: the target is exact and reached at ``stop`` (the reference stops one update short and keeps one fewer);
    connections stop moving there, where the reference goes on to the end.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept at the end.
      total_steps: length of the training in optimizer updates.
      initial_density: at the start; 1 is dense to sparse.
      **settings: of `wormjax.sparse_training`.

    References:
      Liu et al., `Sparse Training via Boosting Pruning Plasticity with Neuroregeneration
      <https://arxiv.org/abs/2106.10404>`_, 2021
    """
    chosen = {
        "grow": "gradient",
        "order": "before",
        "ramp": polynomial(),
        "ramp_scope": "global",
        "initial_density": initial_density,
        "every": 1000,
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def gmp(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """Gradual magnitude pruning from a dense network; what is pruned never comes back.

    Args:
      inner: any optimizer.
      key: PRNG key.
      density: fraction that is kept at the end, exactly.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`; ``initial_density`` among them.

    References:
      Zhu & Gupta, `To prune, or not to prune <https://arxiv.org/abs/1710.01878>`_, 2017
    """
    chosen = {"grow": None, "ramp": polynomial(), "initial_density": 1}
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def ste(inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any) -> Made:
    """Straight-through: the gradients of the masked network train a dense copy of it.

    The masks are the largest magnitudes of that copy, which lies in the state. Parameters themselves are always
    sparse, so there is nothing to switch for evaluation. Deviation: JaxPruner masks in the forward pass and needs a
    call before it.

    Args:
      inner: any optimizer; it trains the dense copy.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`; ``every=1`` by default, as masks follow every step.

    References:
      Bengio et al., `Estimating or Propagating Gradients Through Stochastic Neurons
      <https://arxiv.org/abs/1308.3432>`_, 2013
    """
    chosen = {"straight_through": True, "every": 1, "stop": None}
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )


def top_kast(
    inner: Inner, key: Keys, density: Density, *, total_steps: int, **settings: Any
) -> Made:
    """Top-KAST with a dense backward pass: the largest magnitudes of a dense copy, chosen anew every so often.

    `ste` whose masks follow every 100 steps. Deviations: every entry of the copy is trained, where the paper trains a
    set somewhat larger than the mask; its penalty of entries outside the mask is left to the inner optimizer.

    Args:
      inner: any optimizer; it trains the dense copy.
      key: PRNG key.
      density: fraction that is kept.
      total_steps: length of the training in optimizer updates.
      **settings: of `wormjax.sparse_training`.

    References:
      Jayakumar et al., `Top-KAST: Top-K Always Sparse Training <https://arxiv.org/abs/2106.03517>`_, 2021
    """
    return ste(inner, key, density, total_steps=total_steps, **{"every": 100, **settings})


def acdc(
    inner: Inner,
    key: Keys,
    density: Density,
    *,
    total_steps: int,
    phase: int,
    **settings: Any,
) -> Made:
    """AC/DC: alternate between a sparse and the dense network, and end sparse.

    The network is dense until the first mask update at step ``phase``; then it is sparse for ``phase`` steps, dense
    for as many, and so on; from ``stop`` on it is sparse. Deviation: the paper's phases have lengths of their own.

    Args:
      inner: any optimizer; its state is zeroed where connections are pruned.
      key: PRNG key.
      density: fraction that is kept at the end.
      total_steps: length of the training in optimizer updates.
      phase: steps of a phase.
      **settings: of `wormjax.sparse_training`.

    References:
      Peste et al., `AC/DC: Alternating Compressed/DeCompressed Training <https://arxiv.org/abs/2106.12379>`_, 2021
    """
    chosen = {
        "ramp": phases(phase),
        "initial_density": 1,
        "every": phase,
        "start": phase,
        "schedule": _schedules.constant(0.0),
    }
    return sparse_training(
        inner, key=key, density=density, total_steps=total_steps, **{**chosen, **settings}
    )
