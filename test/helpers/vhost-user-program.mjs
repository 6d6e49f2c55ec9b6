// A program that serves: one server for each socket path in its arguments, the first argument being
// its options as JSON (with fdsMax: descriptors that it may have from here on; while modules load,
// each takes one). It prints each event as a line of JSON, with the server's number, and does
// what it reads from its standard input, a line each: ping, eat <descriptors to leave>, feed, serve,
// close, exit.
import { closeSync, openSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { blk, serveVhostUser } from "#dist/index.js";

const [text, ...paths] = process.argv.slice(2);
const { more, fdsMax, disk = { memoryBytes: 1 << 20 }, ...options } = JSON.parse(text);
const RLIMIT_NOFILE = 7;
if (fdsMax !== undefined) {
  const koffi = createRequire(import.meta.url)("koffi");
  const setrlimit = koffi.load(null).func("int setrlimit(int resource, const void *limit)");
  setrlimit(RLIMIT_NOFILE, new BigUint64Array([BigInt(fdsMax), BigInt(fdsMax)]));
}
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const plain = (_key, value) => {
  if (typeof value === "bigint") return String(value);
  return value instanceof Error ? { ...value, message: value.message } : value;
};

const servers = [];
for (const [server, socketPath] of paths.entries()) {
  const onEvent = (event) => print({ server, ...JSON.parse(JSON.stringify(event, plain)) });
  const device = blk({ queues: 2, ...disk });
  servers.push(
    await serveVhostUser({ socketPath, device, onEvent, pollMicroseconds: 0, ...options }),
  );
}
const eaten = [];
const commands = {
  eat: (left) => {
    try {
      for (;;) eaten.push(openSync("/dev/null"));
    } catch {
      for (const fd of eaten.splice(0, left)) closeSync(fd);
    }
    print({ event: "eaten" });
  },
  feed: () => {
    for (const fd of eaten.splice(0)) closeSync(fd);
    print({ event: "fed" });
  },
  /** One more server: whether it could be had. */
  serve: () =>
    serveVhostUser({ socketPath: more, device: blk({ nullBytes: 512 }) }).then(
      (server) => {
        servers.push(server);
        print({ event: "serving" });
      },
      (error) => print({ event: "not-serving", code: error.code, message: error.message }),
    ),
  ping: () => print({ event: "pong" }),
  close: async () => {
    await Promise.all(servers.map((server) => server.close()));
    print({ event: "closed" });
    process.stdin.destroy();
  },
  exit: () => process.exit(7),
};
createInterface({ input: process.stdin }).on("line", (line) => {
  const [name, ...args] = line.split(" ");
  commands[name](...args.map(Number));
});
