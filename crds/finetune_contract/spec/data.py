"""`spec.data`: where the rows are, which columns hold what, and how they are prepared."""

from typing import Annotated, Literal

from pydantic import Field

from finetune_contract.document import Document, Rule
from finetune_contract.text import ColumnName, ShortText, SourceUri

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class DataSource(Document):
    """One part of the data: files of jsonl, csv, parquet or arrow (compressed too), or a data set of the Hub."""

    source: SourceUri
    """Where the rows lie, a file or a folder: s3://, gs://, az://, pvc://claim/path, http(s)://, file:// or hf://owner/name."""

    format: Literal["jsonl", "csv", "parquet", "arrow"] | None = None
    """The files' format; derived from the file names when absent."""

    split: ShortText | None = None
    """Split of a Hub data set; train, validation or test by the field's own name when absent."""

    rules = (
        Rule(
            cel="!has(self.split) || self.source.startsWith('hf://')",
            message="data: split is for data sets of the Hub (hf://); remove it or name such a source",
            holds=lambda data: data.split is None or data.source.startswith("hf://"),
            field="split",
        ),
    )


class Columns(Document):
    """The task's column on the left, your file's column on the right. What is absent has the task's own name."""

    text: ColumnName | None = None
    """The text to read."""
    text_pair: ColumnName | None = None
    """The second text of a pair."""
    label: ColumnName | None = None
    """The class, a string or an integer."""
    value: ColumnName | None = None
    """The number to predict (text-regression)."""
    tokens: ColumnName | None = None
    """List of words (token-classification)."""
    tags: ColumnName | None = None
    """List of tags, one a word (token-classification)."""
    question: ColumnName | None = None
    """The question (question-answering)."""
    context: ColumnName | None = None
    """The text that holds the answer (question-answering)."""
    answers: ColumnName | None = None
    """Answers in SQuAD's shape {text, answer_start}; empty lists mean unanswerable."""
    summary: ColumnName | None = None
    """The summary (summarization)."""
    sentences: ColumnName | None = None
    """List of sentences (extractive-summarization)."""
    labels: ColumnName | None = None
    """List of 0 and 1, one a sentence (extractive-summarization)."""
    source: ColumnName | None = None
    """Text in the source language (translation)."""
    target: ColumnName | None = None
    """Text in the target language (translation)."""
    messages: ColumnName | None = None
    """Chat messages [{role, content}, ...]."""
    prompt: ColumnName | None = None
    """What the model is given (text-generation)."""
    completion: ColumnName | None = None
    """What the model shall answer (text-generation)."""
    query: ColumnName | None = None
    """The query (sentence-similarity)."""
    positive: ColumnName | None = None
    """The text that fits the query (sentence-similarity)."""
    negatives: ColumnName | None = None
    """Texts that do not fit the query (sentence-similarity)."""
    image: ColumnName | None = None
    """The image: path, URL or bytes."""

    def file_column(self, column: str) -> str:
        """The file's column for a column of the task, both by the names users see."""
        return str(self.to_data().get(column, column))


class SplitSpec(Document):
    """How validation and test rows are split off the training rows where you name no source for them."""

    validation: Share = 0.1
    """Share of rows for validation."""
    test: Share = 0.1
    """Share of rows for test."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of the split; the same seed gives the same rows."""
    stratify: bool = True
    """Keep the share of every class the same in all parts (where the task has classes)."""
    group: ColumnName | None = None
    """Column of the file whose equal values stay in one part (all rows of one document, say)."""

    rules = (
        Rule(
            cel="(has(self.validation) ? self.validation : 0.1) + (has(self.test) ? self.test : 0.1) < 1.0",
            message="data.split: validation and test together leave no row for training; make their sum less than 1",
            holds=lambda split: split.validation + split.test < 1.0,
            field="validation",
        ),
    )


class CleanSpec(Document):
    """Cleaning of text columns."""

    normalize_unicode: bool = True
    """Unicode NFC, control characters removed."""
    collapse_whitespace: bool = False
    """Runs of white space become one space."""
    strip_html: bool = False
    """Tags removed, entities decoded."""
    min_characters: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Rows with a shorter text are dropped and counted."""


class DeduplicateSpec(Document):
    """Removal of repeated training rows; validation and test rows that you name are all judged."""

    method: Literal["exact", "near", "none"] = "exact"
    """exact: equal after normalisation; near: MinHash; none: keep all."""
    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    """Similarity from which two rows count as near duplicates."""


class DataSpec(Document):
    """The rows, and how they are prepared."""

    train: DataSource
    """Training rows."""
    validation: DataSource | None = None
    """Validation rows; split off the training rows when absent."""
    test: DataSource | None = None
    """Test rows; split off the training rows when absent."""
    columns: Columns = Columns()
    """The task's columns and the file's names for them."""
    prepare: Literal["auto", "pod", "inline"] = "auto"
    """Where data is prepared: on a CPU pod of its own before a GPU is asked for (pod), inside the first trainer pod
    (inline), or pod when the job asks for GPUs and inline otherwise (auto)."""
    split: SplitSpec = SplitSpec()
    """How missing parts are split off."""
    clean: CleanSpec = CleanSpec()
    """Cleaning of text columns."""
    deduplicate: DeduplicateSpec = DeduplicateSpec()
    """Removal of repeated training rows."""
    contamination: Literal["drop", "report", "ignore"] = "drop"
    """What happens to training rows that also stand in validation or test data."""
    max_masked_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Largest share of rows with nothing to learn from (all tokens masked or cut off) before the job is refused."""
