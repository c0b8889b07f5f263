"""OpenAI's audit log for HashiCorp Grove: the shape of Grove's own connectors for APIs that are newest first with a cursor.

Grove does the rest: the lock, the pointer, the window of an unfinished collection, its kind of deduplication, the output.

| key of the document | means |
|---|---|
| `key`, `base_url` | the admin key, and where the API is |
| `operation` | `all`: the organization's listing; `tenant`: the tenant's |
| `since` | Unix second at which the first collection begins; Grove's own connectors take a week |
| `delay` | seconds; what is younger is left for the next collection, as Grove's connector for GitHub does. Default: 0 |
"""

import time

from grove.connectors import BaseConnector
from grove.constants import REVERSE_CHRONOLOGICAL
from grove.exceptions import NotFoundException

from grove_openai.api import Client

WEEK_S = 7 * 86_400


class Connector(BaseConnector):
    CONNECTOR = "openai_audit_logs"
    POINTER_PATH = "effective_at"
    LOG_ORDER = REVERSE_CHRONOLOGICAL

    def collect(self):
        """All events from the pointer on, page by page; the first time those since `since`."""
        client = Client(self.configuration.base_url, self.key, tenant=self.operation == "tenant")
        try:
            _ = self.pointer
        except NotFoundException:
            self.pointer = str(getattr(self.configuration, "since", int(time.time()) - WEEK_S))
        delay_s = int(getattr(self.configuration, "delay", 0))
        until = str(int(time.time()) - delay_s) if delay_s else None
        cursor = None
        while True:
            log = client.get_logs(since=self.pointer, until=until, cursor=cursor)
            self.save(log.entries)
            cursor = log.cursor
            if cursor is None:
                break
