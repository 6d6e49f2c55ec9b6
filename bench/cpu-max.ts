import { custom, Kernel } from "#dist/index.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";

/** What is inside the timed part. */
export const CPU_MAX_NOTE = `Requests of a tenant whose device computes for some tens of µs each, 16
at a time; the worker is a thread with its defaults. free: a group without limits. at 20 %: a group
with cpu.max "20000 100000", whose throughput should be a fifth where free has a core for itself.
CPU: how much of one each had while it worked, by the groups' cpu.stat; on a busy machine free has
less than 1.00, and the ratio is less than 5 by as much. In the second case the other tenant works
all the time beside each; its own requests are not counted.`;

const DEPTH = 16;
const MODULE = new URL("./cpu-max-device.js", import.meta.url);

/** A process in a group of its own, with an open device. */
interface Tenant extends AsyncDisposable {
  /** Does one request; gives the answer. */
  request(seed: number): Promise<number>;
  /** Microseconds that its worker has run. */
  cpuUs(): number;
}

async function makeTenant(kernel: Kernel, cgroup: string): Promise<Tenant> {
  const owner = kernel.spawn({ cgroup });
  const driver = await (await owner.open(custom(MODULE))).driver();
  return {
    async request(seed) {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, seed);
      const answer = await driver.request(0, bytes, 4);
      return new DataView(answer.buffer, answer.byteOffset).getUint32(0);
    },
    cpuUs: () => kernel.cgroup(cgroup).cpuStat.usageUsec,
    [Symbol.asyncDispose]: () => owner.exit(),
  };
}

/** Work that also says how much of a core its tenant had, all samples together. */
type TenantWork = Work & { share(): number };

/** All at once, `DEPTH` in flight; ends when `next` gives `undefined`. */
async function run(
  tenant: Tenant,
  next: () => number | undefined,
  got: (answer: number) => void,
): Promise<void> {
  const one = async () => {
    for (let seed = next(); seed !== undefined; seed = next()) got(await tenant.request(seed));
  };
  await Promise.all(Array.from({ length: DEPTH }, one));
}

function tenantWork(name: string, tenant: Tenant, items: number, beside?: Tenant): TenantWork {
  let sum = 0;
  let [cpuUs, allUs] = [0, 0];
  const runOnce = async () => {
    let seed = 0;
    let isOver = false;
    const other =
      beside &&
      run(
        beside,
        () => (isOver ? undefined : 1),
        () => {},
      );
    const cpuBefore = tenant.cpuUs();
    const start = performance.now();
    await run(
      tenant,
      () => (seed < items ? seed++ : undefined),
      (answer) => {
        sum = (sum + answer) | 0;
      },
    );
    const took = performance.now() - start;
    cpuUs += tenant.cpuUs() - cpuBefore;
    allUs += took * 1000;
    isOver = true;
    await other;
    return took;
  };
  return { name, isAsync: true, run: runOnce, checksum: () => sum, share: () => cpuUs / allUs };
}

/** What a quota of CPU time leaves of a tenant's throughput. Ends by itself. */
export async function benchCpuMax(amount: Amount): Promise<Case[]> {
  const kernel = new Kernel();
  kernel.cgroup("/tenants/limited").cpuMax = { quotaUs: 20_000, periodUs: 100_000 };
  await using free = await makeTenant(kernel, "/tenants/free");
  await using limited = await makeTenant(kernel, "/tenants/limited");
  const names = ["free", "at 20 %"] as const;
  const runCase = async (what: string, tenants: number, works: TenantWork[]) => {
    const measured = await compare(works, amount);
    const shares = works.map((work) => work.share().toFixed(2));
    const name = `${what}; CPU ${shares.join(", ")}`;
    return { bench: "cpu-max", name, facts: { tenants }, sameWork: names, measured };
  };
  return [
    await runCase("one works", 1, [
      tenantWork(names[0], free, amount.items),
      tenantWork(names[1], limited, amount.items),
    ]),
    await runCase("both work", 2, [
      tenantWork(names[0], free, amount.items, limited),
      tenantWork(names[1], limited, amount.items, free),
    ]),
  ];
}
