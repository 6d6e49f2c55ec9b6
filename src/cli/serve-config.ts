import { array, minLength, optional, picklist, pipe, strictObject, variant } from "valibot";
import { VhostError } from "../spec/errno.js";
import { readConfig } from "./config-file.js";
import { CONFIG_KINDS, Machine, type Made, tapSchema } from "./config-kinds.js";
import { Taps } from "./net-taps.js";
import { type Serving, serveDevices } from "./serve-device.js";

const { blk, console, net, rng, vsock } = CONFIG_KINDS;

const schema = strictObject({
  log: optional(picklist(["text", "json"]), "text"),
  devices: pipe(
    array(variant("kind", [blk.schema, console.schema, net.schema, rng.schema, vsock.schema])),
    minLength(1, "name a device"),
  ),
  taps: optional(array(tapSchema), []),
});

/**
 * Serves all devices that the JSON file at `path` names, until a signal comes. Rejects with EINVAL
 * for a file that is wrong, naming line and field, and with what a device's own server does: then
 * none is served.
 */
export async function serveConfig(path: string): Promise<void> {
  const { log, devices, taps } = readConfig(path, schema);
  const machine = new Machine(path);
  const leave: (() => void)[] = [];
  try {
    const servings = devices.map((config, index): Serving => {
      const {
        name = `${config.kind} ${index}`,
        socket,
        connect,
        pollUs,
        policy,
        trustMemory,
      } = config;
      const made = within(`${path}: devices[${index}]`, () => make(config, machine));
      leave.push(...(made.leave ?? []));
      const { asOwner = false, workers = 1 } = config.kind === "blk" ? config : {};
      const common = { socket: machine.at(socket), connect, pollUs, policy, trustMemory };
      const options = { ...common, asOwner, workers };
      return { ...made, name, options };
    });
    const ports = taps.map(({ tap, ...where }, index) => ({
      name: tap,
      port: within(`${path}: taps[${index}]`, () => machine.port(where)),
    }));
    await using _taps = await Taps.open(ports, log);
    await serveDevices(servings, { log });
  } finally {
    for (const one of leave) one();
    machine.close();
  }
}

type Config = ReturnType<typeof readConfig<typeof schema>>["devices"][number];

/** The union of what entries are meets the union of what makes them: that it fits, `kind` says. */
function make(config: Config, machine: Machine): Made {
  return (CONFIG_KINDS[config.kind].make as (config: Config, machine: Machine) => Made)(
    config,
    machine,
  );
}

/** An error says where it comes from. */
function within<T>(where: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof VhostError)) throw error;
    const message = error.message.replace(/^\w+: /, "");
    throw new VhostError(error.code, `${where}: ${message}`, error.facts);
  }
}
