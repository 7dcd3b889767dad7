"""No secret of an address is shown, logged or handed on; and what is none stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergallery.gallery.places import without_password
from evergallery.strings.redaction import is_secret, redacted, redacted_text, redacted_values

SECRET = "hunter2"
FORMS = {
    # Before the host.
    f"https://user:{SECRET}@host/a.png": "https://host/a.png",
    f"https://{SECRET}@host/a.png": "https://host/a.png",
    f"HTTPS://user:{SECRET}@host:8443/a.png": "HTTPS://host:8443/a.png",
    f"https://user:{SECRET}@[::1]:80/a.png": "https://[::1]:80/a.png",
    f"https://:{SECRET}@host/a.png": "https://host/a.png",
    f"https://user:x@{SECRET}@host/a.png": "https://host/a.png",
    f"https://user:x/{SECRET}@host/a.png": "https://host/a.png",
    f"https://user:x?{SECRET}@host/a.png": "https://host/a.png",
    f"https://user:x#{SECRET}@host/a.png": "https://host/a.png",
    f"https://user:%68unter2{SECRET}@host": "https://host",
    f"ftp://user:{SECRET}@host/a.png": "ftp://user@host/a.png",
    f"sftp://user:{SECRET}@host:22/a b.png": "sftp://user@host:22/a b.png",
    f"s3://KEY:{SECRET}@bucket/a.png": "s3://KEY@bucket/a.png",
    f"redis://:{SECRET}@host": "redis://host",
    f"git+https://user:{SECRET}@host/a": "git+https://user@host/a",
    f"jdbc:postgresql://user:{SECRET}@host/db": "jdbc:postgresql://user@host/db",
    # Signatures and keys.
    f"https://b.s3.amazonaws.com/a.png?X-Amz-Algorithm=H&X-Amz-Credential={SECRET}&X-Amz-Date=1&X-Amz-Signature={SECRET}":
        "https://b.s3.amazonaws.com/a.png?X-Amz-Algorithm=H&X-Amz-Date=1",
    f"https://b/a.png?X-Amz-Security-Token={SECRET}": "https://b/a.png",
    f"https://b/a.png?AWSAccessKeyId={SECRET}&Expires=1&Signature={SECRET}": "https://b/a.png?Expires=1",
    f"https://storage.googleapis.com/b/a?X-Goog-Signature={SECRET}&GoogleAccessId=me": "https://storage.googleapis.com/b/a?GoogleAccessId=me",
    f"https://acc.blob.core.windows.net/c/a?sv=2020&sr=b&sig={SECRET}": "https://acc.blob.core.windows.net/c/a?sv=2020&sr=b",
    f"https://cdn/a?Expires=1&Policy={SECRET}&Key-Pair-Id={SECRET}": "https://cdn/a?Expires=1",
    f"https://host/a?size=2&token={SECRET}": "https://host/a?size=2",
    f"https://host/a?access_token={SECRET}#page=2": "https://host/a#page=2",
    f"https://host/a?ACCESS%5FTOKEN={SECRET}": "https://host/a",
    f"https://host/a?api%255Fkey={SECRET}": "https://host/a",
    f"https://host/a?apiKey={SECRET};size=2": "https://host/a?size=2",
    f"https://host/a?size=2;client_secret={SECRET}": "https://host/a?size=2",
    f"https://host/a;jsessionid={SECRET}?size=2": "https://host/a?size=2",
    f"https://host/a#access_token={SECRET}&x=1": "https://host/a#x=1",
    f"https://host/a?rlkey={SECRET}&dl=1": "https://host/a?dl=1",
    f"https://host/a?Authorization={SECRET}": "https://host/a",
    f"https://host/a?password[]={SECRET}": "https://host/a",
    f"https://proxy/?url=https%3A%2F%2Fu%3A{SECRET}%40host%2Fa.png": "https://proxy/?url=https%3A%2F%2Fhost%2Fa.png",
    # Chains.
    f"zip://a.png::https://u:{SECRET}@host/b.zip?sig={SECRET}": "zip://a.png::https://host/b.zip",
    f"simplecache::s3://k:{SECRET}@bucket/a": "simplecache::s3://k@bucket/a",
    # No secrets.
    "https://host/a.png?size=2&author=me#top": None,
    "https://host/path@2x.png": None,
    "https://host:8080/path@2x.png": None,
    "https://host/a?monkey=1&keyboard=2&design=3": None,
    "s3://bucket/a b.png?versionId=3": None,
    "s3://bucket/token=1/a.png": None,
    "abfss://container@account.dfs.core.windows.net/a.png": None,
    "github://org:repo@main/a.png": None,
    "file:///data/a?token=b.png": None,
    "/data/user:pw@host/a.png": None,
    "memory://a/b.png": None,
    "https://": None,
    "https://host?": "https://host",
    "": None,
}  # fmt: skip


@pytest.mark.parametrize("address", FORMS)
def test_addresses(address: str) -> None:
    expected = FORMS[address]
    assert redacted(address) == (address if expected is None else expected)
    assert redacted(redacted(address)) == redacted(address)
    assert SECRET not in redacted_text(f"it lies at {address}, said the server") or " " in address


STORES = {
    f"postgresql://user:{SECRET}@host:5432/db?gallery=a": "postgresql://user@host:5432/db?gallery=a",
    f"postgresql://user@host/db?password={SECRET}&sslmode=require": "postgresql://user@host/db?sslmode=require",
    f"postgresql://user@host/db?PassWord={SECRET}": "postgresql://user@host/db",
    f"postgresql://user@host/db?pass%77ord={SECRET}": "postgresql://user@host/db",
    f"postgresql://user@host/db?sslpassword={SECRET}&sslkey=/k.pem": "postgresql://user@host/db?sslkey=/k.pem",
    f"postgresql://user@host/db?options=-c%20x.y%3D{SECRET}": "postgresql://user@host/db",
    f"postgresql://user@host/db?options=project%3Da%3Bpassword%3D{SECRET}": "postgresql://user@host/db",
    f"postgresql://user@host/db?oauth_client_secret={SECRET}": "postgresql://user@host/db",
    f"postgresql://user@host/db?scram_client_key={SECRET}&require_auth=scram-sha-256":
        "postgresql://user@host/db?require_auth=scram-sha-256",
    f"postgresql://user:{SECRET}@a:1,b:2/db": "postgresql://user@a:1,b:2/db",
    f"postgresql:///db?host=/run&user=me&password={SECRET}": "postgresql:///db?host=/run&user=me",
    f"qdrant://host:6333/c?api_key={SECRET}": "qdrant://host:6333/c",
    f"qdrant://host:6333/c?api-key={SECRET}": "qdrant://host:6333/c",
    f"qdrant://host:6333/c?token={SECRET}": "qdrant://host:6333/c",
    f"qdrant+https://{SECRET}@host/c": "qdrant+https://host/c",
    f"qdrant://key:{SECRET}@host/c": "qdrant://host/c",
    "postgresql://user@host/db?passfile=/home/me/.pgpass": None,
    "/data/gallery": None,
    "gallery": None,
}  # fmt: skip


@pytest.mark.parametrize("place", STORES)
def test_galleries(place: str) -> None:
    expected = STORES[place]
    assert without_password(place) == (place if expected is None else expected)
    assert SECRET not in redacted_text(f"{place} does not answer")


def test_whatever_is_said_and_written() -> None:
    address = f"https://u:{SECRET}@host/a.png?sig={SECRET}"
    said = f"403, message='Forbidden', url='{address}': check ({address}), <{address}>"
    assert redacted_text(said) == said.replace(address, "https://host/a.png")
    value = {"a": [address, 1, None, {"b": (address,)}], address: True}
    assert SECRET not in str(redacted_values(value))
    assert redacted_values({"a": [1, 2.5, None, "text"]}) == {"a": [1, 2.5, None, "text"]}


def test_names() -> None:
    for name in (
        "token",
        "apiToken",
        "X-Amz-Signature",
        "sig",
        "client-secret",
        "sessionId",
        "idToken",
        "refresh_token",
        "pwd",
    ):
        assert is_secret(name), name
    for name in ("author", "monkey", "design", "size", "compass", "passenger", "tokyo", "", "format"):
        assert not is_secret(name), name


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_text_breaks_it(first: str, second: str) -> None:
    for address in (f"https://{first}", f"{first}://{second}", f"s3://{first}@{second}?{first}={second}", first):
        assert isinstance(redacted(address), str)
        redacted_text(address)


@given(st.text("abc:/?#@;&=%[]", max_size=25))
def test_no_password_of_the_web_is_left(between: str) -> None:
    assert "SECRET" not in redacted(f"https://user:SECRET@{between.replace('@', '')}")
