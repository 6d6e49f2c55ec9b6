import type { Scene } from "../machine/index.js";

export const run = ({ inexpressible }: Scene) =>
  inexpressible("rings have no addresses that could be misaligned");
