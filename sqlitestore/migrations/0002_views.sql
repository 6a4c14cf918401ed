-- For people. Times are ISO text in UTC, durations seconds, money dollars. What
-- programs need is in the tables.

CREATE VIEW v_tasks AS
SELECT t.id, t.state, nullif(t.outcome, '') AS outcome,
    CASE WHEN t.is_chain THEN 'chain' WHEN t.chain IS NOT NULL THEN 'step' ELSE 'task' END AS kind,
    t.owner,
    q.request ->> '$.task.prompt' AS prompt,
    (SELECT group_concat(value, ', ') FROM json_each(t.tags)) AS tags,
    t.priority,
    q.request ->> '$.task.overrides.model' AS model,
    t.cost / 1e6 AS dollars,
    t.estimated = 1 AS estimated,
    t.attempts, t.retries, t.crashes, t.rejections,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted / 1e9, 'unixepoch') AS submitted,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.first_started / 1e9, 'unixepoch') AS first_started,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.started / 1e9, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.ended / 1e9, 'unixepoch') AS ended,
    (t.first_started - t.submitted) / 1e9 AS queued_seconds,
    (t.ended - t.started) / 1e9 AS ran_seconds,
    (t.ended - t.submitted) / 1e9 AS total_seconds,
    nullif(t.slot, '') AS slot,
    nullif(t.session, '') AS session,
    q.request ->> '$.task.parent' AS parent,
    t.idempotency_key,
    r.result ->> '$.output' AS output,
    r.result ->> '$.failure.message' AS failure
FROM tasks t JOIN requests q ON q.task = t.seq LEFT JOIN results r ON r.task = t.seq;

-- What a chain has cost is what its steps have.
CREATE VIEW v_chains AS
SELECT t.id, t.state, nullif(t.outcome, '') AS outcome, t.owner,
    (SELECT group_concat(value, ', ') FROM json_each(t.tags)) AS tags,
    json_array_length(q.request, '$.chain.steps') AS steps,
    (SELECT group_concat(value ->> '$.name', ', ') FROM json_each(q.request, '$.chain.steps')) AS step_names,
    (SELECT count(*) FROM tasks s WHERE s.chain = t.id) AS step_tasks,
    (SELECT count(*) FROM tasks s WHERE s.chain = t.id AND s.state = 'completed') AS step_tasks_completed,
    (t.cost + (SELECT ifnull(sum(s.cost), 0) FROM tasks s WHERE s.chain = t.id)) / 1e6 AS dollars,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted / 1e9, 'unixepoch') AS submitted,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.started / 1e9, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.ended / 1e9, 'unixepoch') AS ended,
    (t.ended - t.submitted) / 1e9 AS total_seconds,
    r.result ->> '$.failure.message' AS failure
FROM tasks t JOIN requests q ON q.task = t.seq LEFT JOIN results r ON r.task = t.seq
WHERE t.is_chain;

-- The tasks of steps. One that ran for each item of a list, or had to be
-- recovered, has several.
CREATE VIEW v_steps AS
SELECT t.chain, substr(t.id, length(t.chain) + 2) AS step, v.*
FROM tasks t JOIN v_tasks v ON v.id = t.id
WHERE t.chain IS NOT NULL;

CREATE INDEX tasks_chain ON tasks (chain, id) WHERE chain IS NOT NULL;

CREATE VIEW v_attempts AS
SELECT t.id AS task, c.fence,
    c.attempt ->> '$.outcome' AS outcome,
    c.attempt ->> '$.cost_microdollars' / 1e6 AS dollars,
    ifnull(c.attempt ->> '$.cost_estimated', 0) AS estimated,
    ifnull(c.attempt ->> '$.late', 0) AS late,
    c.attempt ->> '$.slot_id' AS slot,
    c.attempt ->> '$.holder' AS instance,
    c.attempt ->> '$.session_id' AS session,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.attempt ->> '$.started') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.attempt ->> '$.ended') AS ended,
    c.attempt ->> '$.message' AS message
FROM claims c JOIN tasks t ON t.seq = c.task
WHERE c.attempt IS NOT NULL;

-- Who runs what, where, and since when. A task that was cancelled is here until
-- its holder has said what it cost.
CREATE VIEW v_running AS
SELECT t.id, t.state, t.is_chain = 1 AS chain,
    t.claim_holder AS instance, nullif(t.claim_slot, '') AS slot, nullif(t.claim_session, '') AS session,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.started / 1e9, 'unixepoch') AS since,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.claim_lease / 1e9, 'unixepoch') AS lease_until,
    t.claim_reserved / 1e6 AS reserved_dollars,
    t.claim_last_cost / 1e6 AS dollars_so_far,
    i.machine, i.pid,
    q.request ->> '$.task.prompt' AS prompt
FROM tasks t INDEXED BY tasks_claimed JOIN requests q ON q.task = t.seq LEFT JOIN instances i ON i.id = t.claim_holder
WHERE t.claim_fence IS NOT NULL;

-- What waits, in rank, and for what. Whether there is a slot, and the money, is
-- not known here.
CREATE VIEW v_queue AS
SELECT row_number() OVER (PARTITION BY t.is_chain ORDER BY t.priority DESC, t.id) AS rank,
    t.id, t.is_chain = 1 AS chain, t.priority,
    CASE t.place
        WHEN 1 THEN 'its earliest start'
        WHEN 2 THEN 'another task of its session'
        ELSE CASE
            WHEN t.is_chain THEN 'somebody who runs chains'
            WHEN q.request ->> '$.task.slot' <> '' THEN 'slot ' || (q.request ->> '$.task.slot')
            WHEN q.request ->> '$.task.role' <> '' THEN 'a slot with role ' || (q.request ->> '$.task.role')
            ELSE 'a slot' END
    END AS waits_for,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.not_before / 1e9, 'unixepoch') AS not_before,
    strftime('%Y-%m-%dT%H:%M:%fZ', t.submitted / 1e9, 'unixepoch') AS submitted,
    t.attempts,
    (SELECT group_concat(value, ', ') FROM json_each(t.tags)) AS tags,
    q.request ->> '$.task.prompt' AS prompt
FROM tasks t INDEXED BY tasks_live JOIN requests q ON q.task = t.seq
WHERE t.state = 'pending' AND t.state IN ('pending', 'running', 'pending_review')
ORDER BY t.is_chain, rank;

CREATE VIEW v_spend_by_day AS
SELECT strftime('%Y-%m-%d', at / 1e9, 'unixepoch') AS day,
    sum(attempts) AS attempts,
    sum(cost) / 1e6 AS dollars
FROM ledger
GROUP BY day
ORDER BY day DESC;

CREATE VIEW v_slots AS
SELECT s.instance, s.id, nullif(s.name, '') AS name, nullif(s.role, '') AS role, nullif(s.description, '') AS description,
    s.state, nullif(s.pid, 0) AS pid, i.machine,
    strftime('%Y-%m-%dT%H:%M:%fZ', s.updated / 1e9, 'unixepoch') AS updated
FROM slots s LEFT JOIN instances i ON i.id = s.instance;

CREATE VIEW v_instances AS
SELECT i.id, i.machine, i.pid, i.process,
    strftime('%Y-%m-%dT%H:%M:%fZ', i.started / 1e9, 'unixepoch') AS started,
    strftime('%Y-%m-%dT%H:%M:%fZ', i.seen / 1e9, 'unixepoch') AS seen,
    (SELECT count(*) FROM slots s WHERE s.instance = i.id) AS slots,
    (SELECT count(*) FROM tasks t INDEXED BY tasks_claimed WHERE t.claim_fence IS NOT NULL AND t.claim_holder = i.id) AS running
FROM instances i;

CREATE VIEW v_messages AS
SELECT address AS "to", sender AS "from", content, strftime('%Y-%m-%dT%H:%M:%fZ', sent / 1e9, 'unixepoch') AS sent, id
FROM messages
ORDER BY address, id;

CREATE VIEW v_context AS SELECT key, value FROM context ORDER BY key;

-- What waits for somebody to approve or reject it.
CREATE VIEW v_reviews AS
SELECT v.id, v.owner, v.prompt, v.output, v.dollars, v.rejections, nullif(t.feedback, '') AS last_feedback, v.ended AS waits_since, v.session
FROM tasks t INDEXED BY tasks_live JOIN v_tasks v ON v.id = t.id
WHERE t.state = 'pending_review' AND t.state IN ('pending', 'running', 'pending_review')
ORDER BY t.id;
