"""An optimizer state that cannot be cut."""

RESET = "Pass opt_state='reset' to start the optimizer afresh on the small parameters."


class CannotCutError(Exception):
    """A state that no rule can cut; becomes a sentence with the state's name and place, and with a remedy."""

    def __init__(self, why: str, remedy: str = RESET):
        super().__init__(why)
        self.remedy = remedy
