-- What applying a file, and whoever names what it declares, reads; the agent need not run.

-- name: file
-- What a file said of itself when it was applied, and who else has its project's name.
SELECT name, owner, spec FROM declared WHERE kind = 'project' AND (owner = :owner OR name = :name);

-- name: schedules
-- A page of the schedules of a file: name, spec.
SELECT name, spec FROM schedules WHERE owner = :owner AND name > :after ORDER BY name LIMIT :limit;

-- name: services
-- The services of a file: name, spec.
SELECT name, spec FROM services WHERE owner = :owner ORDER BY name;

-- name: plans
-- Every service's plan.
SELECT name, plan FROM services WHERE removing = 0;

-- name: standing
-- How some schedules stand (JSON list of names).
SELECT name, state, planned, created, started, ended, next, due, runs - by_hand AS runs
FROM schedules WHERE name IN (SELECT value FROM json_each(:names));

-- name: declared
-- The tasks and queues of a file.
SELECT kind, name, spec FROM declared WHERE owner = :owner AND kind <> 'project';

-- name: one
-- A declared thing by kind and name.
SELECT name, owner, spec FROM declared WHERE kind = :kind AND name = :name;

-- name: owners
-- Who has some names already (JSON list): "" for what was made by hand.
SELECT name, coalesce(owner, '') AS owner FROM schedules WHERE :kind = 'schedule' AND name IN (
    SELECT value FROM json_each(:names))
UNION ALL SELECT name, coalesce(owner, '') AS owner FROM services WHERE :kind = 'service' AND removing = 0 AND name IN (
    SELECT value FROM json_each(:names))
UNION ALL SELECT name, owner FROM declared WHERE kind = :kind AND name IN (SELECT value FROM json_each(:names));

-- name: queues
-- Queues as they are set.
SELECT name, slots, rate FROM queues;
