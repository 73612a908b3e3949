"""Views of other libraries' models as pure functions of plain pytrees.

A framework is imported only when one of its models is passed in.
"""

from wormjax.adapters._flax_linen import from_linen
from wormjax.adapters._flax_nnx import from_nnx, to_nnx
from wormjax.adapters._keras import from_keras
from wormjax.adapters._view import View

__all__ = ["View", "from_keras", "from_linen", "from_nnx", "to_nnx"]
