"""What can go wrong in a way that a person can mend: what happened, and what to do next."""

from firedamp.storage.masking import masked


class Failure(Exception):
    """A problem with its remedy. A secret in what it names is masked.

    what: a sentence that names the thing and the place. hint: the next step, or empty. Raised where the call
    is and turned into an exit status in one place (`cli.main`, the job wrapper).
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = masked(what)
        self.hint = masked(hint)
        super().__init__(self.what)

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class UsageFailure(Failure):
    """The command line or the configuration asks for something that cannot be."""


class StoreFailure(Failure):
    """The database cannot be opened, read or written."""


class SourceFailure(Failure):
    """A whole source (repository, folder, feed) cannot be read; the others go on."""


class AwsFailure(Failure):
    """AWS refused or did not answer a call made with our own credentials."""


def aws_code(error: Exception) -> str:
    """Return the code that AWS answered with, as botocore's ClientError holds it; empty for any other error."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
