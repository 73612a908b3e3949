"""GraSP: weights whose removal leaves the gradient flow highest go."""

from wormjax.dst._seen import Seen
from wormjax.dst.criteria._protocol import Criterion


def _rule(seen: Seen):
    return seen.weight * seen.curvature


def grasp() -> Criterion:
    r"""Drop what the gradient flow can spare: the largest :math:`-\theta_j (Hg)_j`, so :math:`s_j = \theta_j (Hg)_j`.

    The product of Hessian and gradient is taken at mask updates only, of the function ``value_fn`` that
    ``tx.update(..., value_fn=loss)`` passes, on whatever batch it closes over. The paper divides the logits by a
    temperature of 200: that belongs into the loss.

    Returns:
      The criterion.

    References:
      Wang et al., `Picking Winning Tickets Before Training by Preserving Gradient Flow
      <https://arxiv.org/abs/2002.07376>`_, 2020
    """
    return Criterion("grasp", _rule, ("curvature",))
