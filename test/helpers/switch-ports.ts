// Ports of a switch in this thread, without devices.

import type { NetStages } from "#dist/devices/net-stage.js";
import { NetSwitchPort } from "#dist/devices/net-switch-port.js";
import { Switch, type SwitchOptions, type SwitchPortOptions } from "#dist/index.js";
import { TASK_WORDS_BYTES } from "#dist/kernel/wait.js";

/** Plugged in, each at a port with these options; `stages`: the first one's. */
export function openPorts(
  options: readonly SwitchPortOptions[],
  ofSwitch: SwitchOptions = {},
  stages?: NetStages,
) {
  const lan = new Switch({ ports: Math.max(2, options.length), ...ofSwitch });
  const plugs = options.map((port) => {
    const words = new SharedArrayBuffer(TASK_WORDS_BYTES);
    return lan.connect(lan.port(port).index, { worker: { words }, wakeFd: undefined });
  });
  const ports = plugs.map(
    (plug, index) => new NetSwitchPort(plug.options, false, index === 0 ? stages : undefined),
  );
  const close = () => {
    for (const port of ports) port.close();
    for (const plug of plugs) plug.close();
    lan.close();
  };
  return { lan, ports, [Symbol.dispose]: close };
}

/** The packet that comes next, which the port takes; `undefined`: there is none. */
export function takeOne(port: NetSwitchPort): Buffer | undefined {
  const pipe = port.peek();
  if (!pipe) return undefined;
  const packet = Buffer.from(pipe.bytes.slice(pipe.at, pipe.at + pipe.length));
  port.drop(true);
  return packet;
}

/** What waits for a port, which takes it. */
export function takeAll(port: NetSwitchPort): Buffer[] {
  const got: Buffer[] = [];
  for (let packet = takeOne(port); packet; packet = takeOne(port)) got.push(packet);
  return got;
}
