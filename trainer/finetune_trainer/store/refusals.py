"""obstore's exceptions in our words: who must do what. Pure.

A refusal at first contact is the user's to mend (StorageAccessError); the same after a success is the storage's
(StorageError), since what worked a minute ago was not spelled wrongly.
"""

from __future__ import annotations

import re

from finetune_trainer.errors import FineTuneError, StorageAccessError, StorageError

_MISSING_BUCKET = "NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist"
_EXPLANATIONS = (
    (
        r"169\.254\.169\.254|metadata\.google\.internal|MissingCredentials|not configured",
        "no credentials were found; put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or GOOGLE_*, AZURE_*) into the"
        " Secret of storage.secretRef, or into the shell's environment in a local run",
    ),
    (
        r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthenticationFailed|access key ID",
        "the access key or its secret is refused; check the credentials in the Secret of storage.secretRef",
    ),
    (
        r"status code: 40[13]|PermissionDenied|Permission denied",
        "access is refused; check the key's rights on this bucket and folder",
    ),
    (
        rf"{_MISSING_BUCKET}|status code: 404",
        "the bucket does not exist at this endpoint; make it, or check its name and AWS_ENDPOINT_URL",
    ),
    (
        r"status code: (301|400)",
        "the request is not understood; check AWS_REGION and AWS_ENDPOINT_URL",
    ),
    (
        r"error sending request|timed out|operation timed out",
        "the endpoint does not answer; check AWS_ENDPOINT_URL and the network",
    ),
    (
        r"No space left",
        "the disk is full; make room or choose another folder",
    ),
)
"""Pattern in obstore's text -> what was found and what to do; the first that matches counts."""


def refuse(error: Exception, uri: str, path: str, first_contact: bool) -> FineTuneError:
    """The error to raise for an exception of obstore met at `path` below `uri`."""
    kind = StorageAccessError if first_contact else StorageError
    place = f"{uri}/{path}" if path else uri
    return kind(f"{place}: {_explain(str(error))}")


def names_missing_bucket(text: str) -> bool:
    """Whether an answer "not found" is about the bucket and not about the object."""
    return re.search(_MISSING_BUCKET, text) is not None


def _explain(text: str) -> str:
    detail = text.split("\n", 1)[0][:300]
    for pattern, explanation in _EXPLANATIONS:
        if re.search(pattern, text):
            # The chained exception still holds the storage's own words.
            return explanation
    return f"the storage failed ({detail}); try again or look into its log"
