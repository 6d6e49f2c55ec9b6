import {
  array,
  minLength,
  optional,
  picklist,
  pipe,
  rawCheck,
  strictObject,
  variant,
} from "valibot";
import { VhostError } from "../spec/errno.js";
import { readConfig } from "./config-file.js";
import { CONFIG_KINDS, Machine, type Made, tapSchema } from "./config-kinds.js";
import { Taps } from "./net-taps.js";
import { type Serving, serveDevices } from "./serve-device.js";

const { blk, console, net, rng, vsock } = CONFIG_KINDS;

const machineSchema = strictObject({
  log: optional(picklist(["text", "json"]), "text"),
  devices: pipe(
    array(variant("kind", [blk.schema, console.schema, net.schema, rng.schema, vsock.schema])),
    minLength(1, "name a device"),
  ),
  taps: optional(array(tapSchema), []),
});

/** A switch that only a TAP names leads nowhere: it is a slip of the pen. */
const schema = pipe(
  machineSchema,
  rawCheck(({ dataset, addIssue }) => {
    if (!dataset.typed) return;
    const { value: input } = dataset;
    const { devices, taps } = input;
    const names = devices.flatMap((one) => (one.kind === "net" ? [one.switch] : []));
    const known = [...new Set(names)].map((name) => JSON.stringify(name)).join(", ");
    const message = `no device is at a switch of that name${known && `; they are at ${known}`}`;
    const common = { type: "object", origin: "value" } as const;
    for (const [index, tap] of taps.entries()) {
      if (names.includes(tap.switch)) continue;
      const path = [
        { ...common, input, key: "taps", value: taps },
        { type: "array" as const, origin: "value" as const, input: taps, key: index, value: tap },
        { ...common, input: { ...tap }, key: "switch", value: tap.switch },
      ] as const;
      addIssue({ message, path: [...path] });
    }
  }),
);

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
      const made = within(`${path}: devices[${index}]`, () => makeSound(config, machine));
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

/** What can't be opened is said now, not to the first VM. */
function makeSound(config: Config, machine: Machine): Made {
  const made = make(config, machine);
  made.device.claims?.();
  return made;
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
