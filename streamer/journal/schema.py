"""The tables, as forward-only migrations: `PRAGMA user_version` counts how many of them a file has seen."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL);
    INSERT INTO head VALUES (1, 0);
    CREATE TABLE sources (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE progress (
      source INTEGER NOT NULL REFERENCES sources, listing TEXT NOT NULL, watermark INTEGER NOT NULL, rechecked TEXT NOT NULL,
      PRIMARY KEY (source, listing)
    ) WITHOUT ROWID;
    CREATE TABLE blocks (
      last_seq INTEGER PRIMARY KEY, count INTEGER NOT NULL, source INTEGER NOT NULL REFERENCES sources, listing TEXT NOT NULL,
      appended_at REAL NOT NULL, size INTEGER NOT NULL, body BLOB NOT NULL
    );
    CREATE TABLE ids (
      source INTEGER NOT NULL REFERENCES sources, effective_at INTEGER NOT NULL, id TEXT NOT NULL, listing TEXT NOT NULL,
      seq INTEGER NOT NULL, PRIMARY KEY (source, effective_at, id)
    ) WITHOUT ROWID;
    CREATE TABLE sinks (name TEXT PRIMARY KEY, acked INTEGER NOT NULL, bookmark TEXT) WITHOUT ROWID;
    CREATE TABLE dead_letters (
      number INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, seq INTEGER NOT NULL, id TEXT NOT NULL, type TEXT NOT NULL,
      reason TEXT NOT NULL, attempts INTEGER NOT NULL, at REAL NOT NULL, requeued INTEGER NOT NULL DEFAULT 0, line BLOB NOT NULL
    );
    CREATE INDEX dead_letters_of_sink ON dead_letters (sink, requeued, number);
    CREATE TABLE replays (
      number INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, after_seq INTEGER NOT NULL, until_seq INTEGER NOT NULL,
      since REAL NOT NULL DEFAULT 0, before REAL NOT NULL DEFAULT 9e18
    );
    """,
    """
    CREATE TABLE repairs (
      number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, listing TEXT NOT NULL, since INTEGER NOT NULL,
      before INTEGER NOT NULL
    );
    CREATE TABLE forgotten (
      source INTEGER NOT NULL REFERENCES sources, listing TEXT NOT NULL, before INTEGER NOT NULL, PRIMARY KEY (source, listing)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE progress ADD COLUMN begin INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sinks ADD COLUMN entered_as TEXT NOT NULL DEFAULT '';
    UPDATE sinks SET entered_as = name;
    """,
    # Blocks are compressed from here on: the tables stay, but who does not know that must not read them.
    "",
)
VERSION = len(MIGRATIONS)

PRAGMAS = """
PRAGMA page_size = 8192;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA busy_timeout = 10000;
PRAGMA foreign_keys = ON;
PRAGMA wal_autocheckpoint = 500;
PRAGMA journal_size_limit = 67108864;
PRAGMA cache_size = -2048;
PRAGMA temp_store = MEMORY;
"""
"""4 MiB of log before a checkpoint, so that closing has little left to do; at most 64 MiB kept; 2 MiB of page cache."""

PROGRESS_MOVES = "ON CONFLICT DO UPDATE SET watermark = excluded.watermark, rechecked = excluded.rechecked"
KNOWN = "known"
APPEND = f"""
CREATE TEMP VIEW appends AS
  SELECT NULL source, NULL listing, NULL watermark, NULL rechecked, NULL begin, NULL last_seq, NULL count, NULL keys, NULL appended_at, NULL size, NULL body;
CREATE TEMP TRIGGER append INSTEAD OF INSERT ON appends BEGIN
  INSERT OR IGNORE INTO ids SELECT NEW.source, e.value ->> 0, e.value ->> 1, NEW.listing, NEW.last_seq - NEW.count + e.key + 1 FROM json_each(NEW.keys) e;
  SELECT RAISE(ABORT, '{KNOWN}') WHERE changes() <> NEW.count;
  UPDATE head SET seq = NEW.last_seq;
  INSERT INTO blocks VALUES (NEW.last_seq, NEW.count, NEW.source, NEW.listing, NEW.appended_at, NEW.size, NEW.body);
  INSERT INTO progress VALUES (NEW.source, NEW.listing, NEW.watermark, NEW.rechecked, NEW.begin) {PROGRESS_MOVES};
END;
"""
"""One append is one statement, for each hands over the interpreter's lock: so it is written as a trigger, of the connection alone. It fails with
KNOWN, and leaves nothing, where an id of the block is known or comes twice."""
