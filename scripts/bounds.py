"""Every named bound of the code in one table: `python -m scripts.bounds` writes docs/bounds.md, a test holds it to the code.

The reason is the constant's own comment. The counter is the one that the comment names, or that `COUNTED` knows; for a bound
without one `SAID` knows why reaching it loses and hides nothing, or where it is said. A bound with neither fails a test.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "bounds.md"
ROOMS = ("hopwatch", "collectors", "agent", "detectors", "alerts", "dashboards")

DECODERS = "`bounds_reached`"
FORGOTTEN = "`forgotten` of the summary"

COUNTED = {
    "protocols/postgresql.rs": {
        DECODERS: "REQUESTS_MAX REQUESTED_BYTES_MAX NAMED_MAX NAMED_BYTES_MAX SQL_BYTES_MAX",
    },
    "protocols/mysql.rs": {DECODERS: "REQUESTS_MAX PREPARED_MAX PREPARED_BYTES_MAX SQL_BYTES_MAX"},
    "protocols/tds.rs": {
        DECODERS: "REQUESTS_MAX CALLS_MAX PREPARED_MAX PREPARED_BYTES_MAX SQL_BYTES_MAX SESSIONS_MAX COLUMNS_MAX ITEM_BYTES_MAX",
    },
    "protocols/tds/tokens.rs": {DECODERS: "ALTERNATIVES_MAX"},
    "protocols/postgresql/replication.rs": {DECODERS: "RELATIONS_BYTES_MAX"},
    "protocols/tns.rs": {DECODERS: "REQUESTS_MAX CURSORS_MAX SQL_BYTES_MAX"},
    "sql.rs": {DECODERS: "STATEMENTS_MAX DEPTH_MAX TABLES_MAX"},
    "protocols/dns.rs": {DECODERS: "OUTSTANDING_MAX CHAIN_MAX RECORDS_MAX"},
    "protocols/socks.rs": {"none: no message is longer": "MESSAGE_BYTES_MAX"},
    "protocols/http.rs": {DECODERS: "EXCHANGES_MAX WAITING_BYTES_MAX"},
    "protocols/mqtt.rs": {
        DECODERS: "PACKET_BYTES_MAX ALIASES_MAX TOPIC_BYTES_SUM_MAX REQUESTS_MAX FILTERS_MAX COMMANDS_MAX",
    },
    "protocols/mqtt/payload.rs": {DECODERS: "NODES_MAX ALIASES_OF_NODE_MAX ALIAS_BYTES_SUM_MAX"},
    "protocols/opcua/mod.rs": {
        DECODERS: "NODES_BYTES_MAX PENDING_MAX PENDING_BYTES_MAX ITEMS_BYTES_MAX HANDLES_MAX SESSIONS_MAX TOKEN_BYTES_MAX POINTS_MAX "
        "POINT_BYTES_MAX",
    },
    "protocols/opcua/types.rs": {"`decode_errors`": "STACK_MAX"},
    "protocols/quic.rs": {DECODERS: "INITIALS_MAX CRYPTO_BYTES_MAX PIECES_MAX"},
    "protocols/tls.rs": {DECODERS: "HANDSHAKE_BYTES_MAX SANS_MAX", "`decode_errors`": "RECORD_BYTES_MAX"},
    "stream.rs": {"`gaps`": "HELD_BYTES_MAX HELD_SEGMENTS_MAX", "`invalid_segments`": "AHEAD_MAX"},
    "sensor.rs": {"`gaps`": "HELD_BYTES_TOTAL_MAX", "`conversations_dropped`": "CONVERSATIONS_MAX"},
    "fragments.rs": {"`fragments_evicted`": "BYTES_MAX RUNS_MAX", "`fragments_incomplete`": "PACKET_BYTES_MAX MADE_MAX"},
    "packet.rs": {
        "`malformed_vlan_depth`": "VLANS_MAX",
        "`malformed_ipv6_extension`": "EXTENSIONS_MAX",
        "`malformed_link_depth`": "LINK_LAYERS_MAX",
    },
    "packet/tunnel.rs": {"`tunnel_depth`": "TUNNELS_MAX"},
    "quality.rs": {"`contexts_folded` of the measures": "CONTEXTS_MAX"},
    "windows.rs": {"`names_dropped`": "NAMES_OF_ADDRESS_MAX", "`long_windows`": "LASTS_MAX"},
    "slow.rs": {"`slow_taken_back`": "QUEUE_ENTRIES_MAX QUEUE_BYTES_MAX", "`slow_degraded`": "NAMES_MAX"},
    "collectors/slow/__init__.py": {"`slow_degraded`": "MESSAGE_BYTES_MAX"},
    "collectors/slow/path.py": {"`slow_killed`": "ANSWER_S_MAX ANSWER_BYTES_MAX"},
    "collectors/slow/worker.py": {"`slow_failed`": "MEMORY_BYTES_MAX"},
    "hopwatch/declared/match.py": {FORGOTTEN: "CACHE_ENTRIES_MAX"},
    "hopwatch/watch.py": {FORGOTTEN: "FINDINGS_COUNTED_MAX"},
    "hopwatch/bus/numbers.py": {"`unnumbered_total`": "SPOOLS_MAX", "`holes_forgotten`": "RUNS_MAX"},
    "detectors/budget.py": {FORGOTTEN: "SLOTS_MAX OBJECTS_COUNTED_MAX BUDGETS_MAX"},
    "detectors/clock.py": {"`forgotten_total`": "AGENTS_MAX PAIRS_MAX"},
    "detectors/cases.py": {FORGOTTEN: "CASES_MAX"},
    "detectors/failover.py": {FORGOTTEN: "MEMBERS_MAX"},
    "detectors/inherited.py": {FORGOTTEN: "COPIES_MAX"},
    "detectors/kept.py": {FORGOTTEN: "KEPT_MAX"},
    "detectors/online.py": {FORGOTTEN: "KINDS_MAX"},
    "detectors/findings.py": {FORGOTTEN: "FINDINGS_MAX"},
    "detectors/losses.py": {FORGOTTEN: "LOSSES_MAX"},
    "detectors/logins.py": {
        FORGOTTEN: "LOGINS_MAX ACCOUNTS_MAX",
    },
    "detectors/memory.py": {FORGOTTEN: "KEYS_MAX"},
    "detectors/silence.py": {FORGOTTEN: "AGENTS_MAX"},
    "detectors/slow.py": {FORGOTTEN: "PAIRS_MAX"},
    "detectors/volume.py": {FORGOTTEN: "PAIRS_MAX"},
    "detectors/verdict.py": {FORGOTTEN: "AGENTS_MAX"},
    "alerts/desk.py": {"`counted` of the book": "FLOOD_MAX"},
    "dashboards/console/sessions.py": {"`evicted_total`": "SESSIONS_MAX STRANGERS_MAX"},
    "detectors/views.py": {FORGOTTEN: "CONNECTIONS_MAX VIEWS_MAX FLOWS_MAX SPANS_MAX"},
}
"""What is counted, by file."""

CACHE = "none lost: a cache, what is pushed out is made anew"
CLIPPED = "none hidden: the name is shown as far as it is kept"
DAMAGED = "error: the file is damaged here"
REFUSED = "error: refused, in one line"
SHOWN = "none lost: a limit of what is shown, the counts are whole"
PIECES = "none lost: the size of a piece, the next one goes on"
THRESHOLD = "none lost: a threshold, nothing is held"
UNKNOWN = "told as `unknown` or `*`"
EVERY = "told: the columns are `*`; values and bytes are exact"
UNCOUNTED = "told: `lossy`, its values are not counted"
BYTES_ALONE = "told: depth `sizes`, all bytes count"

AGAIN = "none hidden: what was forgotten is news again"
SAID_BY_THEN = "none hidden: it was said long before"

SAID = {
    "slow.rs": {REFUSED: "WISHES_MAX"},
    "collectors/slow/path.py": {
        REFUSED: "PLUGINS_MAX START_S_MAX",
        EVERY: "ITEMS_MAX",
        "told: a loss that says so": "ENDING_S_MAX",
    },
    "collectors/slow/enip.py": {BYTES_ALONE: "SERVICES_MAX"},
    "collectors/slow/modbus.py": {"told: its table without an address": "REQUESTS_MAX", "told: depth `sizes`": "PDU_BYTES_MAX"},
    "collectors/slow/names.py": {"told: `PREFIX/*`": "RANGES_MAX"},
    "capture.rs": {"`kernel_drops`, if the ring is too small": "BLOCKS_MAX", REFUSED: "INTERFACES_MAX FILTER_INSTRUCTIONS_MAX"},
    "contexts.rs": {REFUSED: "EQUAL_MAX"},
    "soon.rs": {"none lost: a hint to the processor": "LINES_MAX"},
    "packet/tunnel.rs": {"told: a conversation of what carries it": "GTP_EXTENSIONS_MAX"},
    "protocols/dns.rs": {SHOWN: "FACTS_MAX", "none lost: the name is asked for again": "TTL_S_MAX", "told: `malformed`": "NAME_BYTES_MAX"},
    "protocols/http.rs": {
        CLIPPED: "LINE_BYTES_MAX NAME_CHARS_MAX",
        UNKNOWN: "PATH_SEGMENTS_MAX PATH_CHARS_MAX",
        SHOWN: "FACTS_MAX TARGET_CHARS_MAX",
        THRESHOLD: "ANSWER_BYTES_MAX",
        BYTES_ALONE: "LEVELS_MAX",
    },
    "protocols/mod.rs": {BYTES_ALONE: "HEAD_BYTES_MAX UNDECIDED_BYTES_MAX"},
    "protocols/mqtt.rs": {
        CACHE: "TOPICS_MAX SELECTIONS_MAX SELECTION_BYTES_SUM_MAX",
        SHOWN: "FACTS_MAX",
        "told: `lossy`, until a shorter packet is found": "SOUGHT_BYTES_MAX SOUGHT_TOPIC_BYTES_MAX",
        EVERY: "NAMED_BYTES_MAX SELECTIONS_OF_TOPIC_MAX",
    },
    "protocols/mqtt/json.rs": {UNCOUNTED: "DEPTH_MAX", EVERY: "NAMES_MAX NAME_BYTES_MAX"},
    "protocols/mqtt/sparkplug.rs": {UNCOUNTED: "DEPTH_MAX VARINT_BYTES_MAX", EVERY: "NAME_BYTES_MAX"},
    "protocols/mysql.rs": {
        UNKNOWN: "TABLELESS_BYTES_MAX DEFINITIONS_BYTES_MAX",
        "none lost: what is needed stands first": "ANSWER_BYTES_MAX LOGIN_BYTES_MAX",
    },
    "protocols/mysql/compressed.rs": {
        "none lost: the bytes count, with the last": "WEIGHTS_MAX",
        "told: `lossy`, its bytes count": "ZSTD_BYTES_MAX",
    },
    "protocols/mysql/binlog.rs": {
        "told: `lossy`, its rows are not counted": "EVENT_BYTES_MAX ROWS_BYTES_MAX TABLES_BYTES_MAX COLUMNS_MAX",
    },
    "protocols/texts.rs": {"`statements_forgotten`": "SHARED_BYTES_MAX"},
    "sql/mysql.rs": {UNKNOWN: "NESTED_MAX"},
    "protocols/tds.rs": {
        UNKNOWN: "TABLELESS_BYTES_MAX DEFINITIONS_BYTES_MAX",
        "none lost: what is needed stands first": "LOGIN_BYTES_MAX",
        SHOWN: "FACTS_MAX",
    },
    "protocols/tds/login.rs": {CLIPPED: "NAME_BYTES_MAX"},
    "protocols/mysql/answers.rs": {"none lost: no table has as many rows": "COUNT_MAX"},
    "protocols/tds/tokens.rs": {"none lost: no table has as many rows": "COUNT_MAX"},
    "protocols/tds/search.rs": {"told: `lossy`, until a packet is found": "PACKET_BYTES_MAX"},
    "sql/tsql.rs": {UNKNOWN: "NESTED_MAX"},
    "protocols/opcua/mod.rs": {
        "none lost: the next set goes on": "NAMES_MAX",
        CACHE: "SETS_BYTES_MAX",
        CLIPPED: "NAME_BYTES_MAX",
        SHOWN: "FACTS_MAX",
        "told: `lossy`, until a smaller message is found": "RESYNC_SIZE_MAX",
        "told: depth `sizes`": "UNREADABLE_MAX",
    },
    "protocols/opcua/types.rs": {CLIPPED: "TEXT_BYTES_MAX NODE_BYTES_MAX"},
    "protocols/postgresql/replication.rs": {
        "none lost: what is needed stands there, the bytes count": "CHANGE_BYTES_MAX",
        UNKNOWN: "COLUMNS_MAX",
    },
    "protocols/postgresql.rs": {
        CACHE: "CACHED_MAX CACHED_BYTES_MAX",
        UNKNOWN: "TABLELESS_BYTES_MAX",
        SHOWN: "FACTS_MAX",
        "told: `lossy`, until a shorter frame is found": "PLAUSIBLE_BYTES_MAX",
        "told: `malformed`": "ROW_BYTES_MAX",
        "none lost: what is needed stands first": "ERROR_BYTES_MAX",
        CLIPPED: "NAME_BYTES_MAX MECHANISM_BYTES_MAX",
    },
    "protocols/quic.rs": {SHOWN: "VERSIONS_MAX", BYTES_ALONE: "ID_BYTES_MAX"},
    "protocols/search.rs": {"told: `lossy`, until a frame is found": "CANDIDATES_MAX"},
    "protocols/tls.rs": {SHOWN: "FACTS_MAX", CLIPPED: "NAME_CHARS_MAX"},
    "protocols/tns.rs": {
        "none lost: what is needed stands first": "ANSWER_BYTES_MAX CONNECT_BYTES_MAX",
        UNKNOWN: "REQUEST_BYTES_MAX",
        SHOWN: "FACTS_MAX",
        "told: `malformed`": "PACKET_BYTES_MAX",
    },
    "protocols/postgresql/statements.rs": {"none lost: known by its hash": "KEPT_BYTES_MAX"},
    "protocols/tns/calls.rs": {UNKNOWN: "PIGGYBACKS_MAX COLUMNS_MAX PAIRS_MAX"},
    "protocols/tns/connect.rs": {CLIPPED: "NESTED_MAX"},
    "protocols/tns/rows.rs": {"told: `lossy`, its bytes count": "MESSAGE_BYTES_MAX COLUMNS_MAX"},
    "protocols/tns/search.rs": {"told: `lossy`, until a shorter packet is found": "LENGTH_MAX"},
    "python.rs": {PIECES: "FINISHED_MAX READY_MAX"},
    "quality.rs": {REFUSED: "EXPECTED_MAX"},
    "sensor.rs": {BYTES_ALONE: "RECOGNITIONS_MAX", "told: `one_sided`": "PAIRING_PACKETS_MAX"},
    "source/merge.rs": {"none lost: frames of two files may change places": "FILES_OPEN_MAX"},
    "source/pcapng.rs": {CLIPPED: "NAME_BYTES_MAX"},
    "source/zstd.rs": {REFUSED: "WINDOW_BYTES_MAX"},
    "lines.rs": {CACHE: "KINDS_MAX LINES_BYTES_MAX PARTS_MAX VARIANTS_MAX PAID_MAX SETS_MAX SET_KINDS_MAX MARKS_MAX"},
    "source.rs": {DAMAGED: "FRAME_BYTES_MAX BLOCK_BYTES_MAX INTERFACES_MAX", "none lost: a batch": "FRAMES_MAX"},
    "sql.rs": {UNKNOWN: "COLUMNS_MAX", CLIPPED: "NAME_BYTES_MAX"},
    "windows.rs": {PIECES: "ROWS_MAX BYTES_MAX OBJECTS_MAX", CACHE: "INTERNED_MAX"},
    "hopwatch/bus/__init__.py": {REFUSED: "EVENT_BYTES_MAX"},
    "hopwatch/declared/draft.py": {"told: how many objects more": "OBJECTS_DRAFTED_MAX"},
    "hopwatch/console.py": {REFUSED: "_SECRET_BYTES_MAX"},
    "hopwatch/store/__init__.py": {
        "told: the page says that it shows the newest windows": "WINDOWS_SUMMED_MAX DEPTHS_SUMMED_MAX GROUPS_MAX",
        SHOWN: "ENDS_MAX",
    },
    "detectors/amounts.py": {"none lost: put together anew": "NAMES_MAX"},
    "dashboards/console/alerting.py": {SHOWN: "PAGES_MAX"},
    "dashboards/console/drawing.py": {SHOWN: "_NAMED_MAX"},
    "dashboards/console/guard.py": {REFUSED: "FORM_BYTES_MAX"},
    "dashboards/console/library.py": {
        "told: come again in a moment": "WAITING_MAX",
        CACHE: "KEPT_MAX",
        PIECES: "STEPS_MAX",
        THRESHOLD: "SHARE_MAX",
    },
    "dashboards/console/picture.py": {"told: how many stand together, how many are not drawn": "PLACES_OF_ZONE_MAX BANDS_MAX"},
    "dashboards/console/serve.py": {"told: 503, or 431": "CONNECTIONS_MAX HEADERS_BYTES_MAX", REFUSED: "START_S_MAX"},
    "dashboards/console/suppressing.py": {REFUSED: "VALUE_CHARACTERS_MAX"},
    "dashboards/console/users.py": {
        REFUSED: "USERS_MAX PASSWORD_CHARACTERS_MAX",
        THRESHOLD: "WAIT_S_MAX",
        "none hidden: who failed longest ago may try again": "THROTTLED_MAX",
    },
    "dashboards/console/visit.py": {
        REFUSED: "FIELDS_MAX",
        "none lost: the log has all": "LOG_MAX",
        "none lost: made anew": "UNCHANGED_MAX",
    },
    "hopwatch/bus/embedded.py": {
        "error: the run says so and ends, what is left is told as a loss": "LOG_BYTES_MAX",
        "none lost: written back into the file": "WAL_BYTES_MAX",
        PIECES: "READ_EVENTS_MAX",
        "none lost: an event sent again later than that is kept twice, its id tells": "KEYS_MAX",
    },
    "hopwatch/bus/admin.py": {REFUSED: "PARTITIONS_MAX"},
    "hopwatch/bus/connection.py": {REFUSED: "SECRET_BYTES_MAX"},
    "detectors/clock.py": {"none lost: only beginnings that are near are compared": "CONNECTIONS_MAX"},
    "hopwatch/detect.py": {
        PIECES: "KEEP_EVENTS_MAX",
        "none lost: further plants are counted together": "PLANTS_COUNTED_MAX",
        "none lost: reading waits": "RESEND_MAX",
    },
    "hopwatch/engine/order.py": {
        "none lost: the wait for an earlier one ends": "WAITING_MAX AHEAD_MAX",
        "none lost: the order begins anew": "SPOOLS_MAX",
    },
    "dashboards/grafana/parts.py": {"none lost: counted under `~other`": "NODES_MAX", SHOWN: "ROWS_MAX ACCOUNTS_MAX"},
    "dashboards/grafana/soc.py": {SHOWN: "ALERTS_SHOWN_MAX"},
    "hopwatch/figures.py": {"none lost: what is said again counts again": "FINDINGS_MAX"},
    "hopwatch/located.py": {CACHE: "ADDRESSES_MAX"},
    "hopwatch/sizes.py": {REFUSED: "FILE_BYTES_MAX TABLES_MAX"},
    "hopwatch/metrics.py": {"none lost: counted under `~other`": "SERIES_MAX"},
    "hopwatch/store/reading.py": {SHOWN: "CANDIDATES_MAX"},
    "hopwatch/store/postgresql.py": {CACHE: "ACCOUNTS_MAX"},
    "hopwatch/store/judgements.py": {CACHE: "OUTCOMES_MAX"},
    "hopwatch/store/progress.py": {"none lost: a snapshot takes their place": "CHANGES_MAX"},
    "hopwatch/bus/kafka.py": {
        "none lost: the spool holds what waits": "IN_FLIGHT_MESSAGES_MAX IN_FLIGHT_BYTES_MAX",
        CLIPPED: "REASON_CHARACTERS_MAX",
    },
    "hopwatch/bus/topics.py": {REFUSED: "SHARDS_MAX MESSAGE_BYTES_MAX"},
    "hopwatch/declared/edition.py": {"none lost: a longer one travels packed": "PLAIN_BYTES_MAX"},
    "hopwatch/declared/load.py": {REFUSED: "FILE_BYTES_MAX DEPTH_MAX", SHOWN: "ERRORS_MAX"},
    "hopwatch/declared/quantity.py": {REFUSED: "AMOUNT_MAX"},
    "hopwatch/declared/rules.py": {REFUSED: "PILOT_DAYS_MAX"},
    "hopwatch/declared/sign.py": {REFUSED: "APPROVERS_MAX SIGNATURE_BYTES_MAX"},
    "hopwatch/backtest.py": {SHOWN: "CASES_SHOWN_MAX DRAFT_FLOWS_MAX"},
    "hopwatch/history.py": {"`beyond` and `strangers_windows` of the answer": "CASES_MAX STRANGERS_MAX"},
    "hopwatch/engine/__init__.py": {"none lost: the event is judged, its time moves no timer": "AHEAD_NS_MAX"},
    "hopwatch/events.py": {
        PIECES: "OBJECTS_MAX",
        "none hidden: what is so far over a limit is at its worst": "RATIO_MAX",
        REFUSED: "COUNT_MAX TREES_MAX COMMITS_MAX",
        SHOWN: "EVIDENCE_MAX",
    },
    "hopwatch/show.py": {SHOWN: "EVIDENCE_SHOWN_MAX OBJECTS_SHOWN_MAX"},
    "hopwatch/store/embedded.py": {
        "error: the run says so and ends, the log keeps what is left": "STORE_BYTES_MAX",
        SHOWN: "EARLIER_MAX",
        PIECES: "IDS_MAX",
    },
    "hopwatch/terminal.py": {SHOWN: "FLOWS_REMEMBERED_MAX FLOWS_SHOWN_MAX FINDINGS_SHOWN_MAX", PIECES: "LINES_MAX"},
    "hopwatch/watch.py": {PIECES: "DRAIN_EVENTS_MAX", THRESHOLD: "STATE_SHARE_MAX"},
    "agent/health.py": {"none lost: windows of further contexts are counted under none": "CONTEXTS_MAX"},
    "agent/merge.py": {PIECES: "RANGES_MAX"},
    "agent/pump.py": {PIECES: "TAKE_BYTES_MAX"},
    "agent/segments.py": {
        PIECES: "SEGMENT_BYTES_MAX SEGMENT_EVENTS_MAX",
        "none lost: events stay in the spool, which is said": "EXPORT_BYTES_MAX",
        DAMAGED: "HEADER_BYTES_MAX FILE_BYTES_MAX",
        "none lost: a segment that comes later than that is published again, its ids tell": "BEYOND_MAX",
    },
    "agent/spool.py": {
        "merged windows, or a loss that says how much": "SPOOL_BYTES_MAX",
        PIECES: "REGION_EVENTS_MAX CHUNK_BYTES_MAX ROOM_BYTES_MAX SCAN_EVENTS_MAX",
        THRESHOLD: "RESERVE_BYTES_MAX",
        "told: the loss is of any flow of the agent": "FLOWS_NAMED_MAX",
    },
    "alerts/book.py": {PIECES: "DUE_MAX IDS_MAX", SHOWN: "CANDIDATES_MAX"},
    "alerts/desk.py": {REFUSED: "SCOPE_MAX SUPPRESS_DAYS_MAX SHELVE_DAYS_MAX RULES_MAX REASON_CHARACTERS_MAX"},
    "alerts/embedded.py": {"error: said, and the findings wait in the store": "BOOK_BYTES_MAX"},
    "hopwatch/alerting.py": {"none lost: further ones are told when they change": "FIRING_MAX"},
    "alerts/techniques.py": {REFUSED: "TECHNIQUES_MAX"},
    "alerts/formats/cef.py": {CLIPPED: "NAME_MAX COUNT_MAX"},
    "alerts/formats/mail.py": {"told: how many more there are": "DIGEST_MAX", CLIPPED: "SUBJECT_CHARACTERS_MAX"},
    "alerts/formats/ocsf.py": {SHOWN: "RELATED_MAX"},
    "alerts/formats/syslog.py": {CLIPPED: "MESSAGE_BYTES_MAX DATAGRAM_BYTES_MAX PARAM_CHARACTERS_MAX"},
    "alerts/formats/template.py": {REFUSED: "SOURCE_CHARACTERS_MAX BODY_BYTES_MAX"},
    "alerts/formats/view.py": {SHOWN: "OBJECTS_MAX", CLIPPED: "TEXT_CHARACTERS_MAX"},
    "alerts/settings.py": {"none lost: the file is begun anew": "FILE_BYTES_MAX"},
    "alerts/delivery/__init__.py": {REFUSED: "DESTINATIONS_MAX", PIECES: "BATCH_MAX"},
    "alerts/delivery/alertmanager.py": {PIECES: "POST_MAX"},
    "alerts/delivery/http.py": {"none lost: of an answer only its beginning matters": "ANSWER_BYTES_MAX", THRESHOLD: "AFTER_S_MAX"},
    "alerts/delivery/sender.py": {THRESHOLD: "BACKOFF_S_MAX"},
    "alerts/delivery/splunk.py": {THRESHOLD: "ASK_S_MAX"},
    "alerts/delivery/syslog.py": {"a dead letter, listed": "DATAGRAM_BYTES_MAX"},
    "alerts/outbox.py": {CLIPPED: "ERROR_CHARACTERS_MAX", PIECES: "READ_MAX"},
    "collectors/packets.py": {PIECES: "PACKETS_MAX EVENTS_MAX"},
    "collectors/mariadb_log.py": {PIECES: "FILES_TOGETHER_MAX"},
    "collectors/statements.py": {UNKNOWN: "STATEMENT_BYTES_MAX"},
    "collectors/log.py": {"the line is `unreadable`": "HEAD_LINES_BYTES_MAX COUNT_MAX TIME_NS_MAX"},
    "collectors/mariadb_sessions.py": {
        "`mariadb_log_sessions_over`, and told: `late` when heard of again": "SESSIONS_MAX",
    },
    "collectors/postgresql_activity.py": {
        "`postgresql_activity_statements_over`": "STATEMENTS_MAX",
        "none hidden: a summary of what `pg_stat_activity` shows; the older ones were seen before": "LISTED_MAX",
    },
    "collectors/pgbouncer_log.py": {
        "`pgbouncer_log_sessions_over`, and told: the connection ends": "SESSIONS_MAX",
        UNKNOWN: "DATABASES_MAX",
        "none lost: statistics are not counted over longer": "STATS_NS_MAX",
    },
    "collectors/sqlserver_log.py": {"`sqlserver_log_unreadable`": "XML_BYTES_MAX"},
    "collectors/asked.py": {REFUSED: "EVERY_S_MAX"},
    "collectors/records.py": {
        "`…_sessions_over`, and told: `late` when heard of again": "SESSIONS_MAX",
    },
    "collectors/postgresql_log.py": {
        "`postgresql_log_sessions_over`, and told: `late` when heard of again": "SESSIONS_MAX",
        "told: the window is `lossy`": "PENDING_MAX",
        UNKNOWN: "CURSORS_MAX",
        "`postgresql_log_unreadable`": "FIELD_BYTES_MAX",
    },
    "collectors/dialled.py": {REFUSED: "SECRET_BYTES_MAX", "`…_waits`, and hearing waits": "HEARD_MAX"},
    "collectors/opcua_server.py": {
        "`opcua_server_over`; told by the next answer that has room": "SESSIONS_MAX SUBSCRIPTIONS_MAX",
        REFUSED: "CLIENTS_MAX CLIENTS_BYTES_MAX",
        "told: the writes are `lossy`": "AUDITED_MAX",
        CLIPPED: "NAME_CHARS_MAX",
        PIECES: "ITEMS_MAX",
        "none lost: it wraps": "COUNTER_MAX",
    },
    "collectors/mqtt_broker.py": {
        "`mqtt_broker_hidden`": "PACKET_BYTES_MAX",
        "`mqtt_broker_unreadable`": "LISTING_BYTES_MAX",
        PIECES: "ITEMS_MAX",
        REFUSED: "FILTERS_MAX",
    },
    "collectors/netflow.py": {
        REFUSED: "EXPORTERS_MAX",
        "`netflow_sources_over`": "SOURCES_MAX",
        "`netflow_templates_over`": "TEMPLATES_MAX",
        "`netflow_templates_refused`, and a `loss`": "FIELDS_MAX",
        "`netflow_pending_over`, and told: `one-sided`": "PENDING_MAX",
        "`netflow_reordered`, or told: a `loss`": "REORDER_MAX",
        "`netflow_untimed`": "AGE_MS_MAX CLOCK_NS_MAX",
        "`netflow_implausible`": "PAYLOAD_BYTES_MAX",
        PIECES: "DATAGRAMS_MAX",
    },
    "collectors/mosquitto_log.py": {
        "`mosquitto_log_clients_over`, and told: `unplaced` when heard of again": "CLIENTS_MAX",
        "`mosquitto_log_waiting_over`": "WAITING_MAX",
        "none lost: the next set goes on": "FILTERS_MAX",
    },
    "collectors/relay_log.py": {
        "the line is `unreadable`": "STATUS_MAX",
        "none lost: only two lines of one instant may get one id": "ENDS_MAX",
    },
    "collectors/sensor_log.py": {
        "`…_sessions_over`, and told: the connection ends": "SESSIONS_MAX",
        "`…_names_over`": "ANSWERS_MAX",
        "none lost: only bytes are not shared with it": "MOVEMENTS_MAX FILTERS_MAX",
        CLIPPED: "NAMES_MAX",
        "the line is `unreadable`": "TTL_S_MAX",
    },
    "collectors/tail.py": {
        PIECES: "PIECE_BYTES_MAX",
        "`…_unreadable`, and a `loss`": "RECORD_BYTES_MAX",
        "`…_files_over`": "FILES_MAX",
    },
    "hopwatch/feeds.py": {REFUSED: "FEEDS_MAX", PIECES: "TURNS_MAX", CLIPPED: "STATE_NAME_MAX"},
    "collectors/quality.py": {"a fault is named": "ONE_SIDED_SHARE_MAX COPIES_SHARE_MAX", SHOWN: "NAMED_MAX"},
    "detectors/accounts.py": {AGAIN: "WAYS_MAX", SAID_BY_THEN: "OBJECTS_MAX"},
    "detectors/destinations.py": {AGAIN: "PLACES_MAX", THRESHOLD: "JITTER_MAX"},
    "detectors/dump.py": {SAID_BY_THEN: "OBJECTS_MAX"},
    "detectors/failures.py": {SAID_BY_THEN: "PROBED_MAX"},
    "detectors/inherited.py": {"none hidden: the classes then hold in any schema": "SCHEMAS_MAX"},
    "detectors/lineage.py": {FORGOTTEN: "LEGS_MAX", SHOWN: "CHAIN_MAX", "none lost: they are counted": "UNCOUNTED_MAX"},
    "detectors/silence.py": {THRESHOLD: "LOSS_SHARE_MAX BLIND_SHARE_MAX"},
    "detectors/budget.py": {THRESHOLD: "STEPS_MAX"},
    "detectors/slow.py": {THRESHOLD: "EXCESS_MAX"},
    "detectors/volume.py": {THRESHOLD: "VALUE_MAX"},
    "detectors/logins.py": {"none lost: of more, an end is not waited for": "OPEN_MAX", THRESHOLD: "ENDED_MAX"},
    "detectors/views.py": {"none lost: of more, two times are one": "ESTIMATES_MAX HOLES_MAX"},
    "detectors/tail.py": {"none lost: the tail is that of the latest peaks": "PEAKS_MAX", THRESHOLD: "SHAPE_MAX"},
    "detectors/writeback.py": {THRESHOLD: "STEERING_LEVEL_MAX"},
    "detectors/kept.py": {UNKNOWN: "UNNAMED_ROWS_MAX UNNAMED_BYTES_MAX"},
    "detectors/nearest.py": {"none hidden: the finding stands, its nearest hop may be a further one": "CANDIDATES_MAX"},
    "detectors/offsite.py": {REFUSED: "ENTRIES_MAX"},
    "detectors/verdict.py": {THRESHOLD: "_ATTEMPT_SEVERITY_MAX"},
    "detectors/whatif.py": {"told: no time was found": "DAYS_SEARCHED_MAX", "none hidden: the last answer stands": "NEARER_MAX"},
}
"""Where nothing is counted: what happens, by file."""

SILENT = "–"

RUST = re.compile(r"((?:^[ \t]*///[^\n]*\n)*)^[ \t]*(?:pub(?:\(\w+\))? )?const ([A-Z0-9_]+_MAX): [^=]+ = ([^;]+);", re.M)
PYTHON = re.compile(r'^(_?[A-Z0-9_]+_MAX)(?:: [^=\n]+)? = ([^\n]+)\n((?:"""[^"]*""")?)', re.M)


class Bound(NamedTuple):
    place: str
    name: str
    value: str
    why: str


def found() -> Iterator[Bound]:
    """Every constant that ends in ``_MAX``, of the packet path first."""
    source = ROOT / "wire" / "src"
    for path in sorted(source.rglob("*.rs")):
        if path.name in ("tests.rs", "testing.rs"):
            continue
        text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
        above = ""
        for comment, name, value in RUST.findall(text):
            said = " ".join(line.strip()[3:].strip() for line in comment.splitlines())
            above = said or above
            yield Bound(path.relative_to(source).as_posix(), name, value.strip(), above)
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for name, line, said in PYTHON.findall(path.read_text()):
                value, _, beside = line.partition("#")
                why = said.strip('"').replace("\n", " ") or beside.strip()
                yield Bound(path.relative_to(ROOT).as_posix(), name, value.strip(), why)


def counter(bound: Bound) -> str:
    """What is counted when the bound is reached, or why nothing is; a dash if nobody has said."""
    named = re.search(r"\(`(\w+)`\)", bound.why)
    for known in (COUNTED, SAID):
        for text, names in known.get(bound.place, {}).items():
            if bound.name in names.split():
                return text
    return f"`{named[1].removesuffix('_total')}`" if named else SILENT


def page() -> str:
    """The table."""
    lines = [
        "# Bounds",
        "",
        "Every queue and table has one, with its default, what counts that it was reached, and why it is what it is. Written from the",
        "code by `python -m scripts.bounds`. `bounds_reached` adds up the tables of all decoders; what a decoder cannot keep goes out as",
        "`unknown`. Where no counter stands, it says why reaching the bound loses and hides nothing, or how it is told.",
        "",
        "| Where | Bound | Default | When it is reached | What and why |",
        "| --- | --- | --- | --- | --- |",
    ]
    for bound in found():
        why = bound.why.replace("|", "\\|").replace("[`", "`").replace("`]", "`")
        lines.append(f"| `{bound.place}` | `{bound.name}` | {bound.value} | {counter(bound)} | {why} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
