-- Whether the holder of a claim has been about to ask its agent. Of claims from
-- before it is not known, and they may have cost something.
ALTER TABLE tasks ADD COLUMN claim_asked INTEGER;
UPDATE tasks SET claim_asked = 1 WHERE claim_fence IS NOT NULL;

-- The part of a cost that nobody has seen: what was reserved, for attempts that
-- were cut off before they told any figure. It is not in allowances.spent.
ALTER TABLE tasks ADD COLUMN assumed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN assumed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN assumed INTEGER NOT NULL DEFAULT 0;

DROP INDEX ledger_at;
CREATE INDEX ledger_at ON ledger (at, cost, attempts, assumed);

DROP TRIGGER ledger_entered;
CREATE TRIGGER ledger_entered AFTER INSERT ON ledger
BEGIN
    UPDATE totals SET attempts = attempts + NEW.attempts,
        spent = iif(spent > 9223372036854775807 - NEW.cost, 9223372036854775807, spent + NEW.cost),
        assumed = iif(assumed > 9223372036854775807 - NEW.assumed, 9223372036854775807, assumed + NEW.assumed);
END;

DROP VIEW v_attempts;
CREATE VIEW v_attempts AS
SELECT t.id AS task, c.fence,
    c.attempt ->> '$.outcome' AS outcome,
    c.attempt ->> '$.cost_microdollars' / 1e6 AS dollars,
    ifnull(c.attempt ->> '$.cost_estimated', 0) AS estimated,
    ifnull(c.attempt ->> '$.cost_assumed_microdollars', 0) / 1e6 AS assumed_dollars,
    ifnull(c.attempt ->> '$.late', 0) AS late,
    c.attempt ->> '$.slot_id' AS slot,
    c.attempt ->> '$.holder' AS instance,
    c.attempt ->> '$.session_id' AS session,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.attempt ->> '$.started') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.attempt ->> '$.ended') AS ended,
    c.attempt ->> '$.message' AS message
FROM claims c JOIN tasks t ON t.seq = c.task
WHERE c.attempt IS NOT NULL;

DROP VIEW v_running;
CREATE VIEW v_running AS
SELECT t.id, t.state, t.is_chain = 1 AS chain,
    t.claim_holder AS instance, nullif(t.claim_slot, '') AS slot, nullif(t.claim_session, '') AS session,
    t.claim_asked = 1 AS asked,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.started / 1e9, 'unixepoch') AS since,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.claim_lease / 1e9, 'unixepoch') AS lease_until,
    t.claim_reserved / 1e6 AS reserved_dollars,
    t.claim_last_cost / 1e6 AS dollars_so_far,
    i.machine, i.pid,
    q.request ->> '$.task.prompt' AS prompt
FROM tasks t INDEXED BY tasks_claimed JOIN requests q ON q.task = t.seq LEFT JOIN instances i ON i.id = t.claim_holder
WHERE t.claim_fence IS NOT NULL;

DROP VIEW v_spend_by_day;
CREATE VIEW v_spend_by_day AS
SELECT strftime('%Y-%m-%d', at / 1e9, 'unixepoch') AS day,
    sum(attempts) AS attempts,
    sum(cost) / 1e6 AS dollars,
    sum(assumed) / 1e6 AS assumed_dollars
FROM ledger
GROUP BY day
ORDER BY day DESC;
