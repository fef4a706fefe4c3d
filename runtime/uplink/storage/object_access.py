"""Reaching a bucket: which stores there are, in how long a request fails, and its errors as ours.

obstore's errors become `DepotError`, and `DepotSetupError` where no waiting mends them: unknown or insufficient
credentials, a wrong region, an option that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from runtime.uplink.storage.depot import DepotError, DepotSetupError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az", "azure", "abfs", "abfss")
CONNECT_TIMEOUT = timedelta(seconds=5)
REQUEST_TIMEOUT = timedelta(seconds=10)
#: Vehicles wait 15 s for an answer; a request that still fails then is told to them as refused storage.
RETRY_TIMEOUT = timedelta(seconds=10)
MAX_RETRIES = 4
#: Refusals that pass by themselves: a clock that is not set yet, a role's token that is just being renewed.
PASSING_REFUSALS = ("RequestTimeTooSkewed", "ExpiredToken", "TokenRefreshRequired")
#: How obstore says that the bucket lies in another region.
WRONG_REGION = "incorrectly configured region"
MAX_ERROR_LENGTH = 500
ENDPOINT = re.compile(r"https?://[^\s/?#]+[^\s?#]*")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Errors of the store as OSErrors. FileNotFoundError and HashMismatchError pass."""
    from obstore import exceptions

    lasting = (
        exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.NotSupportedError,
        exceptions.UnknownConfigurationKeyError, exceptions.InvalidPathError,
    )  # fmt: skip
    try:
        yield
    except exceptions.BaseError as error:
        text = " ".join(str(error).split())
        is_lasting = isinstance(error, lasting) and not any(word in text for word in PASSING_REFUSALS)
        kind = DepotSetupError if is_lasting or WRONG_REGION in text else DepotError
        raise kind(f"{what}: {type(error).__name__}: {text[:MAX_ERROR_LENGTH]}") from error
    except ValueError as error:
        raise DepotSetupError(f"{what}: {str(error)[:300]}") from error


def open_object_store(url: str, options: Mapping[str, Any]) -> ObjectStore:
    """The store of a URL. Raises DepotSetupError for a scheme or an option that is not known."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise DepotSetupError("object storage needs obstore (fix: pip install 'shadowrig[fleet]')") from error
    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise DepotSetupError(f"{url} is no object storage (fix: s3://BUCKET/PREFIX, gs://… or az://…)")
    checked = {"checksum_algorithm": "sha256"} if scheme == "s3" else {}
    endpoint = str(options.get("endpoint", ""))
    if endpoint and not ENDPOINT.fullmatch(endpoint):  # obstore would panic at the first request
        raise DepotSetupError(f"objects.options.endpoint is {endpoint!r}: no address (fix: https://HOST)")
    client: Any = {
        "connect_timeout": CONNECT_TIMEOUT,
        "timeout": REQUEST_TIMEOUT,
        "allow_http": endpoint[:5] == "http:",
    }
    retry: Any = {"max_retries": MAX_RETRIES, "retry_timeout": RETRY_TIMEOUT}
    config: Any = {**checked, **options}
    with translated(f"opening {url}"):
        return from_url(url, config=config, client_options=client, retry_config=retry)
