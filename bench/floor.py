"""The floor: fetch, decode and re-encode pages with aiohttp and msgspec, nothing else.

`python -m bench.floor BASE_URL EVENTS REQUESTS`: so many requests at once; as many walkers a listing follow the cursor, each through its share of
the time range, and wait for their turns.
"""

import asyncio
import sys
import time
from typing import Any

import aiohttp
import msgspec


class Page(msgspec.Struct):
    data: list[dict[str, Any]]
    has_more: bool
    last_id: str | None = None


decode = msgspec.json.Decoder(Page).decode
encode = msgspec.json.Encoder().encode


async def walk(
    session: aiohttp.ClientSession, turns: asyncio.Semaphore, url: str, start: int, end: int, tenant: str
) -> int:
    count, after = 0, ""
    while True:
        query = f"?limit=100&effective_at[gte]={start}&effective_at[lt]={end}{tenant}" + (
            f"&after={after}" if after else ""
        )
        async with turns, session.get(url + query) as answer:
            page = decode(await answer.read())
        for event in page.data:
            encode(event)
        count += len(page.data)
        if not page.has_more:
            return count
        after = page.last_id or ""


async def main(base_url: str, events: int, requests: int) -> None:
    now = int(time.time()) + 1
    begin, share = now - 31 * 86_400, 31 * 86_400 // requests + 1
    turns = asyncio.Semaphore(requests)
    headers = {"Authorization": "Bearer sk-admin-simulated"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{base_url}/organization/audit_logs"
        counts = await asyncio.gather(
            *(
                walk(session, turns, url, begin + i * share, begin + (i + 1) * share, tenant)
                for i in range(requests)
                for tenant in ("", "&tenant_only=true")
            )
        )
    if sum(counts) != events:
        sys.exit(f"{sum(counts)} events instead of {events}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
