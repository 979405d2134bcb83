"""Secrets: references that are stored, values that a worker alone knows, and masks wherever a value turns up.

`secret://NAME` in the params of a run is what is stored and shown. A worker looks the value up for the team of the
run: in its environment, in a file, at providers of installed packages. Whatever a run says is masked by the values
that are known and by the names of fields.
"""

from jobdeck.secret.errors import SecretNotFound, SecretNotGranted
from jobdeck.secret.names import SCHEME
from jobdeck.secret.params import filled, withheld
from jobdeck.secret.redaction import hides, masked, masked_number, redact, remember, without_values
from jobdeck.secret.reference import (
    Lookup,
    Secret,
    from_environment,
    lookup,
    resolve,
    variable_of,
)

__all__ = [
    "SCHEME",
    "Lookup",
    "Secret",
    "SecretNotFound",
    "SecretNotGranted",
    "filled",
    "from_environment",
    "hides",
    "lookup",
    "masked",
    "masked_number",
    "redact",
    "remember",
    "resolve",
    "variable_of",
    "withheld",
    "without_values",
]
