import static org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.uint;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.NavigableMap;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;
import org.eclipse.milo.opcua.sdk.core.AccessLevel;
import org.eclipse.milo.opcua.sdk.core.Reference;
import org.eclipse.milo.opcua.sdk.server.*;
import org.eclipse.milo.opcua.sdk.server.identity.UsernameIdentityValidator;
import org.eclipse.milo.opcua.sdk.server.items.DataItem;
import org.eclipse.milo.opcua.sdk.server.items.MonitoredItem;
import org.eclipse.milo.opcua.sdk.server.methods.AbstractMethodInvocationHandler;
import org.eclipse.milo.opcua.sdk.server.model.objects.BaseEventTypeNode;
import org.eclipse.milo.opcua.sdk.server.nodes.UaFolderNode;
import org.eclipse.milo.opcua.sdk.server.nodes.UaMethodNode;
import org.eclipse.milo.opcua.sdk.server.nodes.UaVariableNode;
import org.eclipse.milo.opcua.sdk.server.util.SubscriptionModel;
import org.eclipse.milo.opcua.stack.core.NodeIds;
import org.eclipse.milo.opcua.stack.core.StatusCodes;
import org.eclipse.milo.opcua.stack.core.security.DefaultCertificateManager;
import org.eclipse.milo.opcua.stack.core.security.MemoryCertificateQuarantine;
import org.eclipse.milo.opcua.stack.core.security.SecurityPolicy;
import org.eclipse.milo.opcua.stack.core.transport.TransportProfile;
import org.eclipse.milo.opcua.stack.core.types.builtin.*;
import org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.UInteger;
import org.eclipse.milo.opcua.stack.core.types.enumerated.*;
import org.eclipse.milo.opcua.stack.core.types.structured.*;
import org.eclipse.milo.opcua.stack.transport.server.tcp.OpcTcpServerTransport;
import org.eclipse.milo.opcua.stack.transport.server.tcp.OpcTcpServerTransportConfig;

/** A server of Eclipse Milo's with the nodes of the other servers, and their history, which Milo leaves to its user. */
final class MiloServer {
    static final int NODES = 40, HISTORY = 1000, PAGE = 110;

    static void start(String address, int port) throws Exception {
        UserTokenPolicy passwords = new UserTokenPolicy("username", UserTokenType.UserName, null, null, SecurityPolicy.None.getUri());
        EndpointConfig endpoint = EndpointConfig.newBuilder().setBindAddress(address).setHostname(address).setPath("/").setBindPort(port)
                .setSecurityPolicy(SecurityPolicy.None).setSecurityMode(MessageSecurityMode.None)
                .setTransportProfile(TransportProfile.TCP_UASC_UABINARY).addTokenPolicies(passwords).build();
        OpcUaServerConfig config = OpcUaServerConfig.builder().setApplicationUri("urn:plant:milo-server")
                .setApplicationName(LocalizedText.english("plant")).setProductUri("urn:plant:milo-server").setEndpoints(Set.of(endpoint))
                .setCertificateManager(new DefaultCertificateManager(new MemoryCertificateQuarantine()))
                .setIdentityValidator(new UsernameIdentityValidator(
                        told -> told.getUsername().equals(Clients.ACCOUNT) && told.getPassword().equals(Clients.PLACEHOLDER)))
                .build();
        OpcUaServer server = new OpcUaServer(config, profile -> new OpcTcpServerTransport(OpcTcpServerTransportConfig.newBuilder().build()));
        Line line = new Line(server);
        line.startup();
        server.startup().get();
        System.out.println("ready");
        for (long tick = 1; ; tick++) {
            Thread.sleep(50);
            line.change(tick);
        }
    }

    /** Namespace 2: a folder of variables and a method. */
    static final class Line extends ManagedNamespaceWithLifecycle {
        final List<UaVariableNode> variables = new ArrayList<>();
        final ConcurrentHashMap<NodeId, NavigableMap<Instant, DataValue>> histories = new ConcurrentHashMap<>();
        final SubscriptionModel subscriptions;

        Line(OpcUaServer server) {
            super(server, "urn:plant:line");
            subscriptions = new SubscriptionModel(server, this);
            getLifecycleManager().addLifecycle(subscriptions);
            getLifecycleManager().addStartupTask(this::fill);
        }

        void fill() {
            UaFolderNode folder = new UaFolderNode(getNodeContext(), newNodeId("Line"), newQualifiedName("Line"), LocalizedText.english("Line"));
            getNodeManager().addNode(folder);
            folder.addReference(new Reference(folder.getNodeId(), NodeIds.Organizes, NodeIds.ObjectsFolder.expanded(), false));
            for (int number = 0; number < NODES; number++) {
                String name = String.format("Line/V%02d", number);
                UaVariableNode variable = new UaVariableNode.UaVariableNodeBuilder(getNodeContext()).setNodeId(newNodeId(name))
                        .setAccessLevel(AccessLevel.READ_WRITE).setUserAccessLevel(AccessLevel.READ_WRITE)
                        .setBrowseName(newQualifiedName(name)).setDisplayName(LocalizedText.english(name)).setDataType(NodeIds.Double)
                        .setTypeDefinition(NodeIds.BaseDataVariableType).build();
                variable.setValue(new DataValue(Variant.ofDouble(number)));
                getNodeManager().addNode(variable);
                folder.addOrganizes(variable);
                variables.add(variable);
                if (number < 4) {
                    NavigableMap<Instant, DataValue> history = new ConcurrentSkipListMap<>();
                    for (int step = 0; step < HISTORY; step++) put(history, MiloClient.BEGIN.plusSeconds(step), step);
                    histories.put(variable.getNodeId(), history);
                }
            }
            UaMethodNode method = UaMethodNode.builder(getNodeContext()).setNodeId(newNodeId("Line/Double"))
                    .setBrowseName(newQualifiedName("Double")).setDisplayName(LocalizedText.english("Double")).build();
            method.setInvocationHandler(new Doubled(method));
            getNodeManager().addNode(method);
            method.addReference(new Reference(method.getNodeId(), NodeIds.HasComponent, folder.getNodeId().expanded(), false));
        }

        static void put(NavigableMap<Instant, DataValue> history, Instant moment, double value) {
            history.put(moment, new DataValue(Variant.ofDouble(value), StatusCode.GOOD, new DateTime(moment)));
        }

        void change(long tick) throws Exception {
            for (UaVariableNode variable : variables.subList(10, 15)) variable.setValue(new DataValue(Variant.ofDouble(tick)));
            if (tick % 4 != 0) return;
            BaseEventTypeNode event = getServer().getEventFactory().createEvent(newNodeId(java.util.UUID.randomUUID()), NodeIds.BaseEventType);
            event.setBrowseName(newQualifiedName("event"));
            event.setDisplayName(LocalizedText.english("event"));
            event.setEventId(ByteString.of(ByteBuffer.allocate(8).putLong(tick).array()));
            event.setEventType(NodeIds.BaseEventType);
            event.setSourceNode(NodeIds.Server);
            event.setSourceName("plant");
            event.setTime(DateTime.now());
            event.setReceiveTime(DateTime.NULL_VALUE);
            event.setMessage(LocalizedText.english("synthetic"));
            event.setSeverity(org.eclipse.milo.opcua.stack.core.types.builtin.unsigned.Unsigned.ushort(2));
            getServer().getEventNotifier().fire(event);
            event.delete();
        }

        @Override
        public List<HistoryReadResult> historyRead(
                HistoryReadContext context, HistoryReadDetails details, TimestampsToReturn timestamps, List<HistoryReadValueId> wanted) {
            return wanted.stream().map(one -> one(details, one)).toList();
        }

        HistoryReadResult one(HistoryReadDetails details, HistoryReadValueId wanted) {
            NavigableMap<Instant, DataValue> history = histories.get(wanted.getNodeId());
            List<DataValue> given = new ArrayList<>();
            ByteString more = ByteString.NULL_VALUE;
            if (history == null) return new HistoryReadResult(new StatusCode(StatusCodes.Bad_HistoryOperationUnsupported), more, null);
            if (details instanceof ReadRawModifiedDetails raw) {
                Instant from = raw.getStartTime().getJavaInstant();
                if (wanted.getContinuationPoint() != null && wanted.getContinuationPoint().isNotNull()) {
                    from = Instant.ofEpochSecond(ByteBuffer.wrap(wanted.getContinuationPoint().bytesOrEmpty()).getLong());
                }
                int most = raw.getNumValuesPerNode().intValue() == 0 ? Integer.MAX_VALUE : raw.getNumValuesPerNode().intValue();
                for (var entry : history.subMap(from, true, raw.getEndTime().getJavaInstant(), true).entrySet()) {
                    if (given.size() == most) {
                        more = ByteString.of(ByteBuffer.allocate(8).putLong(entry.getKey().getEpochSecond()).array());
                        break;
                    }
                    given.add(entry.getValue());
                }
            } else if (details instanceof ReadAtTimeDetails at) {
                for (DateTime moment : at.getReqTimes()) {
                    var known = history.floorEntry(moment.getJavaInstant());
                    if (known != null) given.add(known.getValue());
                }
            } else if (details instanceof ReadProcessedDetails processed) {
                Duration step = Duration.ofMillis(processed.getProcessingInterval().longValue());
                Instant end = processed.getEndTime().getJavaInstant();
                for (Instant moment = processed.getStartTime().getJavaInstant(); moment.isBefore(end); moment = moment.plus(step)) {
                    var held = history.subMap(moment, true, moment.plus(step), false).values();
                    double mean = held.stream().mapToDouble(value -> (Double) value.getValue().getValue()).average().orElse(Double.NaN);
                    given.add(new DataValue(Variant.ofDouble(mean), StatusCode.GOOD, new DateTime(moment)));
                }
            } else {
                return new HistoryReadResult(new StatusCode(StatusCodes.Bad_HistoryOperationUnsupported), more, null);
            }
            ExtensionObject data = ExtensionObject.encode(getServer().getStaticEncodingContext(), new HistoryData(given.toArray(new DataValue[0])));
            return new HistoryReadResult(StatusCode.GOOD, more, data);
        }

        @Override
        public List<HistoryUpdateResult> historyUpdate(HistoryUpdateContext context, List<HistoryUpdateDetails> all) {
            List<HistoryUpdateResult> results = new ArrayList<>();
            for (HistoryUpdateDetails details : all) {
                StatusCode[] codes = {};
                if (details instanceof UpdateDataDetails update) {
                    NavigableMap<Instant, DataValue> history = histories.computeIfAbsent(update.getNodeId(), n -> new ConcurrentSkipListMap<>());
                    codes = new StatusCode[update.getUpdateValues().length];
                    Arrays.fill(codes, StatusCode.GOOD);
                    for (DataValue value : update.getUpdateValues()) history.put(value.getSourceTime().getJavaInstant(), value);
                } else if (details instanceof DeleteRawModifiedDetails gone) {
                    histories.get(gone.getNodeId()).subMap(gone.getStartTime().getJavaInstant(), true, gone.getEndTime().getJavaInstant(), false).clear();
                }
                results.add(new HistoryUpdateResult(StatusCode.GOOD, codes, null));
            }
            return results;
        }

        @Override public void onDataItemsCreated(List<DataItem> items) { subscriptions.onDataItemsCreated(items); }
        @Override public void onDataItemsModified(List<DataItem> items) { subscriptions.onDataItemsModified(items); }
        @Override public void onDataItemsDeleted(List<DataItem> items) { subscriptions.onDataItemsDeleted(items); }
        @Override public void onMonitoringModeChanged(List<MonitoredItem> items) { subscriptions.onMonitoringModeChanged(items); }
    }

    static final class Doubled extends AbstractMethodInvocationHandler {
        static final Argument NUMBER = new Argument("value", NodeIds.Double, -1, new UInteger[0], LocalizedText.NULL_VALUE);

        Doubled(UaMethodNode node) {
            super(node);
        }

        @Override public Argument[] getInputArguments() { return new Argument[] {NUMBER}; }
        @Override public Argument[] getOutputArguments() { return new Argument[] {NUMBER}; }

        @Override
        protected Variant[] invoke(InvocationContext context, Variant[] given) {
            return new Variant[] {Variant.ofDouble(2 * (Double) given[0].getValue())};
        }
    }

    private MiloServer() {}
}
