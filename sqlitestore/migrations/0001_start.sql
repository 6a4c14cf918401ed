-- Times are nanoseconds since 1970 UTC, money is microdollars, durations in JSON
-- are nanoseconds. A NULL time is one that has not come.

CREATE TABLE tasks (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    state           TEXT NOT NULL,
    outcome         TEXT NOT NULL DEFAULT '',
    version         INTEGER NOT NULL,
    is_chain        INTEGER NOT NULL,
    chain           TEXT,               -- whose step it runs
    owner           TEXT NOT NULL,
    idempotency_key TEXT,
    priority        INTEGER NOT NULL,
    tags            TEXT,               -- a JSON list
    allowance       TEXT,
    launch_key      TEXT NOT NULL,
    lane            TEXT NOT NULL,

    submitted       INTEGER,
    not_before      INTEGER,
    first_started   INTEGER,
    started         INTEGER,
    ended           INTEGER,

    fence           INTEGER NOT NULL DEFAULT 0,
    attempts        INTEGER NOT NULL DEFAULT 0,
    retries         INTEGER NOT NULL DEFAULT 0,
    crashes         INTEGER NOT NULL DEFAULT 0,
    rejections      INTEGER NOT NULL DEFAULT 0,
    feedback        TEXT NOT NULL DEFAULT '',
    cost            INTEGER NOT NULL DEFAULT 0,
    estimated       INTEGER NOT NULL DEFAULT 0,
    session         TEXT NOT NULL DEFAULT '',
    resume_session  TEXT NOT NULL DEFAULT '',
    slot            TEXT NOT NULL DEFAULT '',

    -- The claim, if there is one: else all of these are NULL.
    claim_fence     INTEGER,
    claim_holder    TEXT,
    claim_slot      TEXT,
    claim_session   TEXT,
    claim_lease     INTEGER,
    claim_reserved  INTEGER,
    claim_last_cost INTEGER,

    -- Where a pending task waits: in its line (0), for its time (1), or for its
    -- lane (2). NULL when it is not pending.
    place           INTEGER,
    line            TEXT,
    passed          INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX tasks_key ON tasks (owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_line ON tasks (line, priority DESC, id) WHERE place = 0;
CREATE INDEX tasks_time ON tasks (not_before) WHERE place = 1;
CREATE INDEX tasks_held ON tasks (lane, line, priority DESC, id) WHERE place = 2;
CREATE INDEX tasks_claimed ON tasks (lane) WHERE claim_fence IS NOT NULL;
CREATE INDEX tasks_live ON tasks (state, id) WHERE state IN ('pending', 'running', 'pending_review');
CREATE INDEX tasks_ended ON tasks (ended) WHERE state IN ('completed', 'failed', 'cancelled');

-- What was asked for, and what came of it, as JSON.
CREATE TABLE requests (task INTEGER PRIMARY KEY, request TEXT NOT NULL) STRICT;
CREATE TABLE results (task INTEGER PRIMARY KEY, result TEXT NOT NULL) STRICT;

CREATE TABLE tags (
    tag  TEXT NOT NULL,
    task TEXT NOT NULL,
    PRIMARY KEY (tag, task)
) STRICT, WITHOUT ROWID;

-- Every claim. One that is open holds what it has reserved; one with a record is
-- an attempt.
CREATE TABLE claims (
    task     INTEGER NOT NULL,
    fence    INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    open     INTEGER NOT NULL,
    attempt  TEXT,
    PRIMARY KEY (task, fence)
) STRICT, WITHOUT ROWID;

CREATE INDEX claims_open ON claims (reserved) WHERE open = 1;

CREATE TABLE allowances (
    id        TEXT PRIMARY KEY,
    allowance INTEGER NOT NULL,
    spent     INTEGER NOT NULL DEFAULT 0,
    tasks     INTEGER NOT NULL DEFAULT 0,   -- that have it
    waiting   INTEGER NOT NULL DEFAULT 0    -- of them
) STRICT;

-- What was spent. Old entries are merged into one an hour, the money stays.
CREATE TABLE ledger (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    cost     INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    task     TEXT,
    fence    INTEGER,
    why      TEXT
) STRICT;

CREATE INDEX ledger_at ON ledger (at, cost, attempts);

-- Sums that would take long to add up, and how often entries were merged.
CREATE TABLE totals (spent INTEGER NOT NULL, attempts INTEGER NOT NULL, merges INTEGER NOT NULL) STRICT;
INSERT INTO totals VALUES (0, 0, 0);
CREATE TABLE counts (state TEXT PRIMARY KEY, tasks INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counts VALUES ('pending', 0), ('running', 0), ('pending_review', 0), ('completed', 0), ('failed', 0), ('cancelled', 0);

-- The latest changes of tasks' states, for those who watch.
CREATE TABLE changes (
    seq      INTEGER PRIMARY KEY AUTOINCREMENT,
    task     TEXT NOT NULL,
    state    TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    slot     TEXT NOT NULL,
    is_chain INTEGER NOT NULL
) STRICT;

CREATE TABLE instances (
    id      TEXT PRIMARY KEY,
    machine TEXT NOT NULL,
    pid     INTEGER NOT NULL,
    process TEXT NOT NULL,
    started INTEGER,
    seen    INTEGER
) STRICT;

CREATE TABLE slots (
    instance    TEXT NOT NULL,
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    role        TEXT NOT NULL,
    description TEXT NOT NULL,
    state       TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    updated     INTEGER,
    PRIMARY KEY (instance, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE context (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE messages (
    id      TEXT PRIMARY KEY,
    sender  TEXT NOT NULL,
    address TEXT NOT NULL,
    content TEXT NOT NULL,
    sent    INTEGER
) STRICT;

CREATE INDEX messages_address ON messages (address, id);

-- A task that has ended stays as it ended.
CREATE TRIGGER tasks_final BEFORE UPDATE OF state ON tasks
WHEN OLD.state IN ('completed', 'failed', 'cancelled') AND NEW.state <> OLD.state
BEGIN
    SELECT RAISE(ABORT, 'a task that has ended cannot change its state');
END;

CREATE TRIGGER tasks_created AFTER INSERT ON tasks
BEGIN
    UPDATE counts SET tasks = tasks + 1 WHERE state = NEW.state;
    UPDATE allowances SET tasks = tasks + 1, waiting = waiting + 1 WHERE id = NEW.allowance;
    INSERT INTO changes (task, state, outcome, slot, is_chain) VALUES (NEW.id, NEW.state, '', NEW.slot, NEW.is_chain);
END;

CREATE TRIGGER tasks_moved AFTER UPDATE OF state ON tasks
WHEN NEW.state <> OLD.state
BEGIN
    UPDATE counts SET tasks = tasks - 1 WHERE state = OLD.state;
    UPDATE counts SET tasks = tasks + 1 WHERE state = NEW.state;
    UPDATE allowances SET waiting = waiting + (NEW.state = 'pending') - (OLD.state = 'pending') WHERE id = NEW.allowance;
    INSERT INTO changes (task, state, outcome, slot, is_chain) VALUES (NEW.id, NEW.state,
        iif(NEW.state IN ('completed', 'failed', 'cancelled'), NEW.outcome, ''), NEW.slot, NEW.is_chain);
END;

CREATE TRIGGER tasks_dropped AFTER DELETE ON tasks
BEGIN
    UPDATE counts SET tasks = tasks - 1 WHERE state = OLD.state;
    UPDATE allowances SET tasks = tasks - 1 WHERE id = OLD.allowance;
    DELETE FROM allowances WHERE id = OLD.allowance AND tasks = 0;
    DELETE FROM tags WHERE task = OLD.id AND tag IN (SELECT value FROM json_each(OLD.tags));
    DELETE FROM requests WHERE task = OLD.seq;
    DELETE FROM results WHERE task = OLD.seq;
    DELETE FROM claims WHERE task = OLD.seq;
END;

-- The sum stops at the largest amount.
CREATE TRIGGER ledger_entered AFTER INSERT ON ledger
BEGIN
    UPDATE totals SET attempts = attempts + NEW.attempts,
        spent = iif(spent > 9223372036854775807 - NEW.cost, 9223372036854775807, spent + NEW.cost);
END;
