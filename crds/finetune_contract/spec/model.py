"""`spec.model`: which pre-trained model the job starts from."""

from finetune_contract.document import Document
from finetune_contract.text import ShortText, SourceUri


class ModelSpec(Document):
    """The pre-trained model."""

    source: SourceUri
    """Where the model lies: hf://owner/name, or a transformers folder at s3://, gs://, az://, pvc://claim/path, file://."""

    revision: ShortText = "main"
    """Branch, tag or commit on the Hub; only for hf:// sources."""
