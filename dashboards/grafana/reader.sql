-- What Grafana may read of hopwatch's database, and nothing else: views without the events themselves, for one role that may only SELECT.
-- Run it as the owner of hopwatch's tables, once `hopwatch store` and `hopwatch detect` have made them, and again after an upgrade or
-- when `hopwatch alerts` has made its tables:  psql -v ON_ERROR_STOP=1 -f reader.sql  and then, once:  \password hopwatch_grafana
-- The views run with their owner's rights, so the role needs none on the tables. Accounts of persons rest as pseudonyms; who decided
-- about an alert, and why, and every event's whole text are left out.

BEGIN;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'hopwatch_grafana') THEN
        CREATE ROLE hopwatch_grafana LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 20;
    END IF;
END $$;

DROP SCHEMA IF EXISTS grafana CASCADE;
CREATE SCHEMA grafana;

ALTER ROLE hopwatch_grafana SET search_path = grafana;
ALTER ROLE hopwatch_grafana SET default_transaction_read_only = on;
-- A dashboard that asks for too much ends by itself, and what it sorts stays in memory.
ALTER ROLE hopwatch_grafana SET statement_timeout = '30s';
ALTER ROLE hopwatch_grafana SET work_mem = '64MB';

-- Every window that was judged: amounts are those that no other view of its connection counted.
CREATE VIEW grafana.movements AS
    SELECT j.event_id, j.start_time, o.plant, o.verdict, o.severity, o.hop, o.service, o.who, o.class, o.source_zone, o.source,
        o.destination_zone, o.destination, j.row_count, j.byte_count, j.depth, j.finding_id
    FROM public.judgements j JOIN public.outcomes o ON o.outcome = j.outcome AND o.day_time = left(j.start_time, 10);

-- The same in its two parts, for sums over many windows.
CREATE VIEW grafana.judgements AS SELECT start_time, outcome, row_count, byte_count, depth, finding_id FROM public.judgements;
CREATE VIEW grafana.outcomes AS
    SELECT outcome, day_time, plant, verdict, severity, hop, service, who, class, source_zone, source, destination_zone, destination
    FROM public.outcomes;

CREATE VIEW grafana.accounts AS SELECT DISTINCT day_time, plant, who FROM public.outcomes;

-- Zones: of the windows that a finding names as its evidence (64 at most); where none rests any more, or none showed it, those of the assets it
-- names, then of its hop, then of the conduits that its agent watches. What is declared no more counts as nothing, so that whoever chooses
-- all that there is sees every finding. Both columns are computed for the rows that ask for them.
CREATE VIEW grafana.findings AS
    SELECT finding_id, plant, verdict, severity, first_seen, last_seen, who, source, destination, hop,
        COALESCE(substring(event FROM '"windows"\s*:\s*([0-9]{1,18})')::bigint, 0) AS windows,
        COALESCE(
            NULLIF(ARRAY(SELECT DISTINCT COALESCE(d.class, '~none')
                FROM json_array_elements_text(event::json #> '{observed,classes}') AS moved (class)
                LEFT JOIN public.declared_classes d ON d.plant = f.plant AND d.class = moved.class ORDER BY 1), '{}'), '{~none}') AS classes,
        COALESCE(
            NULLIF(ARRAY(SELECT DISTINCT COALESCE(z.zone, '~outside')
                FROM public.judgements j
                JOIN public.outcomes o ON o.outcome = j.outcome AND o.day_time = left(j.start_time, 10)
                CROSS JOIN LATERAL (VALUES (o.source_zone), (o.destination_zone)) AS ends (zone)
                LEFT JOIN public.declared_zones z ON z.plant = f.plant AND z.zone = ends.zone
                WHERE j.event_id IN (SELECT json_array_elements_text(event::json -> 'evidence'))
                    AND j.start_time BETWEEN first_seen AND last_seen ORDER BY 1), '{}'),
            NULLIF(ARRAY(SELECT DISTINCT a.zone FROM public.declared_assets a
                WHERE a.plant = f.plant AND a.asset IN (f.source, f.destination) ORDER BY 1), '{}'),
            (SELECT h.source_zones || h.destination_zones FROM public.declared_hops h WHERE h.plant = f.plant AND h.hop = f.hop LIMIT 1),
            NULLIF(ARRAY(SELECT DISTINCT unnest(c.sources || c.destinations) FROM public.declared_conduits c
                WHERE c.plant = f.plant AND (c.agent IN (event::json ->> 'agent', f.source) OR f.source IN (c.conduit, 'conduit ' || c.conduit))
                ORDER BY 1), '{}'),
            '{~outside}') AS zones
    FROM public.findings f;

CREATE VIEW grafana.losses AS
    SELECT plant, agent, start_time, end_time, stage,
        COALESCE(substring(event FROM '"packets"\s*:\s*([0-9]{1,18})')::bigint, 0) AS packets,
        COALESCE(substring(event FROM '"bytes"\s*:\s*([0-9]{1,18})')::bigint, 0) AS bytes,
        COALESCE(substring(event FROM '"events"\s*:\s*([0-9]{1,18})')::bigint, 0) AS events
    FROM public.losses;

-- Where an agent looks: the zones of the conduits it is declared for.
CREATE VIEW grafana.agent_zones AS
    SELECT DISTINCT plant, agent, unnest(sources || destinations) AS zone FROM public.declared_conduits;

CREATE VIEW grafana.heartbeats AS
    SELECT plant, agent, seen_time, event::json ->> 'version' AS version,
        (event::json #>> '{clock,offset_s}')::double precision AS clock_offset_s,
        (event::json #>> '{clock,synchronised}')::boolean AS clock_synchronised,
        (event::json #>> '{counters,spool_waiting}')::bigint AS spool_events
    FROM public.heartbeats;

CREATE VIEW grafana.coverage AS
    SELECT h.plant, h.agent, h.seen_time, c ->> 'tap' AS tap, c ->> 'context' AS context, c ->> 'depth' AS depth,
        (c ->> 'windows')::bigint AS windows, (c ->> 'one_sided_share')::double precision AS one_sided_share
    FROM public.heartbeats h CROSS JOIN LATERAL json_array_elements(COALESCE(h.event::json -> 'coverage', '[]')) AS c;

CREATE VIEW grafana.declared_plants AS SELECT * FROM public.declared_plants;
CREATE VIEW grafana.declared_classes AS SELECT * FROM public.declared_classes;
CREATE VIEW grafana.declared_zones AS SELECT * FROM public.declared_zones;
CREATE VIEW grafana.declared_assets AS SELECT * FROM public.declared_assets;
CREATE VIEW grafana.declared_conduits AS SELECT * FROM public.declared_conduits;
CREATE VIEW grafana.declared_hops AS SELECT * FROM public.declared_hops;
CREATE VIEW grafana.declared_limits AS SELECT * FROM public.declared_limits;

-- Made by `hopwatch alerts`, where it runs.
DO $$ BEGIN
    IF to_regclass('public.alerts') IS NOT NULL THEN
        CREATE VIEW grafana.alerts AS
            SELECT alert_id, plant, state, severity, verdict, who, source, destination, grouped, raised_time, changed_time, acknowledged_time,
                resolved_time, disposition, notified, hidden, finding_id,
                COALESCE((SELECT f.classes FROM grafana.findings f WHERE f.finding_id = a.finding_id), '{~none}') AS classes,
                COALESCE((SELECT f.zones FROM grafana.findings f WHERE f.finding_id = a.finding_id), '{~outside}') AS zones
            FROM public.alerts a;
        CREATE VIEW grafana.alert_revisions AS SELECT alert_id, revision, plant, changed_time, change, notify FROM public.alert_revisions;
        CREATE VIEW grafana.decisions AS SELECT event_id, plant, made_time, action, alert_id FROM public.decisions;
    END IF;
END $$;

GRANT USAGE ON SCHEMA grafana TO hopwatch_grafana;
GRANT SELECT ON ALL TABLES IN SCHEMA grafana TO hopwatch_grafana;

COMMIT;
