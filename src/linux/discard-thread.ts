// Closes descriptors whose closing may take long, and ends.
import { workerData } from "node:worker_threads";
import { closeFd } from "./libc.js";

for (const fd of workerData as number[]) closeFd(fd);
