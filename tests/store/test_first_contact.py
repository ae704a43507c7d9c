"""First contact: what is wrong is said within seconds, with the URI and the remedy."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.errors import FineTuneError, StorageAccessError, StorageError
from finetune_trainer.store.location import locate
from finetune_trainer.store.refusals import refuse
from finetune_trainer.store.store import Store
from tests.agent.make import free_port

SECONDS = 15.0


def _probe(uri: str, environment: dict[str, str]) -> FineTuneError:
    begin = time.monotonic()
    with pytest.raises(StorageAccessError) as caught:
        Store.open(uri, environment).probe()
    assert time.monotonic() - begin < SECONDS, "a wrong address must be told within seconds"
    assert str(caught.value).startswith(uri)
    return caught.value


def test_a_bucket_that_is_there_answers(object_store: dict[str, str], make_bucket: Callable[[], str]) -> None:
    Store.open(f"s3://{make_bucket()}/new/folder", object_store).probe()


def test_a_missing_bucket(object_store: dict[str, str]) -> None:
    assert "the bucket does not exist" in str(_probe("s3://nobody-made-this-bucket/models", object_store))


def test_a_wrong_key(object_store: dict[str, str], make_bucket: Callable[[], str]) -> None:
    wrong = object_store | {"AWS_SECRET_ACCESS_KEY": "wrong"}
    assert "secret is refused" in str(_probe(f"s3://{make_bucket()}/models", wrong))


def test_an_unknown_key(object_store: dict[str, str], make_bucket: Callable[[], str]) -> None:
    wrong = object_store | {"AWS_ACCESS_KEY_ID": "nobody"}
    assert "secret is refused" in str(_probe(f"s3://{make_bucket()}/models", wrong))


def test_an_endpoint_where_nobody_listens(object_store: dict[str, str]) -> None:
    dead = object_store | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}
    assert "the endpoint does not answer; check AWS_ENDPOINT_URL" in str(_probe("s3://ml/models", dead))


def test_a_claim_that_is_not_mounted() -> None:
    assert "claim nobody-claims-this is not mounted" in str(_probe("pvc://nobody-claims-this/models", {}))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be read or made" in str(_probe(f"file://{tmp_path}/file/models", {}))


def test_a_folder_that_nobody_has_made_yet_is_fine(tmp_path: Path) -> None:
    Store.open(f"file://{tmp_path}/new/models", {}).probe()


def test_writing_into_a_missing_bucket_is_told_too(object_store: dict[str, str]) -> None:
    with pytest.raises(StorageAccessError, match="the bucket does not exist"):
        Store.open("s3://nobody-made-this-bucket/models", object_store).create("attempt.json", b"1")


@pytest.mark.parametrize(
    ("first_contact", "kind"), [(True, StorageAccessError), (False, StorageError)], ids=["first", "later"]
)
def test_what_once_worked_is_the_storages_fault(first_contact: bool, kind: type[FineTuneError]) -> None:
    denied = RuntimeError("Error performing PUT in 1ms - Server returned non-2xx status code: 403 Forbidden")
    assert type(refuse(denied, "s3://ml/models", "ledger.json", first_contact)) is kind


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://host/models", "scheme 'ftp' is unknown"),
        ("s3://", "the bucket's name is missing"),
        ("file://models", "needs an absolute path"),
    ],
)
def test_an_address_that_makes_no_sense(uri: str, message: str) -> None:
    with pytest.raises(StorageAccessError, match=message):
        locate(uri)


def test_a_claim_lies_below_its_mount() -> None:
    location = locate("pvc://data/models/spam", claims=Path("/claims"))
    assert (location.root, location.folder) == (Path("/claims/data"), Path("/claims/data/models/spam"))
