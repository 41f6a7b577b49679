// An edge node with a device by sparkplug-client (Eclipse Tahu's and Cirrus Link's own, npm), which says on stdout what it published:
// messages and values by topic. Usage: node tahu.js PORT PASSWORD, with NODE_PATH where `npm install sparkplug-client@3.2.4` put it.
"use strict";
const sparkplug = require("sparkplug-client");
const [port, password] = process.argv.slice(2);
const [group, node, device] = ["north", "tahu-1", "robot"];
const told = { messages: {}, values: {}, unread: {} };

// A table is as many values as it has cells, a template as it has metrics and parameters, a metric at least one.
const valuesOf = (metric) => {
  const { type, value } = metric;
  if (type === "DataSet") return Math.max(1, value.rows.flat().length);
  if (type === "Template") return Math.max(1, sum(value.metrics || []) + (value.parameters || []).length);
  return 1;
};
const sum = (metrics) => metrics.reduce((all, metric) => all + valuesOf(metric), 0);
const tell = (topic, metrics, compressed) => {
  told.messages[topic] = (told.messages[topic] || 0) + 1;
  told.values[topic] = (told.values[topic] || 0) + (compressed ? 0 : sum(metrics));
  if (compressed) told.unread[topic] = (told.unread[topic] || 0) + 1;
};

const table = {
  numOfColumns: 3,
  types: ["string", "double", "boolean"],
  columns: ["part", "scrap", "ok"],
  rows: [["swordfish", 1.5, true], ["P-2", 0.0, false], ["P-3", 4.25, true]],
};
const pump = {
  templateRef: "Pump",
  isDefinition: false,
  metrics: [
    { name: "rpm", type: "int32", value: 1400 },
    { name: "seal", type: "Template", value: { templateRef: "Seal", isDefinition: false, metrics: [{ name: "wear", type: "float", value: 0.5 }] } },
  ],
  parameters: [{ name: "size", type: "string", value: "DN50" }],
};
const properties = { unit: { type: "string", value: "degC" }, limit: { type: "double", value: 80.0 } };
const now = Date.now();
const metrics = [
  { name: "Temperature", alias: 1, type: "double", value: 21.5, properties, timestamp: now },
  { name: "Recipe/Step", alias: 2, type: "int32", value: 4 },
  { name: "Operator", alias: 3, type: "string", value: "swordfish" },
  { name: "Scrap", alias: 4, type: "DataSet", value: table },
  { name: "Pump", alias: 5, type: "Template", value: pump },
  { name: "Photo", alias: 6, type: "bytes", value: new Uint8Array(300), metadata: { isMultiPart: false, contentType: "image/png", size: 300 } },
  { name: "Start", alias: 7, type: "datetime", value: new Date(now) },
  { name: "Count", alias: 8, type: "uint64", value: 12 },
];
const short = ({ alias, type, value }) => ({ alias, type, value, timestamp: now });

const client = sparkplug.newClient({
  serverUrl: `tcp://127.0.0.1:${port}`, username: "svc_edge", password, groupId: group, edgeNode: node, clientId: "tahu", version: "spBv1.0", publishDeath: true,
});
client.on("birth", () => {
  const birth = [{ name: "Node Control/Rebirth", type: "boolean", value: false }];
  client.publishNodeBirth({ timestamp: now, metrics: birth });
  // The client has added bdSeq to it.
  tell(`spBv1.0/${group}/NBIRTH/${node}`, birth);
  client.publishDeviceBirth(device, { timestamp: now, metrics });
  tell(`spBv1.0/${group}/DBIRTH/${node}/${device}`, metrics);
  const data = (some, options) => {
    client.publishDeviceData(device, { timestamp: now, metrics: some }, options);
    tell(`spBv1.0/${group}/DDATA/${node}/${device}`, some, options && options.compress);
  };
  data([short(metrics[0])]);
  data([short(metrics[0]), short(metrics[3])]);
  data([short(metrics[4]), short(metrics[5])]);
  data(metrics.map(short));
  data(metrics.map(short), { compress: true, algorithm: "GZIP" });
  const some = [{ name: "Node Control/Rebirth", type: "boolean", value: false }];
  client.publishNodeData({ timestamp: now, metrics: some });
  tell(`spBv1.0/${group}/NDATA/${node}`, some);
  client.publishDeviceDeath(device, { timestamp: now, metrics: [] });
  tell(`spBv1.0/${group}/DDEATH/${node}/${device}`, []);
  setTimeout(() => {
    tell(`spBv1.0/${group}/NDEATH/${node}`, [{ type: "uint64" }]);
    client.stop();
    setTimeout(() => { console.log(JSON.stringify(told)); process.exit(0); }, 300);
  }, 500);
});
