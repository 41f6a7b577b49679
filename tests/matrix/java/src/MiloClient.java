import static org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.uint;

import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.eclipse.milo.opcua.sdk.client.OpcUaClient;
import org.eclipse.milo.opcua.sdk.client.identity.UsernameProvider;
import org.eclipse.milo.opcua.sdk.client.subscriptions.OpcUaMonitoredItem;
import org.eclipse.milo.opcua.sdk.client.subscriptions.OpcUaSubscription;
import org.eclipse.milo.opcua.stack.core.AttributeId;
import org.eclipse.milo.opcua.stack.core.NodeIds;
import org.eclipse.milo.opcua.stack.core.security.SecurityPolicy;
import org.eclipse.milo.opcua.stack.core.types.builtin.*;
import org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.UInteger;
import org.eclipse.milo.opcua.stack.core.types.enumerated.*;
import org.eclipse.milo.opcua.stack.core.types.structured.*;

/** Eclipse Milo's client. Values are counted as the library hands them over, decoded. */
final class MiloClient {
    static final NodeId FOLDER = new NodeId(2, "Line");
    static final NodeId METHOD = new NodeId(2, "Line/Double");
    static final Instant BEGIN = Instant.parse("2026-01-01T00:00:00Z");
    static final Map<String, Clients.Verb> VERBS = new LinkedHashMap<>();

    @FunctionalInterface
    interface Work {
        List<Clients.Moved> run(OpcUaClient client, Clients.Where where) throws Exception;
    }

    static {
        put("read", (client, where) -> {
            long values = 0;
            for (int n = 0; n < 3; n++) values += client.readValues(0, TimestampsToReturn.Both, nodes(0, 40)).size();
            return List.of(Clients.Moved.values("read", values));
        });
        put("read in chunks", (client, where) -> {
            List<ReadValueId> wanted = IntStream.range(0, 5000)
                    .mapToObj(n -> new ReadValueId(node(n % 40), AttributeId.Value.uid(), null, QualifiedName.NULL_VALUE)).toList();
            return List.of(Clients.Moved.values("read", client.read(0, TimestampsToReturn.Both, wanted).getResults().length));
        });
        put("write", (client, where) -> {
            long written = 0;
            for (double value = 1; value <= 2; value++) {
                DataValue data = DataValue.valueOnly(Variant.ofDouble(value));
                List<DataValue> values = IntStream.range(0, 10).mapToObj(n -> data).toList();
                for (StatusCode code : client.writeValues(nodes(20, 30), values)) {
                    if (!code.isGood()) throw new IllegalStateException(code.toString());
                    written++;
                }
            }
            return List.of(Clients.Moved.values("write", written));
        });
        put("browse", (client, where) -> {
            client.browse(browsing());
            return List.of(Clients.Moved.messages("browse", 2));
        });
        put("browse next", (client, where) -> {
            ViewDescription view = new ViewDescription(NodeId.NULL_VALUE, DateTime.MIN_VALUE, uint(0));
            BrowseResult result = client.browse(view, uint(15), List.of(browsing())).getResults()[0];
            long requests = 1;
            while (result.getContinuationPoint() != null && result.getContinuationPoint().isNotNull()) {
                result = client.browseNext(false, List.of(result.getContinuationPoint())).getResults()[0];
                requests++;
            }
            if (requests < 3) throw new IllegalStateException(requests + " requests");
            return List.of(Clients.Moved.messages("browse", 2 * requests));
        });
        put("call", (client, where) -> {
            for (double value = 1; value <= 3; value++) {
                Variant[] given = {Variant.ofDouble(value)};
                CallMethodResult result = client.call(List.of(new CallMethodRequest(FOLDER, METHOD, given))).getResults()[0];
                if (!Double.valueOf(2 * value).equals(result.getOutputArguments()[0].value())) throw new IllegalStateException(result.toString());
            }
            return List.of(Clients.Moved.messages("call", 6));
        });
        put("history read, continuation points", (client, where) -> history(client, Integer.parseInt(where.more().getOrDefault("page", "0"))));
        put("history read in chunks", (client, where) -> history(client, 0));
        put("history read, processed", (client, where) -> {
            NodeId[] average = {NodeIds.AggregateFunction_Average};
            ReadProcessedDetails details = new ReadProcessedDetails(new DateTime(BEGIN), new DateTime(BEGIN.plusSeconds(1000)), 10_000.0,
                    average, new AggregateConfiguration(true, true, org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.ubyte(100),
                            org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.ubyte(100), false));
            return List.of(Clients.Moved.values("history-read", given(client, details)));
        });
        put("history read, at time", (client, where) -> {
            DateTime[] moments = IntStream.range(0, 60).mapToObj(n -> new DateTime(BEGIN.plusSeconds(7L * n))).toArray(DateTime[]::new);
            return List.of(Clients.Moved.values("history-read", given(client, new ReadAtTimeDetails(moments, true))));
        });
        put("history update", (client, where) -> {
            DataValue[] values = IntStream.range(0, 25)
                    .mapToObj(n -> new DataValue(Variant.ofDouble(n), StatusCode.GOOD, new DateTime(BEGIN.plusSeconds(5000 + n))))
                    .toArray(DataValue[]::new);
            List<HistoryUpdateDetails> details = List.of(
                    new UpdateDataDetails(node(0), PerformUpdateType.Update, values), new UpdateDataDetails(node(1), PerformUpdateType.Insert, values));
            long written = 0;
            for (HistoryUpdateResult result : client.historyUpdate(details).getResults()) written += result.getOperationResults().length;
            client.historyUpdate(List.of(new DeleteRawModifiedDetails(
                    node(0), false, new DateTime(BEGIN.plusSeconds(5000)), new DateTime(BEGIN.plusSeconds(6000)))));
            return List.of(Clients.Moved.values("history-write", written));
        });
        put("subscribe", (client, where) -> {
            AtomicLong values = new AtomicLong();
            OpcUaSubscription subscription = subscription(client, values, 8, 16);
            Thread.sleep(700);
            subscription.delete();
            Thread.sleep(100);
            return List.of(Clients.Moved.values("subscribe", values.get()));
        });
        put("events", (client, where) -> {
            AtomicLong values = new AtomicLong();
            OpcUaSubscription subscription = new OpcUaSubscription(client, 100);
            subscription.create();
            SimpleAttributeOperand message = new SimpleAttributeOperand(
                    NodeIds.BaseEventType, new QualifiedName[] {new QualifiedName(0, "Message")}, AttributeId.Value.uid(), null);
            EventFilter filter = new EventFilter(new SimpleAttributeOperand[] {message}, new ContentFilter(null));
            OpcUaMonitoredItem item = OpcUaMonitoredItem.newEventItem(NodeIds.Server, filter);
            item.setEventValueListener((one, fields) -> values.incrementAndGet());
            subscription.addMonitoredItem(item);
            subscription.synchronizeMonitoredItems();
            Thread.sleep(1200);
            subscription.delete();
            Thread.sleep(100);
            if (values.get() == 0) throw new IllegalStateException("no event came");
            return List.of(Clients.Moved.values("subscribe", values.get()));
        });
        put("monitored items modified, deleted", (client, where) -> {
            AtomicLong values = new AtomicLong();
            OpcUaSubscription subscription = subscription(client, values, 8, 16);
            Thread.sleep(300);
            List<OpcUaMonitoredItem> items = subscription.getMonitoredItems();
            items.get(3).setSamplingInterval(250);
            subscription.modifyMonitoredItems();
            Thread.sleep(300);
            subscription.removeMonitoredItems(new ArrayList<>(items.subList(0, 2)));
            subscription.deleteMonitoredItems();
            Thread.sleep(300);
            subscription.delete();
            Thread.sleep(100);
            return List.of(Clients.Moved.values("subscribe", values.get()));
        });
        put("republish", (client, where) -> {
            UInteger number = bare(client);
            long values = 0;
            List<UInteger> sequences = new ArrayList<>();
            for (int n = 0; n < 4; n++) {
                PublishResponse answer = client.publish(List.of());
                values += notified(client, answer.getNotificationMessage());
                sequences.add(answer.getNotificationMessage().getSequenceNumber());
            }
            for (UInteger sequence : sequences) values += notified(client, client.republish(number, sequence).getNotificationMessage());
            client.deleteSubscriptions(List.of(number));
            return List.of(Clients.Moved.values("subscribe", values));
        });
        put("subscription transferred", (client, where) -> {
            UInteger number = bare(client);
            long values = notified(client, client.publish(List.of()).getNotificationMessage());
            OpcUaClient other = connect(where);
            // Some servers forget a subscription that waits for a Publish of the connection it is taken from.
            List<java.util.concurrent.CompletableFuture<PublishResponse>> waiting =
                    IntStream.range(0, 10).mapToObj(n -> client.publishAsync(List.of())).collect(Collectors.toList());
            StatusCode moved = other.transferSubscriptions(List.of(number), true).getResults()[0].getStatusCode();
            if (!moved.isGood()) throw new IllegalStateException(moved.toString());
            for (int n = 0; n < 4; n++) values += notified(client, other.publish(List.of()).getNotificationMessage());
            other.deleteSubscriptions(List.of(number));
            for (var one : waiting) {
                if (one.isDone() && !one.isCompletedExceptionally()) values += notified(client, one.get().getNotificationMessage());
            }
            other.disconnect();
            return List.of(Clients.Moved.values("subscribe", values));
        });
    }

    static void put(String verb, Work work) {
        VERBS.put(verb, where -> {
            OpcUaClient client = connect(where);
            try {
                return work.run(client, where);
            } finally {
                client.disconnect();
            }
        });
    }

    static OpcUaClient connect(Clients.Where where) throws Exception {
        OpcUaClient client = OpcUaClient.create(
                "opc.tcp://" + where.address() + ":" + where.port() + "/",
                endpoints -> endpoints.stream().filter(e -> e.getSecurityPolicyUri().equals(SecurityPolicy.None.getUri())).findFirst(),
                transport -> {},
                config -> config.setIdentityProvider(new UsernameProvider(Clients.ACCOUNT, Clients.PLACEHOLDER))
                        .setRequestTimeout(uint(15_000)).setKeepAliveInterval(uint(60_000)).setApplicationUri("urn:plant:milo"));
        client.connect();
        return client;
    }

    static NodeId node(int number) {
        return new NodeId(2, String.format("Line/V%02d", number));
    }

    static List<NodeId> nodes(int from, int to) {
        return IntStream.range(from, to).mapToObj(MiloClient::node).toList();
    }

    static BrowseDescription browsing() {
        return new BrowseDescription(FOLDER, BrowseDirection.Forward, NodeIds.HierarchicalReferences, true, uint(0), uint(63));
    }

    static List<Clients.Moved> history(OpcUaClient client, int page) throws Exception {
        ReadRawModifiedDetails details = new ReadRawModifiedDetails(
                false, new DateTime(BEGIN), new DateTime(BEGIN.plus(Duration.ofDays(1))), uint(page), false);
        List<HistoryReadValueId> wanted = nodes(0, 4).stream()
                .map(node -> new HistoryReadValueId(node, null, QualifiedName.NULL_VALUE, ByteString.NULL_VALUE)).toList();
        long values = 0, requests = 0;
        while (!wanted.isEmpty()) {
            HistoryReadResult[] results = client.historyRead(details, TimestampsToReturn.Both, false, wanted).getResults();
            requests++;
            List<HistoryReadValueId> following = new ArrayList<>();
            for (int n = 0; n < results.length; n++) {
                if (!results[n].getStatusCode().isGood()) throw new IllegalStateException(results[n].getStatusCode().toString());
                HistoryData data = (HistoryData) results[n].getHistoryData().decode(client.getStaticEncodingContext());
                values += data.getDataValues() == null ? 0 : data.getDataValues().length;
                ByteString more = results[n].getContinuationPoint();
                if (more != null && more.isNotNull() && more.length() > 0) {
                    following.add(new HistoryReadValueId(wanted.get(n).getNodeId(), null, QualifiedName.NULL_VALUE, more));
                }
            }
            wanted = following;
        }
        return List.of(new Clients.Moved("history-read", null, values, 2 * requests));
    }

    static long given(OpcUaClient client, HistoryReadDetails details) throws Exception {
        List<HistoryReadValueId> wanted = nodes(0, 4).stream()
                .map(node -> new HistoryReadValueId(node, null, QualifiedName.NULL_VALUE, ByteString.NULL_VALUE)).toList();
        long values = 0;
        for (HistoryReadResult result : client.historyRead(details, TimestampsToReturn.Both, false, wanted).getResults()) {
            if (!result.getStatusCode().isGood()) throw new IllegalStateException(result.getStatusCode().toString());
            values += ((HistoryData) result.getHistoryData().decode(client.getStaticEncodingContext())).getDataValues().length;
        }
        return values;
    }

    static OpcUaSubscription subscription(OpcUaClient client, AtomicLong values, int from, int to) throws Exception {
        OpcUaSubscription subscription = new OpcUaSubscription(client, 100);
        subscription.create();
        for (NodeId node : nodes(from, to)) {
            OpcUaMonitoredItem item = OpcUaMonitoredItem.newDataItem(node);
            item.setSamplingInterval(50);
            item.setQueueSize(uint(10));
            item.setDataValueListener((one, value) -> values.incrementAndGet());
            subscription.addMonitoredItem(item);
        }
        subscription.synchronizeMonitoredItems();
        return subscription;
    }

    /** A subscription without the library's own publishing. */
    static UInteger bare(OpcUaClient client) throws Exception {
        UInteger number = client.createSubscription(100, uint(3000), uint(50), uint(0), true,
                org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.ubyte(0)).getSubscriptionId();
        List<MonitoredItemCreateRequest> items = new ArrayList<>();
        for (int n = 10; n < 15; n++) {
            items.add(new MonitoredItemCreateRequest(new ReadValueId(node(n), AttributeId.Value.uid(), null, QualifiedName.NULL_VALUE),
                    MonitoringMode.Reporting, new MonitoringParameters(uint(n), 50.0, null, uint(10), true)));
        }
        client.createMonitoredItems(number, TimestampsToReturn.Both, items);
        return number;
    }

    static long notified(OpcUaClient client, NotificationMessage message) {
        long count = 0;
        for (ExtensionObject data : message.getNotificationData() == null ? new ExtensionObject[0] : message.getNotificationData()) {
            Object decoded = data.decode(client.getStaticEncodingContext());
            if (decoded instanceof DataChangeNotification changes) count += changes.getMonitoredItems().length;
            if (decoded instanceof EventNotificationList events) count += events.getEvents().length;
        }
        return count;
    }

    private MiloClient() {}
}
