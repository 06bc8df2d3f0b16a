-- One user bucket becomes one finished shard. Names in curly brackets are filled by gather.py from the schema.
-- `bucket` holds the rows that scatter kept, each with its `row` (file and place) and `content` (equal for exact copies).
-- Order everywhere: (user, time, md5 of the item id): total, and no outcome enters it, or ties would leak into rank metrics.

-- 1. Rows that share user, item and time. They are few, and only they can be copies, or must be merged.
CREATE TEMP TABLE twins AS SELECT "user", item, time FROM bucket GROUP BY ALL HAVING count(*) > 1;

CREATE TEMP TABLE twin_rows AS
SELECT row, row_number() OVER (PARTITION BY "user", item, time, content ORDER BY row) AS copy
FROM bucket SEMI JOIN twins USING ("user", item, time);

-- 2. Rules that need more than one row, and the tables beside the log. The first that holds drops the row.
CREATE TEMP TABLE bots AS
SELECT DISTINCT "user" FROM bucket GROUP BY "user", time // 86400000 HAVING count(*) > {max_events_per_day}
UNION SELECT "user" FROM known_bots;              -- before new files were appended

CREATE TEMP TABLE dropped AS
SELECT row, reason FROM (
  SELECT row, CASE
      WHEN row IN (SELECT row FROM twin_rows WHERE copy > 1) THEN 'duplicate'
      WHEN {drop_unknown_items} AND item NOT IN (SELECT item FROM known_items) THEN 'unknown_item'
      WHEN {drop_unknown_users} AND "user" NOT IN (SELECT "user" FROM known_users) THEN 'unknown_user'
      WHEN "user" IN (FROM bots) THEN 'bot'
    END AS reason
  FROM bucket)
WHERE reason IS NOT NULL;

-- 3. Twins that are no copies are one event: binary outcomes by max, durations by sum, everything else from the first line.
CREATE TEMP TABLE merged AS
SELECT (SELECT count(*) FROM bucket) + (SELECT count(*) FROM earlier) + row_number() OVER (ORDER BY min(row)) - 1 AS id,
       "user", item, time, {merge}
FROM bucket WHERE row IN (SELECT row FROM twin_rows) AND row NOT IN (SELECT row FROM dropped) GROUP BY "user", item, time;

CREATE TEMP VIEW events AS             -- `id`: the row's place in the table of all rows: the bucket's, `earlier`, `merged`
SELECT id, "user", item, time, {columns} FROM bucket
WHERE row NOT IN (SELECT row FROM twin_rows) AND row NOT IN (SELECT row FROM dropped)
UNION ALL BY NAME SELECT * FROM merged
UNION ALL BY NAME SELECT * FROM earlier;          -- what stood before, when new files are appended

-- 4. Numbers that sort as the texts do: sorting by two integers and a moment costs a third of sorting by texts.
CREATE TEMP TABLE users AS
SELECT "user", CAST(row_number() OVER (ORDER BY "user") AS INTEGER) AS u FROM (SELECT DISTINCT "user" FROM events);

CREATE TEMP TABLE items AS
SELECT item, CAST(row_number() OVER (ORDER BY md5(item), item) AS INTEGER) AS i FROM (SELECT DISTINCT item FROM events);

-- 5. Each event's place in its user's timeline, when its outcomes are known, and what had happened before its moment.
CREATE TEMP TABLE timeline AS
SELECT id, u, i, time, known_at, {carried}
       row_number() OVER so_far - 1 AS pos,
       max(known_at) OVER so_far AS all_known,    -- when it and everything before it is known
       count(*) OVER before AS older,             -- rows with an earlier time
       max(known_at) OVER before AS older_known,  -- when all of these are known
       {next_time} AS next_time
FROM (SELECT id, u, i, time, {carried} {session},
             greatest(time, coalesce(known_at_raw, time + CAST(floor({measured} * 1000) AS BIGINT) + {outcome_delay})) AS known_at
      FROM events JOIN users USING ("user") JOIN items USING (item))
WINDOW so_far AS (PARTITION BY u ORDER BY time, i),
       before AS (PARTITION BY u ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING);

-- 6. n_before: the older rows, where all of them are known by now; else the leading run that is.
CREATE TEMP TABLE waiting AS
SELECT w.id, coalesce(t.pos + 1, 0) AS known_rows
FROM (SELECT id, u, time FROM timeline WHERE older_known > time) w
ASOF LEFT JOIN (SELECT u, all_known, max(pos) AS pos FROM timeline
                WHERE u IN (SELECT u FROM timeline WHERE older_known > time) GROUP BY ALL) t
ON w.u = t.u AND w.time >= t.all_known;

-- 7. The shard's rows by place, with what the rows themselves do not say. A split is a range of `time`.
CREATE TEMP VIEW shard AS
SELECT t.*, CAST(least(t.older, coalesce(w.known_rows, t.older)) AS INTEGER) AS n_before,
       CASE WHEN t.time < {validation_start} THEN 'train' WHEN t.time < {test_start} THEN 'validation' ELSE 'test' END AS split
FROM timeline t LEFT JOIN waiting w USING (id);
