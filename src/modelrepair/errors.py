"""The one exception that modelrepair raises on purpose."""


class RepairError(Exception):
    """What a user can mend: one sentence that says what was given, what was expected and what to do.

    A stage prints its text alone, without a traceback, and exits with status 1.
    """
