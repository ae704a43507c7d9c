"""The proxy of the drills: transparent without a fault, and each fault is what a client sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import obstore
import pytest
from obstore.exceptions import BaseError, PermissionDeniedError

from tests.drills.s3_proxy import DOWN, FORBIDDEN, FULL, SLOW, Fault, S3Proxy
from tests.endtoend.bucket import Bucket

SMALL = b"some bytes"


@pytest.fixture
def proxy(object_store: dict[str, str]) -> Iterator[S3Proxy]:
    with S3Proxy(object_store["AWS_ENDPOINT_URL"], "127.0.0.1") as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: S3Proxy, object_store: dict[str, str], make_bucket: Callable[[], str]) -> Bucket:
    return Bucket(make_bucket(), {**object_store, "AWS_ENDPOINT_URL": proxy.address})


def test_signed_requests_pass_with_their_bytes(proxy: S3Proxy, bucket: Bucket) -> None:
    large = bytes(range(256)) * 65_536
    for key, content in (("a folder/small", SMALL), ("large", large)):
        bucket.write(f"s3://{bucket.name}/{key}", content)
    assert bucket.keys(f"s3://{bucket.name}/a folder") == ["small"]
    assert bucket.read(f"s3://{bucket.name}/large") == large
    assert {path.split("/")[1] for _, path in proxy.writes} == {bucket.name}


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param(DOWN, BaseError, id="down"),
        pytest.param(FORBIDDEN, PermissionDeniedError, id="forbidden"),
        pytest.param(FULL, BaseError, id="full"),
    ],
)
def test_a_fault_is_seen_as_long_as_it_lasts(
    proxy: S3Proxy, bucket: Bucket, fault: Fault, error: type[Exception]
) -> None:
    store = bucket.open(max_retries=0)
    with proxy.failing(fault), pytest.raises(error):
        obstore.put(store, "key", SMALL, use_multipart=False)
    assert proxy.failed >= 1
    obstore.put(store, "key", SMALL, use_multipart=False)
    assert bytes(obstore.get(store, "key").bytes()) == SMALL


def test_a_full_server_still_reads(proxy: S3Proxy, bucket: Bucket) -> None:
    bucket.write(f"s3://{bucket.name}/key", SMALL)
    with proxy.failing(FULL):
        assert bucket.read(f"s3://{bucket.name}/key") == SMALL
    assert proxy.failed == 0


def test_a_slow_server_answers_rightly(proxy: S3Proxy, bucket: Bucket) -> None:
    with proxy.failing(replace(SLOW, delay_seconds=0.2)):
        bucket.write(f"s3://{bucket.name}/key", SMALL)
        assert bucket.read(f"s3://{bucket.name}/key") == SMALL
    assert proxy.failed == 2
