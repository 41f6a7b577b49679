import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import org.eclipse.paho.client.mqttv3.MqttClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Eclipse Paho for Java, both of its clients: MQTT 3.1.1 and 5.0. */
final class Paho {
    static final int MESSAGES = 50;
    static final byte[] PAYLOAD = "{\"oee\":0.81}".getBytes();
    static final Map<String, Clients.Verb> VERBS = new LinkedHashMap<>();

    static {
        for (int qos = 0; qos < 3; qos++) {
            int level = qos;
            VERBS.put("publish and subscribe, 3.1.1, QoS " + qos, where -> pair(where, level, "tcp", where.port()));
            VERBS.put("publish and subscribe, 5.0, QoS " + qos, where -> pair5(where, level, false));
        }
        VERBS.put("retained, wildcard replay", Paho::retained);
        VERBS.put("shared subscription", Paho::shared);
        VERBS.put("topic alias", where -> pair5(where, 0, true));
        VERBS.put("WebSocket", where -> pair(where, 1, "ws", Integer.parseInt(where.more().get("websocket"))));
    }

    static MqttClient connect(Clients.Where where, String name, String scheme, int port, AtomicLong arrived) throws Exception {
        String path = scheme.equals("ws") ? "/mqtt" : "";
        MqttClient client = new MqttClient(scheme + "://" + where.address() + ":" + port + path, name, new MemoryPersistence());
        MqttConnectOptions options = new MqttConnectOptions();
        options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setUserName(Clients.ACCOUNT);
        options.setPassword(Clients.PLACEHOLDER.toCharArray());
        client.setTimeToWait(15_000);
        client.setCallback(new org.eclipse.paho.client.mqttv3.MqttCallback() {
            @Override public void connectionLost(Throwable cause) {}
            @Override public void messageArrived(String topic, MqttMessage message) { arrived.incrementAndGet(); }
            @Override public void deliveryComplete(org.eclipse.paho.client.mqttv3.IMqttDeliveryToken token) {}
        });
        client.connect(options);
        return client;
    }

    static void waitFor(AtomicLong arrived, long wanted) throws Exception {
        for (int n = 0; n < 1500 && arrived.get() < wanted; n++) Thread.sleep(10);
        if (arrived.get() < wanted) throw new IllegalStateException(arrived + " of " + wanted + " publishes arrived");
        Thread.sleep(50);
    }

    static List<Clients.Moved> told(long sent, long arrived) {
        return List.of(Clients.Moved.messages("publish", sent), Clients.Moved.messages("subscribe", arrived));
    }

    static List<Clients.Moved> pair(Clients.Where where, int qos, String scheme, int port) throws Exception {
        AtomicLong arrived = new AtomicLong();
        MqttClient subscriber = connect(where, "java-sub-" + scheme + qos, scheme, port, arrived);
        MqttClient publisher = connect(where, "java-pub-" + scheme + qos, scheme, port, new AtomicLong());
        String topic = "north/java/" + scheme + "/" + qos;
        subscriber.subscribe(topic, qos);
        // The blocking client returns once the message is acknowledged.
        for (int n = 0; n < MESSAGES; n++) publisher.publish(topic, PAYLOAD, qos, false);
        waitFor(arrived, MESSAGES);
        publisher.disconnect();
        subscriber.disconnect();
        return told(MESSAGES, arrived.get());
    }

    static List<Clients.Moved> retained(Clients.Where where) throws Exception {
        AtomicLong arrived = new AtomicLong();
        MqttClient publisher = connect(where, "java-retains", "tcp", where.port(), new AtomicLong());
        long sent = 0;
        for (int line = 0; line < 20; line++, sent++) publisher.publish("north/java" + line + "/state", PAYLOAD, 1, true);
        MqttClient late = connect(where, "java-late", "tcp", where.port(), arrived);
        late.subscribe("north/+/state", 1);
        waitFor(arrived, 20);
        late.disconnect();
        for (int line = 0; line < 20; line++, sent++) publisher.publish("north/java" + line + "/state", new byte[0], 1, true);
        publisher.disconnect();
        return told(sent, arrived.get());
    }

    static org.eclipse.paho.mqttv5.client.MqttClient connect5(Clients.Where where, String name, AtomicLong arrived) throws Exception {
        var client = new org.eclipse.paho.mqttv5.client.MqttClient("tcp://" + where.address() + ":" + where.port(), name,
                new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence());
        var options = new org.eclipse.paho.mqttv5.client.MqttConnectionOptions();
        options.setUserName(Clients.ACCOUNT);
        options.setPassword(Clients.PLACEHOLDER.getBytes());
        options.setTopicAliasMaximum(10);
        client.setTimeToWait(15_000);
        client.setCallback(new org.eclipse.paho.mqttv5.client.MqttCallback() {
            @Override public void disconnected(org.eclipse.paho.mqttv5.client.MqttDisconnectResponse response) {}
            @Override public void mqttErrorOccurred(org.eclipse.paho.mqttv5.common.MqttException exception) {}
            @Override public void messageArrived(String topic, org.eclipse.paho.mqttv5.common.MqttMessage message) { arrived.incrementAndGet(); }
            @Override public void deliveryComplete(org.eclipse.paho.mqttv5.client.IMqttToken token) {}
            @Override public void connectComplete(boolean reconnect, String uri) {}
            @Override public void authPacketArrived(int code, org.eclipse.paho.mqttv5.common.packet.MqttProperties properties) {}
        });
        client.connect(options);
        return client;
    }

    static List<Clients.Moved> pair5(Clients.Where where, int qos, boolean alias) throws Exception {
        AtomicLong arrived = new AtomicLong();
        var subscriber = connect5(where, "java-sub5-" + qos + alias, arrived);
        var publisher = connect5(where, "java-pub5-" + qos + alias, new AtomicLong());
        String topic = "north/java5/" + qos + "/" + alias;
        subscriber.subscribe(topic, qos);
        for (int n = 0; n < MESSAGES; n++) {
            var message = new org.eclipse.paho.mqttv5.common.MqttMessage(PAYLOAD, qos, false, null);
            if (alias) {
                var properties = new org.eclipse.paho.mqttv5.common.packet.MqttProperties();
                properties.setTopicAlias(3);
                message.setProperties(properties);
            }
            publisher.publish(topic, message);
        }
        waitFor(arrived, MESSAGES);
        publisher.disconnect();
        subscriber.disconnect();
        return told(MESSAGES, arrived.get());
    }

    static List<Clients.Moved> shared(Clients.Where where) throws Exception {
        AtomicLong arrived = new AtomicLong();
        List<org.eclipse.paho.mqttv5.client.MqttClient> members = new ArrayList<>();
        for (int n = 0; n < 2; n++) {
            var member = connect5(where, "java-member-" + n, arrived);
            member.subscribe("$share/java/north/java-shared/#", 1);
            members.add(member);
        }
        var publisher = connect5(where, "java-pub-shared", new AtomicLong());
        for (int n = 0; n < MESSAGES; n++) publisher.publish("north/java-shared/" + n, PAYLOAD, 1, false);
        waitFor(arrived, MESSAGES);
        publisher.disconnect();
        for (var member : members) member.disconnect();
        return told(MESSAGES, arrived.get());
    }

    private Paho() {}
}
