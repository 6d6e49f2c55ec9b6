// Numbers of 16 bits in memory that another thread reads or writes: whole, as DataView's are not
// (its two bytes may go one by one, and an index between 0xff and 0x100 is seen as 0 or 0x1ff).

function placeOf(view: DataView, at: number): [Uint16Array<ArrayBufferLike>, number] {
  const place = view.byteOffset + at;
  if (place % 2 !== 0) throw new RangeError(`0x${place.toString(16)} is odd`);
  return [new Uint16Array(view.buffer), place / 2];
}

export function loadU16(view: DataView, at: number): number {
  return Atomics.load(...placeOf(view, at));
}

export function storeU16(view: DataView, at: number, value: number): void {
  Atomics.store(...placeOf(view, at), value);
}
