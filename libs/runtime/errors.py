"""Why a service does not run."""


class FatalError(Exception):
    """The service cannot run; the message is one sentence that says what to do."""


class StoppedError(Exception):
    """The stop was asked for before the service had started; it ends as if it had run."""
