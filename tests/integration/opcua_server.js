// An encrypted OPC UA server with diagnostics and audit events: node opcua_server.js MODULES ADDRESS PORT FOLDER
// Its variables change 40 times after each SIGUSR1.
"use strict";
const fs = require("fs");
const path = require("path");
const [modules, address, port, folder] = process.argv.slice(2);
const from = (name) => require(path.join(modules, "node_modules", name));
const { OPCUAServer } = from("node-opcua-server");
const { OPCUACertificateManager } = from("node-opcua-certificate-manager");
const { nodesets } = from("node-opcua-nodesets");
const { MessageSecurityMode, SecurityPolicy } = from("node-opcua-secure-channel");
const { DataType } = from("node-opcua-variant");
const { makeRoles } = from("node-opcua-address-space");

const expected = fs.readFileSync(path.join(folder, "password"), "utf8");
const PERIOD_MS = 20;
const TICKS = 40;

(async () => {
  const trusting = (name) => new OPCUACertificateManager({ rootFolder: path.join(folder, name), automaticallyAcceptUnknownCertificate: true });
  const server = new OPCUAServer({
    host: address, hostname: address, port: Number(port), nodeset_filename: [nodesets.standard],
    serverInfo: { applicationUri: "urn:plant.example:press" },
    securityPolicies: [SecurityPolicy.Basic256Sha256], securityModes: [MessageSecurityMode.SignAndEncrypt],
    serverCertificateManager: trusting("server"), userCertificateManager: trusting("users"),
    allowAnonymous: false, isAuditing: true, disableDiscovery: true,
    // Who may see who else is there, and how protected (OPC 10000-3, 4.9.2): the monitor, which comes with a certificate.
    userManager: {
      isValidUser: (_, password) => password === expected,
      getUserRoles: (user) => makeRoles(user === "svc_hist" ? "AuthenticatedUser" : "AuthenticatedUser;SecurityAdmin"),
    },
  });
  await server.initialize();
  const own = server.engine.addressSpace.getOwnNamespace();
  const line = own.addFolder("ObjectsFolder", { browseName: "Line" });
  const values = [];
  for (let number = 0; number < 10; number++) {
    const name = `Line/V${number}`;
    const access = "CurrentRead | CurrentWrite";
    const one = own.addVariable({ organizedBy: line, nodeId: `s=${name}`, browseName: name, dataType: "Double", accessLevel: access, userAccessLevel: access });
    one.setValueFromSource({ dataType: DataType.Double, value: 0 });
    // node-opcua has the type of a write's audit event, and leaves raising it to its user.
    const write = one.writeAttribute.bind(one);
    one.writeAttribute = (context, options, ...more) => {
      server.raiseEvent("AuditWriteUpdateEventType", {
        sourceNode: { dataType: DataType.NodeId, value: one.nodeId },
        status: { dataType: DataType.Boolean, value: true },
        clientUserId: { dataType: DataType.String, value: context.getUserName ? context.getUserName() : "" },
      });
      return write(context, options, ...more);
    };
    values.push(one);
  }
  await server.start();
  process.on("SIGUSR1", () => {
    let tick = 0;
    const timer = setInterval(() => {
      tick += 1;
      for (const one of values) one.setValueFromSource({ dataType: DataType.Double, value: Date.now() + tick });
      if (tick === TICKS) clearInterval(timer);
    }, PERIOD_MS);
  });
  console.log("ready");
})();
