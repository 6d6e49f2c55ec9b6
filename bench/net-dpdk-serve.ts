// Serves a device of `net-dpdk-device.ts` until it is told to end: SOCKET FRAME-BYTES.
import { custom, type DeviceSpec, serveVhostUser } from "#dist/index.js";
import { prepare } from "./net-dpdk-device.js";

const [socketPath = "", frameBytes = "0"] = process.argv.slice(2);
const options = { frameBytes: Number(frameBytes) };
const device: DeviceSpec = {
  ...custom(new URL("./net-dpdk-device.js", import.meta.url)),
  prepare: (host) => prepare(options, host),
};
const server = await serveVhostUser({
  socketPath,
  device,
  memory: "any", // testpmd's, without huge pages, can't be sealed
  pollMicroseconds: 1000,
  onEvent: ({ event }) => console.log(event),
});
process.once("SIGINT", () => void server.close());
