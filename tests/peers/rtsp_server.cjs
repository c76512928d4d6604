// RTSP server for one publisher and its viewers. Usage: node rtsp_server.cjs PUBLISH_PORT VIEW_PORT RTP_PORT
const RtspServer = require("rtsp-streaming-server").default;

const [serverPort, clientPort, rtpPortStart] = process.argv.slice(2).map(Number);
const authentication = async (username, password) => username === "viewer" && password === "right";
const server = new RtspServer({
  serverPort,
  clientPort,
  rtpPortStart,
  rtpPortCount: 100,
  clientServerHooks: { authentication },
});
server.start().then(() => console.log("started"));
