import type { Scene } from "../machine/index.js";

export const run = ({ inexpressible }: Scene) =>
  inexpressible("a memory table has no regions; what is in rings is held by `rings`");
