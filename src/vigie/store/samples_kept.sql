-- How the index of a life that goes on for weeks is kept small. "name:" names a query, the line below says why.

-- name: length_at
-- How long both streams were at an instant.
SELECT out, err FROM lengths WHERE job = ? AND attempt = ? AND at < ? ORDER BY at DESC LIMIT 1;

-- name: kept_from
-- The last sample before which nothing is left of either stream.
SELECT max(at) FROM lengths WHERE job = ? AND attempt = ? AND out <= ? AND err <= ?;

-- name: drop_before
-- Samples of what was dropped.
DELETE FROM lengths WHERE job = ? AND attempt = ? AND at < ?;

-- name: first
-- The oldest sample.
SELECT min(at) FROM lengths WHERE job = ? AND attempt = ?;

-- name: thin_out
-- Of what is older than an instant, the last sample of each step stays.
DELETE FROM lengths WHERE job = ? AND attempt = ? AND at < ? AND at NOT IN
    (SELECT max(at) FROM lengths WHERE job = ? AND attempt = ? AND at < ? GROUP BY at / ?);

-- name: thin_out_recent
-- The same between two instants.
DELETE FROM lengths WHERE job = ? AND attempt = ? AND at >= ? AND at < ? AND at NOT IN
    (SELECT max(at) FROM lengths WHERE job = ? AND attempt = ? AND at >= ? AND at < ? GROUP BY at / ?);
