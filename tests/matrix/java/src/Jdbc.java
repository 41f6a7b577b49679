import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.fastpath.Fastpath;
import org.postgresql.fastpath.FastpathArg;
import org.postgresql.replication.LogSequenceNumber;
import org.postgresql.replication.PGReplicationStream;

/** PostgreSQL's JDBC driver. */
final class Jdbc {
    static final String GENEALOGY = "select id, part, station from mes.genealogy";
    static final Map<String, Clients.Verb> VERBS = new LinkedHashMap<>();

    static {
        VERBS.put("simple select", where -> {
            try (Connection c = connect(where, Map.of("preferQueryMode", "simple")); Statement s = c.createStatement()) {
                return List.of(Clients.Moved.rows("select", count(s.executeQuery(GENEALOGY)), 1));
            }
        });
        VERBS.put("extended select", where -> {
            try (Connection c = connect(where, Map.of()); PreparedStatement s = c.prepareStatement(GENEALOGY + " where id > ?")) {
                s.setInt(1, 600);
                return List.of(Clients.Moved.rows("select", count(s.executeQuery()), 1));
            }
        });
        VERBS.put("prepared", where -> {
            long rows = 0;
            try (Connection c = connect(where, Map.of("prepareThreshold", "1"));
                    PreparedStatement s = c.prepareStatement(GENEALOGY + " where id < ?")) {
                for (int n = 0; n < 30; n++) {
                    s.setInt(1, n);
                    rows += count(s.executeQuery());
                }
            }
            return List.of(Clients.Moved.rows("select", rows, 30));
        });
        VERBS.put("cursor", where -> {
            long rows = 0;
            try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
                c.setAutoCommit(false);
                s.execute("declare walk cursor for " + GENEALOGY);
                for (long page; (page = count(s.executeQuery("fetch 130 from walk"))) > 0; ) rows += page;
                s.execute("close walk");
                c.commit();
            }
            return List.of(Clients.Moved.rows("select", rows, null));
        });
        VERBS.put("partial Execute", where -> {
            try (Connection c = connect(where, Map.of())) {
                c.setAutoCommit(false);
                try (PreparedStatement s = c.prepareStatement(GENEALOGY)) {
                    s.setFetchSize(130);
                    long rows = count(s.executeQuery());
                    c.commit();
                    return List.of(Clients.Moved.rows("select", rows, null));
                }
            }
        });
        VERBS.put("pipelined", where -> {
            try (Connection c = connect(where, Map.of());
                    PreparedStatement s = c.prepareStatement("insert into mes.orders values (?, 3)")) {
                for (int n = 0; n < 80; n++) {
                    s.setInt(1, n);
                    s.addBatch();
                }
                return List.of(Clients.Moved.rows("insert", IntStream.of(s.executeBatch()).sum(), 80));
            }
        });
        VERBS.put("COPY out, text", where -> copyOut(where, ""));
        VERBS.put("COPY out, CSV", where -> copyOut(where, "(format csv, header)"));
        VERBS.put("COPY out, binary", where -> copyOut(where, "(format binary)"));
        VERBS.put("COPY in, text", where -> copyIn(where, "", lines("\t", "")));
        VERBS.put("COPY in, CSV", where -> copyIn(where, "(format csv, header)", lines(",", "id,quantity\n")));
        VERBS.put("COPY in, binary", where -> copyIn(where, "(format binary)", binary()));
        VERBS.put("insert, update, delete", where -> {
            try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
                long inserted = s.executeUpdate("insert into mes.orders select n, -47 from generate_series(1, 50) n");
                long updated = s.executeUpdate("update mes.orders set quantity = -48 where quantity = -47");
                long returned = count(s.executeQuery("delete from mes.orders where quantity = -48 and id <= 20 returning id"));
                long deleted = s.executeUpdate("delete from mes.orders where quantity = -48");
                return List.of(
                        Clients.Moved.rows("insert", inserted, 1),
                        Clients.Moved.rows("update", updated, 1),
                        Clients.Moved.rows("delete", deleted + returned, 2),
                        Clients.Moved.rows("select", returned, null));
            }
        });
        VERBS.put("merge", where -> {
            try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
                return List.of(Clients.Moved.rows("update", s.executeUpdate(
                        "merge into mes.orders o using (select n from generate_series(1, 25) n) s on o.id = -100 - s.n "
                                + "when matched then delete when not matched then insert values (-100 - s.n, -9)"), 1));
            }
        });
        VERBS.put("function call", where -> {
            try (Connection c = connect(where, Map.of());
                    PreparedStatement s = c.prepareStatement("select * from mes.stations(?, ?)");
                    Statement call = c.createStatement()) {
                s.setInt(1, 1);
                s.setInt(2, 60);
                long rows = count(s.executeQuery()) + count(call.executeQuery("call mes.recount(1)"));
                return List.of(Clients.Moved.rows("select", rows, null), Clients.Moved.messages("call", 1));
            }
        });
        VERBS.put("FunctionCall message", Jdbc::fastpath);
        VERBS.put("account administration", where -> {
            String name = "jdbc_contractor";
            List<String> statements = List.of(
                    "create role " + name + " login password '" + Clients.PLACEHOLDER + "'",
                    "alter role " + name + " password '" + Clients.PLACEHOLDER + "'",
                    "grant select on mes.genealogy to " + name,
                    "revoke select on mes.genealogy from " + name,
                    "drop role " + name);
            try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
                for (String statement : statements) s.execute(statement);
            }
            return List.of(Clients.Moved.messages("admin", statements.size()));
        });
        VERBS.put("logical replication", Jdbc::replication);
        VERBS.put("result of 10 MB", where -> {
            try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
                return List.of(Clients.Moved.rows("select", count(s.executeQuery(where.more().get("large"))), 1));
            }
        });
    }

    static Connection connect(Clients.Where where, Map<String, String> more) throws Exception {
        Properties given = new Properties();
        given.setProperty("user", Clients.ACCOUNT);
        given.setProperty("password", Clients.PLACEHOLDER);
        given.setProperty("sslmode", "disable");
        given.setProperty("gssEncMode", "disable");
        more.forEach(given::setProperty);
        return DriverManager.getConnection("jdbc:postgresql://" + where.address() + ":" + where.port() + "/plant", given);
    }

    static long count(ResultSet rows) throws Exception {
        long count = 0;
        while (rows.next()) count++;
        rows.close();
        return count;
    }

    static List<Clients.Moved> copyOut(Clients.Where where, String options) throws Exception {
        try (Connection c = connect(where, Map.of())) {
            CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
            long rows = copies.copyOut("copy mes.genealogy to stdout " + options, new ByteArrayOutputStream());
            return List.of(Clients.Moved.rows("copy", rows, 1));
        }
    }

    static List<Clients.Moved> copyIn(Clients.Where where, String options, byte[] data) throws Exception {
        try (Connection c = connect(where, Map.of())) {
            CopyManager copies = c.unwrap(PGConnection.class).getCopyAPI();
            long rows = copies.copyIn("copy mes.orders from stdin " + options, new ByteArrayInputStream(data));
            return List.of(Clients.Moved.rows("copy", rows, 1));
        }
    }

    static byte[] lines(String separator, String head) {
        String body = IntStream.range(0, 300).mapToObj(n -> n + separator + "2\n").collect(Collectors.joining());
        return (head + body).getBytes(StandardCharsets.US_ASCII);
    }

    /** PostgreSQL's binary COPY: signature, flags, extension, tuples, trailer. */
    static byte[] binary() {
        ByteBuffer out = ByteBuffer.allocate(19 + 300 * 18 + 2);
        out.put("PGCOPY\n\u00ff\r\n\0".getBytes(StandardCharsets.ISO_8859_1)).putInt(0).putInt(0);
        for (int n = 0; n < 300; n++) out.putShort((short) 2).putInt(4).putInt(n).putInt(4).putInt(2);
        return out.putShort((short) -1).array();
    }

    /** FunctionCall messages (PostgreSQL, 55.2.5), which the driver's large objects are made of. */
    @SuppressWarnings("deprecation")
    static List<Clients.Moved> fastpath(Clients.Where where) throws Exception {
        try (Connection c = connect(where, Map.of()); Statement s = c.createStatement()) {
            ResultSet row = s.executeQuery("select 'abs(int4)'::regprocedure::oid::int4");
            row.next();
            int number = row.getInt(1);
            Fastpath calls = c.unwrap(PGConnection.class).getFastpathAPI();
            for (int n = 0; n < 12; n++) {
                byte[] answer = calls.fastpath(number, new FastpathArg[] {new FastpathArg(-n)});
                if (ByteBuffer.wrap(answer).getInt() != n) throw new IllegalStateException("abs(" + -n + ")");
            }
            return List.of(Clients.Moved.rows("select", 1, 1), Clients.Moved.messages("call", 12));
        }
    }

    static List<Clients.Moved> replication(Clients.Where where) throws Exception {
        long rows = 0;
        LogSequenceNumber end = LogSequenceNumber.valueOf(Long.parseLong(where.more().get("end")));
        Map<String, String> options = Map.of("replication", "database", "assumeMinServerVersion", "9.4", "preferQueryMode", "simple");
        try (Connection c = connect(where, options)) {
            PGReplicationStream stream = c.unwrap(PGConnection.class).getReplicationAPI().replicationStream().logical()
                    .withSlotName("pgoutput_2").withSlotOption("proto_version", 1).withSlotOption("publication_names", "changes")
                    .withStatusInterval(1, java.util.concurrent.TimeUnit.SECONDS).start();
            while (stream.getLastReceiveLSN().asLong() < end.asLong()) {
                ByteBuffer message = stream.readPending();
                if (message == null) {
                    Thread.sleep(10);
                    continue;
                }
                byte tag = message.get();
                if (tag == 'I' || tag == 'U' || tag == 'D') rows++;
            }
            stream.close();
        }
        return List.of(Clients.Moved.rows("replicate", rows, null));
    }

    private Jdbc() {}
}
