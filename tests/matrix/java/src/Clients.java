import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * The Java clients of the table. One line in: STACK, VERB, ADDRESS, PORT, then what else the verb needs, parted by tabs.
 * One line out: what the client counted, as a JSON list of ledger entries, or {"error": …}.
 */
public final class Clients {
    static final String ACCOUNT = "svc_report";
    static final String PLACEHOLDER = "placeholder";

    /** Where a verb is done. */
    record Where(String address, int port, Map<String, String> more) {}

    /** What one account moved by one operation; null is what this client cannot count. */
    record Moved(String operation, Long rows, Long values, Long messages) {
        static Moved rows(String operation, long rows, Integer messages) {
            return new Moved(operation, rows, null, messages == null ? null : (long) messages);
        }

        static Moved messages(String operation, long messages) {
            return new Moved(operation, null, null, messages);
        }

        static Moved values(String operation, long values) {
            return new Moved(operation, null, values, null);
        }

        String json() {
            StringBuilder text = new StringBuilder("{\"account\": \"" + ACCOUNT + "\", \"operation\": \"" + operation + "\"");
            if (rows != null) text.append(", \"rows\": ").append(rows);
            if (values != null) text.append(", \"values\": ").append(values);
            if (messages != null) text.append(", \"messages\": ").append(messages);
            return text.append("}").toString();
        }
    }

    @FunctionalInterface
    interface Verb {
        List<Moved> run(Where where) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        // Libraries that log to standard output must not spoil the answers.
        PrintStream out = System.out;
        System.setOut(System.err);
        Map<String, Map<String, Verb>> stacks = Map.of("jdbc", Jdbc.VERBS, "paho", Paho.VERBS, "milo", MiloClient.VERBS);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = in.readLine()) != null; ) {
            String[] words = line.split("\t");
            if (words[0].equals("verbs")) {
                out.println(String.join("\t", stacks.get(words[1]).keySet()));
                out.flush();
                continue;
            }
            Map<String, String> more = new java.util.HashMap<>();
            for (int i = 4; i < words.length; i++) {
                String[] pair = words[i].split("=", 2);
                more.put(pair[0], pair[1]);
            }
            try {
                List<Moved> moved = stacks.get(words[0]).get(words[1]).run(new Where(words[2], Integer.parseInt(words[3]), more));
                List<String> told = new ArrayList<>();
                for (Moved one : moved) told.add(one.json());
                out.println("[" + String.join(", ", told) + "]");
            } catch (Throwable error) {
                error.printStackTrace();
                out.println("{\"error\": \"" + String.valueOf(error).replaceAll("[\\\\\"\\p{Cntrl}]", " ") + "\"}");
            }
            out.flush();
        }
        System.exit(0);
    }

    private Clients() {}
}
