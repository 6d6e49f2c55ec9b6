import { Argument, Command, Option } from "commander";
import { EPOCH_NAMES, type Epoch } from "../kernel/epoch.js";
import { FATE } from "./explain-fate.js";
import { IDENTITY, type Property } from "./explain-identity.js";
import { Scene } from "./explain-scene.js";
import { contrastTable } from "./tables.js";

/** One property, as it was seen in either mode. */
export interface Contrast {
  readonly property: string;
  readonly userWorker: string;
  readonly kthread: string;
}

interface ExplainOptions {
  epoch: Epoch;
  json?: boolean;
}

/** Properties that are looked at at once: some wait for seconds for what does not come. */
const AT_ONCE = 4;

/** `vhost-wasm explain workers`: both kinds of worker, run and looked at. */
export function explainCommand(): Command {
  return new Command("explain")
    .description(
      "Show how a worker that is its owner's (a user worker) differs from one that is the\n" +
        "kernel's (a kthread, as vhost had before 6.4). For each property a kernel is booted\n" +
        "twice, an owner with a user, limits and a cgroup opens a disk served by a real\n" +
        "thread, and what is seen is printed.",
    )
    .addArgument(new Argument("<topic>", "what to explain").choices(["workers"]))
    .addOption(
      new Option("--epoch <epoch>", "whose user workers")
        .choices(EPOCH_NAMES)
        .default("v6.4-merge"),
    )
    .option("--json", "one line of JSON and nothing else")
    .addHelpText(
      "after",
      "\nEpochs: v6.4-merge (a child of its owner, deaf to signals), v6.4 (a thread of its\n" +
        "owner that outlives it), v6.12 (a thread that ends with it).\n" +
        "A value is what was observed in this run: an errno's name where something was refused\n" +
        "(Linux's VHOST_SET_OWNER says ENOMEM to all of them).",
    )
    .action((_topic: string, options: ExplainOptions) => explain(options));
}

/** One property in one mode, in a scene of its own. */
async function seen(property: Property, epoch: Epoch, forkFromOwner: boolean): Promise<string> {
  await using scene = new Scene({ epoch, forkFromOwner }, property.uid);
  return await property.observe(scene);
}

/** Every property in both modes, in order; some of them at once. */
async function seeAll(epoch: Epoch): Promise<Contrast[]> {
  const rows: Contrast[] = [];
  const left = [...IDENTITY, ...FATE].entries();
  const look = async () => {
    for (const [index, property] of left) {
      const both = [true, false].map((forkFromOwner) => seen(property, epoch, forkFromOwner));
      const [userWorker = "", kthread = ""] = await Promise.all(both);
      rows[index] = { property: property.name, userWorker, kthread };
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, look));
  return rows;
}

async function explain({ epoch, json }: ExplainOptions): Promise<void> {
  const rows = await seeAll(epoch);
  if (json) {
    console.log(JSON.stringify({ epoch, rows }));
    return;
  }
  const differ = rows.filter(({ userWorker, kthread }) => userWorker !== kthread).length;
  console.log(`${contrastTable(rows)}\n${epoch}: ${differ} of ${rows.length} properties differ.`);
}
