"""Quantiles of Student's t distribution, from its closed form for whole degrees of freedom."""

import math


def student_cdf(t: float, degrees: int) -> float:
    r"""Return the probability that Student's t is at most ``t``.

    With :math:`\theta = \arctan(t / \sqrt{\nu})` the probability of (-t, t) is a finite sum of powers of its cosine.

    Example:
      >>> round(student_cdf(2.0, 2), 6)
      0.908248

    References:
      Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4, 1964
    """
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    if degrees % 2:
        term, total = cosine, 0.0
        for k in range(1, (degrees - 1) // 2 + 1):
            total += term
            term *= cosine**2 * 2 * k / (2 * k + 1)
        inside = 2 / math.pi * (theta + sine * total)
    else:
        term, total = 1.0, 0.0
        for k in range(1, degrees // 2 + 1):
            total += term
            term *= cosine**2 * (2 * k - 1) / (2 * k)
        inside = sine * total
    return (1 + inside) / 2


def student_quantile(probability: float, degrees: int) -> float:
    """Return the t that is exceeded with probability ``1 - probability``, by bisection.

    Example:
      >>> round(student_quantile(0.975, 2), 4)
      4.3027
    """
    low, high = -1.0, 1.0
    while student_cdf(high, degrees) < probability:
        high *= 2
    while student_cdf(low, degrees) > probability:
        low *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if student_cdf(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return high
