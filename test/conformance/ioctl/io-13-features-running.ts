import type { Scene } from "../machine/index.js";

export const run = ({ inexpressible }: Scene) =>
  inexpressible("addresses within a memory table are not modelled: no log can lie outside");
