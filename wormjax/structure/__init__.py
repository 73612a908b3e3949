"""Channel groups of any JAX function: found, planned on, and really removed."""

from wormjax.structure._activation_scores import activation_scores
from wormjax.structure._alignment import Alignment, load_alignment
from wormjax.structure._captured import CapturedWarning
from wormjax.structure._extend import extend_to_groups
from wormjax.structure._group_lasso import group_lasso, group_lasso_penalty
from wormjax.structure._groups import Groups, find_groups
from wormjax.structure._manifest import Manifest
from wormjax.structure._plan import Plan, plan
from wormjax.structure._shared_widths import StackedTickets, shared_widths, stack_tickets
from wormjax.structure._shrink import shrink
from wormjax.structure._ticket import Ticket
from wormjax.structure._ticket_error import TicketError
from wormjax.structure._ticket_files import load_ticket, save_ticket
from wormjax.structure._unit_scores import UnitScores, unit_scores

__all__ = [
    "Alignment",
    "CapturedWarning",
    "Groups",
    "Manifest",
    "Plan",
    "StackedTickets",
    "Ticket",
    "TicketError",
    "UnitScores",
    "activation_scores",
    "extend_to_groups",
    "find_groups",
    "group_lasso",
    "group_lasso_penalty",
    "load_alignment",
    "load_ticket",
    "plan",
    "save_ticket",
    "shared_widths",
    "shrink",
    "stack_tickets",
    "unit_scores",
]
