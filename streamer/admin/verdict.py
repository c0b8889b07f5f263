"""Is everything all right? In sentences, from the rows of `/status`, for every place that says it."""

from typing import Any

STALE_INTERVALS = 3
SLACK_S = 5.0
RECHECK_SLACK_S = 3600.0
"""A recheck may take long, and after a standstill it begins late."""


def trouble(rows: dict[str, Any]) -> list[str]:
    """A sentence for everything that is held or stale."""
    running = rows.get("running", True)
    found = [] if running else ["the daemon is not running"]
    for row in rows["listings"]:
        name = f"{row['source']}/{row['listing']}"
        if row["state"] in ("held", "failing"):
            found.append(f"{name} is {row['state']}: {row['error']}")
        elif running:
            silent_s = rows["now"] - (row["last_success"] or rows["started_at"])
            if silent_s > STALE_INTERVALS * row["poll_interval"] + SLACK_S:
                found.append(f"{name} has not been read for {silent_s:.0f} s")
        if running and row.get("canary") and rows["now"] > row["canary_due"]:
            late_s = rows["now"] - row["canary_due"]
            found.append(f"{name} should have shown the canary {row['canary']} {late_s:.0f} s ago")
        for window, due in row.get("recheck_due", {}).items() if running else ():
            if rows["now"] - due > RECHECK_SLACK_S:
                why = f": {row['recheck_error']}" if row.get("recheck_error") else ""
                found.append(f"{name} should have walked the last {window} again {ago(rows['now'], due)} ago{why}")
    found += [
        f"sink {row['sink']} is {row['state']}: {row['error']}"
        for row in rows["sinks"]
        if row["state"] in ("held", "failing")
    ]
    if rows.get("journal", {}).get("full"):
        unopened = rows["journal"].get("error")
        found.append("the journal is full: intake waits" + (f" ({unopened})" if unopened else ""))
    standby = rows.get("standby", {})
    if standby.get("error"):
        found.append(f"the lease cannot be asked for: {standby['error']}")
    refused = rows.get("configuration", {}).get("refused")
    if refused:
        found.append(f"the configuration file was refused, the one before stays in force: {'; '.join(refused)}")
    return found


def verdict(rows: dict[str, Any]) -> str:
    """One sentence."""
    wrong = trouble(rows)
    if len(wrong) == 1:
        return "Something is wrong."
    if wrong:
        return f"{len(wrong)} things are wrong."
    standby = rows.get("standby", {"leading": True})
    if not rows["listings"] and not standby["leading"] and standby.get("since"):
        return "Standing by: " + (
            f"{standby['holder']} is at work." if standby["holder"] else "another process is at work."
        )
    if not rows["listings"] and rows.get("configuration", {}).get("sources") == 0 and rows.get("running", True):
        return "Everything is all right: the other replicas read every source."
    if not rows["listings"]:
        return "Starting: no listing has been opened yet."
    behind = [row for row in rows["listings"] if row["state"] != "live"]
    if behind:
        row = behind[0]
        return f"Nothing is wrong so far: {row['source']}/{row['listing']} is {progress(row)}."
    waiting = sum(row["backlog"] for row in rows["sinks"])
    if waiting:
        return f"Everything is all right: every listing is live, {waiting:,} {plural('delivery', waiting)} under way."
    return "Everything is all right: every listing is live and every sink has every event."


def progress(row: dict[str, Any]) -> str:
    """The state of a listing, with how far it has caught up."""
    whole = row.get("target", 0) - row.get("started_from", 0)
    if row["state"] == "catching up" and whole > 0:
        done = (row["watermark"] - row["started_from"]) / whole
        return f"catching up, {min(max(done, 0), 1):.0%}"
    state: str = row["state"]
    return state


def plural(word: str, count: int) -> str:
    if count == 1:
        return word
    return word[:-1] + "ies" if word.endswith("y") else word + "s"


def ago(now: float, then: float | None) -> str:
    """A rough distance, for reading: `12 s`, `3 min`, `2 h`, `5 d`."""
    return span(max(now - then, 0)) if then else "-"


def span(seconds: float) -> str:
    """As `ago`, of a duration."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def quiet(now: float, row: dict[str, Any]) -> str:
    """When the newest event was, against the usual rhythm of this hour."""
    if not row.get("last_event_at"):
        return "-"
    usual = row.get("usual_gap")
    return f"{ago(now, row['last_event_at'])} ago" + (f", usually every {span(usual)}" if usual else "")


def lateness(row: dict[str, Any]) -> str:
    seen = row.get("lateness")
    return f"{seen['p50']:.1f}/{seen['p99']:.1f}/{seen['max']:.1f} s" if seen else "-"
