import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/** The Java servers of the table: hivemq ADDRESS PORT WEBSOCKET FOLDER, milo ADDRESS PORT, h2 PORT FOLDER. */
public final class Servers {
    public static void main(String[] arguments) throws Exception {
        switch (arguments[0]) {
            case "hivemq" -> hivemq(arguments[1], arguments[2], arguments[3], Path.of(arguments[4]));
            case "milo" -> MiloServer.start(arguments[1], Integer.parseInt(arguments[2]));
            case "h2" -> h2(arguments[1], Path.of(arguments[2]));
            default -> throw new IllegalArgumentException(arguments[0]);
        }
        Thread.currentThread().join();
    }

    /** HiveMQ CE, which lets in the one account. */
    static void hivemq(String address, String port, String websocket, Path folder) throws Exception {
        for (String name : new String[] {"conf", "data", "extensions"}) Files.createDirectories(folder.resolve(name));
        String listener = "<port>%s</port><bind-address>" + address + "</bind-address>";
        Files.writeString(folder.resolve("conf/config.xml"), "<?xml version=\"1.0\"?><hivemq><listeners><tcp-listener>"
                + String.format(listener, port) + "</tcp-listener><websocket-listener>" + String.format(listener, websocket)
                + "<path>/mqtt</path><subprotocols><subprotocol>mqtt</subprotocol></subprotocols></websocket-listener></listeners>"
                + "<persistence><mode>in-memory</mode></persistence>"
                + "<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics></hivemq>");
        SimpleAuthenticator known = (input, output) -> {
            String name = input.getConnectPacket().getUserName().orElse("");
            Optional<String> password = input.getConnectPacket().getPassword().map(b -> StandardCharsets.UTF_8.decode(b).toString());
            if (name.equals(Clients.ACCOUNT) && password.equals(Optional.of(Clients.PLACEHOLDER))) output.authenticateSuccessfully();
            else output.failAuthentication();
        };
        ExtensionMain accounts = new ExtensionMain() {
            @Override public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
                Services.securityRegistry().setAuthenticatorProvider(one -> known);
            }
            @Override public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
        };
        EmbeddedExtension extension = EmbeddedExtension.builder().withId("accounts").withName("accounts").withVersion("1")
                .withAuthor("matrix").withPriority(1).withStartPriority(1).withExtensionMain(accounts).build();
        EmbeddedHiveMQ.builder().withConfigurationFolder(folder.resolve("conf")).withDataFolder(folder.resolve("data"))
                .withExtensionsFolder(folder.resolve("extensions")).withEmbeddedExtension(extension).build().start().join();
        System.out.println("ready");
    }

    /** H2's server for PostgreSQL's protocol, in memory, with the tables of the other servers. */
    static void h2(String port, Path folder) throws Exception {
        String url = "jdbc:h2:mem:plant;DB_CLOSE_DELAY=-1;MODE=PostgreSQL;DATABASE_TO_LOWER=TRUE;DEFAULT_NULL_ORDERING=HIGH";
        try (var connection = java.sql.DriverManager.getConnection(url, "sa", ""); var statement = connection.createStatement()) {
            statement.execute("create user " + Clients.ACCOUNT + " password '" + Clients.PLACEHOLDER + "' admin");
            statement.execute("create schema mes");
            statement.execute("create table mes.genealogy (id int, part text, station text)");
            statement.execute("insert into mes.genealogy select \"X\", 'part ' || \"X\", 'station ' || mod(\"X\", 7) from system_range(1, 1000)");
            statement.execute("create table mes.orders (id int, quantity int)");
        }
        org.h2.tools.Server.createPgServer("-pgPort", port, "-pgAllowOthers", "-baseDir", folder.toString(), "-ifNotExists",
                "-key", "plant", "mem:plant").start();
        System.out.println("ready");
    }

    private Servers() {}
}
