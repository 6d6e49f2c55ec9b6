import type { Scene } from "../machine/index.js";

export const run = ({ inexpressible }: Scene) =>
  inexpressible("read, write, poll and mmap of a device are not modelled");
