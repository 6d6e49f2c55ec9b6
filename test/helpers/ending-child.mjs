// A program of its own that opens and closes devices in every way, and then has nothing left that
// would keep it from ending.
import { blk, custom, Kernel } from "#dist/index.js";

const module = new URL("./device-modules.mjs", import.meta.url);
const kernel = new Kernel();
const owner = kernel.spawn({ uid: 1000, rlimits: { NPROC: 8 } });

const disk = await owner.open(blk({ memoryBytes: 65536 }));
await (await disk.driver()).read(0, 512);
const echo = await (await owner.open(custom(module, { how: "echo" }))).driver();
await echo.request(0, Buffer.from("x"), 1);
const hanging = await (await owner.open(custom(module, { how: "hangs" }))).driver();
hanging.request(0, Buffer.from("x"), 1).catch(() => {});
const dying = await (await owner.open(custom(module, { how: "throws" }))).driver();
await dying.request(0, Buffer.from("x"), 1).catch(() => {});
const inline = await owner.open(blk({ memoryBytes: 65536 }), { run: "inline" });
(await inline.driver()).read(0, 512).catch(() => {});
await owner.open(blk({ file: "/nowhere" })).catch(() => {});
const poor = kernel.spawn({ uid: 1001, rlimits: { NPROC: 1 } });
await poor.open(blk({ memoryBytes: 65536 })).catch(() => {});

await owner.exit();
await new Promise(setImmediate);
// what is left of the pipe to the parent, and a driver's last look, are none of ours
const resources = process.getActiveResourcesInfo().filter((name) => !/Pipe|Immediate/.test(name));
console.log(JSON.stringify({ resources }));
