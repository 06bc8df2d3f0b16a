-- One user bucket becomes one finished shard. Names in curly brackets are filled by gather.py from the schema.
-- Order everywhere: (user, time, md5 of the item id): total, and no outcome enters it, or ties would leak into rank metrics.
CREATE TEMP TABLE judged AS            -- rules that need more than one row, and the tables beside the log
SELECT *, CASE
    WHEN row_number() OVER (PARTITION BY CAST(raw AS VARCHAR) ORDER BY file, line) > 1 THEN 'duplicate'
    WHEN {drop_unknown_items} AND item NOT IN (SELECT item FROM known_items) THEN 'unknown_item'
    WHEN {drop_unknown_users} AND "user" NOT IN (SELECT "user" FROM known_users) THEN 'unknown_user'
    WHEN "user" IN (SELECT "user" FROM bucket GROUP BY "user", time // 86400000 HAVING count(*) > {max_events_per_day}) THEN 'bot'
  END AS reason
FROM bucket;

CREATE TEMP TABLE merged AS            -- rows equal in user, time and item are one event: binary by max, duration by sum
SELECT "user", item, time, {merge}
FROM judged WHERE reason IS NULL GROUP BY "user", item, time;

CREATE TEMP TABLE ordered AS
SELECT *, row_number() OVER w - 1 AS pos,
       greatest(time, coalesce(known_at_raw, time + CAST(floor({measured} * 1000) AS BIGINT) + {outcome_delay})) AS known_at,
       {next_time} AS next_time
FROM merged WINDOW w AS (PARTITION BY "user" ORDER BY time, md5(item));

CREATE TEMP TABLE running AS           -- how many leading rows are known once the running maximum of known_at is reached
SELECT "user", known, max(pos) + 1 AS n FROM (
  SELECT "user", pos, max(known_at) OVER (PARTITION BY "user" ORDER BY pos) AS known FROM ordered) GROUP BY "user", known;

CREATE TEMP TABLE shard AS
SELECT o.*, CAST(least(o.earlier, coalesce(r.n, 0)) AS INTEGER) AS n_before,
       CASE WHEN o.time < {validation_start} THEN 'train' WHEN o.time < {test_start} THEN 'validation' ELSE 'test' END AS split
FROM (SELECT *, count(*) OVER (PARTITION BY "user" ORDER BY time RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier
      FROM ordered) o
ASOF LEFT JOIN running r ON o."user" = r."user" AND o.time >= r.known;
