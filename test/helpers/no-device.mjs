// A module that is no device: it exports no `createDevice`.
export const somethingElse = 1;
