// What packed-event.test.ts asks the product's position.ts.

export { distance, isAskedFor, moved } from "../../../assembly/position";
