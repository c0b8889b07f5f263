"""The client: one GET a page, 429 waited for, everything else that fails ends the collection, as in Grove's own clients."""

import logging
import time

import requests
from grove.exceptions import RequestFailedException
from grove.types import AuditLogEntries

PAGE = 100
TIMEOUT_S = 60


class Client:
    def __init__(self, base_url: str, key: str, *, tenant: bool) -> None:
        self.logger = logging.getLogger(__name__)
        self._url = f"{base_url}/organization/audit_logs"
        self._headers = {"Accept": "application/json", "Authorization": f"Bearer {key}"}
        self._tenant = "true" if tenant else None

    def get_logs(self, since: str, until: str | None, cursor: str | None) -> AuditLogEntries:
        """A page of what happened from `since` up to `until` (Unix seconds). Raises RequestFailedException."""
        body = self._get(
            {
                "limit": str(PAGE),
                "effective_at[gte]": since,
                "effective_at[lt]": until,
                "tenant_only": self._tenant,
                "after": cursor,
            }
        )
        return AuditLogEntries(cursor=body["last_id"] if body["has_more"] else None, entries=body["data"])

    def _get(self, params: dict[str, str | None]) -> dict:
        while True:
            try:
                response = requests.get(self._url, headers=self._headers, params=params, timeout=TIMEOUT_S)
                response.raise_for_status()
                return response.json()
            except requests.exceptions.RequestException as error:
                if getattr(error.response, "status_code", None) != 429:
                    raise RequestFailedException(error) from error
                self.logger.warning("Rate-limit was exceeded during request")
                time.sleep(int(error.response.headers.get("Retry-After", "1")))
