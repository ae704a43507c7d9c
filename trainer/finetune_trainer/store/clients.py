"""obstore's clients, made from a location and the usual environment variables (AWS_*, GOOGLE_*, AZURE_*).

All time-outs and retries are set here, so that a dead endpoint is an error within seconds and not a hang.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

from finetune_trainer.store.location import Location

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig  # typed dictionaries, absent at run time

Client = S3Store | GCSStore | AzureStore | LocalStore

AWS_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SKIP_SIGNATURE",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_UNSIGNED_PAYLOAD",
    "AWS_CHECKSUM_ALGORITHM",
    "AWS_CONDITIONAL_PUT",
    "AWS_REQUEST_PAYER",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_SSE_BUCKET_KEY_ENABLED",
)
GOOGLE_VARIABLES = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SKIP_SIGNATURE",
)
AZURE_VARIABLES = (
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_STORAGE_USE_EMULATOR",
    "AZURE_SKIP_SIGNATURE",
)


@dataclass(frozen=True)
class Patience:
    """How long a request may take."""

    connect_seconds: int
    read_seconds: int
    request_seconds: int
    retries: int
    retry_seconds: int


FIRST_CONTACT = Patience(connect_seconds=3, read_seconds=5, request_seconds=8, retries=2, retry_seconds=8)
"""Short: a wrong address is told within seconds."""
LATER = Patience(connect_seconds=5, read_seconds=30, request_seconds=900, retries=6, retry_seconds=90)
"""Long: a large file over a slow line, a bucket that is away for a minute."""


def make_client(location: Location, environment: Mapping[str, str], patience: Patience) -> Client:
    """The client of one location; a folder's client is rooted at /, so that its folders are made when first written."""
    if location.folder is not None:
        return LocalStore()
    prefix = location.prefix or None
    options, retry = _client_options(environment, patience), _retry_config(patience)
    if location.scheme == "s3":
        return S3Store(
            location.bucket,
            prefix=prefix,
            config=cast("Any", aws_settings(environment)),
            client_options=options,
            retry_config=retry,
        )
    variables = GOOGLE_VARIABLES if location.scheme == "gs" else AZURE_VARIABLES
    config = cast("Any", _select(environment, variables))
    kind: type[GCSStore | AzureStore] = GCSStore if location.scheme == "gs" else AzureStore
    return kind(location.bucket, prefix=prefix, config=config, client_options=options, retry_config=retry)


def aws_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Settings of obstore for S3: the variables by their own names; AWS_ENDPOINT_URL_S3 wins as in every AWS SDK."""
    settings = _select(environment, AWS_VARIABLES)
    if environment.get("AWS_ENDPOINT_URL_S3"):
        settings["aws_endpoint_url"] = environment["AWS_ENDPOINT_URL_S3"]
    if "aws_region" not in settings and "aws_default_region" not in settings:
        settings["aws_region"] = "us-east-1"
    return settings


def _select(environment: Mapping[str, str], variables: tuple[str, ...]) -> dict[str, str]:
    return {name.lower(): environment[name] for name in variables if environment.get(name)}


def _client_options(environment: Mapping[str, str], patience: Patience) -> ClientConfig:
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    wished = environment.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes"}
    return {
        "allow_http": wished or endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=patience.connect_seconds),
        "read_timeout": timedelta(seconds=patience.read_seconds),
        "timeout": timedelta(seconds=patience.request_seconds),
    }


def _retry_config(patience: Patience) -> RetryConfig:
    return {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.retry_seconds),
        "backoff": {
            "init_backoff": timedelta(milliseconds=200),
            "max_backoff": timedelta(seconds=5),
            "base": 2,
        },
    }
