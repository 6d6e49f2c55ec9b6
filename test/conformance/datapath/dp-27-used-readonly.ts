import type { Scene } from "../machine/index.js";

export const run = ({ inexpressible }: Scene) =>
  inexpressible("memory is writable or not there: no page can be read-only");
