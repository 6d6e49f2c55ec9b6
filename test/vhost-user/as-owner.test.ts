import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { type BlkOptions, blk } from "#dist/devices/blk.js";
import { ROOT } from "../helpers/source.js";
import { liveThreads, type Thread } from "../helpers/threads.js";
import { Program } from "../helpers/vhost-user-child.js";
import {
  describeOwners,
  GID,
  makeImage,
  openFolder,
  serveOthers,
  startFront,
  UID,
} from "../helpers/vhost-user-owner.js";

const GROUP = 64321;
const folder = openFolder();

describeOwners("vhost-user: images are opened with the front-end's rights", () => {
  const tryImage = async (path: string, options: Partial<BlkOptions> = {}, args: string[] = []) => {
    const device = blk({ file: path, ...options } as BlkOptions);
    await using served = await serveOthers({ device, asOwner: true });
    await using child =
      args.length === 0
        ? startFront()
        : new Program("setpriv", [
            ...args,
            process.execPath,
            fileURLToPath(new URL("../helpers/vhost-user-front.mjs", import.meta.url)),
          ]);
    await child.next("ready");
    child.say(`connect ${served.path}`);
    await child.next("connected");
    const event = served.events.find(({ event }) => /connected|rejected/.test(event));
    return event?.event === "rejected" ? event.error.code : event?.event;
  };

  test("what only root may read is refused, and is not read", async () => {
    expect(await tryImage(makeImage(folder, "secret", 0o600))).toBe("EACCES");
    expect(await tryImage(makeImage(folder, "secret", 0o600), { readOnly: true })).toBe("EACCES");
    expect(await tryImage(makeImage(folder, "readable", 0o644))).toBe("EACCES"); // not for writing
  });

  test("what it may open works", async () => {
    expect(await tryImage(makeImage(folder, "open", 0o666))).toBe("connected");
    expect(await tryImage(makeImage(folder, "readable", 0o644), { readOnly: true })).toBe(
      "connected",
    );
  });

  test("its groups count, and no group of ours does", async () => {
    const path = makeImage(folder, "of-a-group", 0o660, GROUP);
    const as = (groups: string) => [`--reuid=${UID}`, `--regid=${GID}`, groups];
    expect(await tryImage(path, {}, as(`--groups=${GROUP}`))).toBe("connected");
    expect(await tryImage(path, {}, as("--clear-groups"))).toBe("EACCES");
    expect(await tryImage(makeImage(folder, "of-root", 0o660, 0), {}, as("--clear-groups"))).toBe(
      "EACCES",
    );
    expect(await tryImage(path, {}, [`--reuid=${UID}`, `--regid=${GROUP}`, "--clear-groups"])).toBe(
      "connected",
    );
  });

  test("its worker keeps no capability; the program keeps its own", async () => {
    const device = blk({ file: makeImage(folder, "open", 0o666) });
    await using served = await serveOthers({ device, asOwner: true });
    await using child = startFront();
    await child.next("ready");
    child.say(`connect ${served.path}`);
    await child.next("connected");
    const capsOf = ({ tid }: Thread) => {
      const status = readFileSync(`/proc/self/task/${tid}/status`, "utf8");
      return /^CapPrm:\s*0*([0-9a-f]*)$/m.exec(status)?.[1];
    };
    const workers = liveThreads().filter(({ comm }) => /^vhost-\d+$/.test(comm));
    expect(workers.map(capsOf)).toEqual([""]);
    const own = liveThreads().filter(({ tid }) => tid === process.pid);
    expect(own.map(capsOf)).not.toEqual([""]);
  });

  test("without it, images are opened in the program's name", async () => {
    await using served = await serveOthers({
      device: blk({ file: makeImage(folder, "secret", 0o600) }),
    });
    await using child = startFront();
    await child.next("ready");
    child.say(`connect ${served.path}`);
    expect(await child.next("connected")).toMatchObject({ served: [true] });
  });

  test("the program itself may lie where the front-end can't read", async () => {
    const home = join(folder, "home");
    mkdirSync(home, { mode: 0o700 });
    for (const name of ["dist", "package.json"]) {
      cpSync(join(ROOT, name), join(home, name), { recursive: true });
    }
    symlinkSync(join(ROOT, "node_modules"), join(home, "node_modules"));
    const socket = join(folder, "socket");
    const args = ["serve", "blk", "--socket", socket, "--log", "json", "--as-owner"];
    const main = join(home, "dist/cli/main.js");
    const path = makeImage(folder, "open", 0o666);
    await using program = new Program(process.execPath, [main, ...args, "--image", path]);
    await program.next("listening");
    chmodSync(socket, 0o777);
    await using child = startFront();
    await child.next("ready");
    child.say(`io ${socket}`);
    expect(await child.next("flushed")).toMatchObject({ ok: true });
    program.child.kill("SIGINT");
    expect(await program.end()).toBe(0);
  });
});
