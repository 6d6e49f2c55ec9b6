// A program of its own, with a small heap: one of its workers allocates without end. Prints what
// became of it. Arguments: the kernel's epoch, and whether its workers are made from the owner.
import { argv } from "node:process";
import { custom, Kernel } from "#dist/index.js";

const module = new URL("./device-modules.mjs", import.meta.url);
const [, , epoch = "v6.4-merge", forkFromOwner = "true"] = argv;
const kernel = new Kernel({ epoch, forkFromOwnerDefault: forkFromOwner === "true" });
const process = kernel.spawn({ uid: 1000 });
const device = await process.open(custom(module, { how: "eatsMemory" }));
const driver = await device.driver();
const error = await driver.request(0, new Uint8Array(8), 8).catch((reason) => reason);
await device.close();
const nproc = kernel.model.ucounts.nproc(1000);
const next = await (await process.open(custom(module, { how: "echo" }))).driver();
const echo = Buffer.from(await next.request(0, Buffer.from("still here"), 10)).toString();
console.log(JSON.stringify({ code: error.code, message: error.message, nproc, echo }));
await process.exit();
