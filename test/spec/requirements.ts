// Every MUST and MUST NOT of virtio 1.3, 2.6 Virtqueues, 2.7 Split Virtqueues and 2.8 Packed
// Virtqueues, in our own words; 1.4 has the same ones. What is conditional on a feature is named
// after it. SHOULD and MAY are not here.

/**
 * "tested"; "not applicable" for a reason; "pending" until the product has what it is about;
 * "violated": there is a test, which fails.
 */
export type State = "tested" | "not applicable" | "pending" | "violated";

/** One requirement. */
export interface Requirement {
  id: string;
  /** Number of the normative block that it is in. */
  section: string;
  side: "driver" | "device";
  /** What the side does or never does. */
  wording: string;
  state: State;
  /** Why it is not tested, or how it is violated. */
  why?: string;
  /** Number of the feature bit that it hangs on: while that is not offered, it is not tested. */
  feature?: number;
}

/** The name of its tests. */
export function titleOf({ section, side, wording }: Requirement): string {
  return `${section} ${side}: ${wording}`;
}

type Rest = Pick<Requirement, "state" | "why" | "feature">;
type Row = [id: string, wording: string, rest?: Rest];

const TESTED: Rest = { state: "tested" };

function block(section: string, side: Requirement["side"], ...rows: Row[]): Requirement[] {
  return rows.map(([id, wording, rest = TESTED]) => ({ id, section, side, wording, ...rest }));
}

const driver = (section: string, ...rows: Row[]) => block(section, "driver", ...rows);
const device = (section: string, ...rows: Row[]) => block(section, "device", ...rows);

const LEGACY: Rest = { state: "not applicable", why: "the legacy interface is not offered" };
/** All of them, in the order of the specification. */
export const REQUIREMENTS: readonly Requirement[] = [
  ...device(
    "2.6.1.1.1",
    ["reset-requests", "takes no more requests from a queue that was reset"],
    ["reset-calls", "sends no more calls for a queue that was reset"],
    ["reset-state", "forgets all that it knew of a queue that was reset"],
  ),
  ...driver("2.6.1.1.2", ["reset-verified", "makes sure that the queue was really reset"]),
  ...device("2.6.1.2.1", ["enable-observed", "goes by the set-up made after the reset"]),
  ...driver("2.6.1.2.2", ["enable-set-up", "sets the queue up again as at first"]),

  ...driver("2.7.1", ["split-align", "lays its three parts out at multiples of 16, 2 and 4"]),
  ...driver(
    "2.7.2",
    ["legacy-size", "takes the queue's size from the device", LEGACY],
    ["legacy-bytes", "allocates as many bytes as the formula says", LEGACY],
    ["legacy-layout-driver", "finds the parts by the layout in pages", LEGACY],
  ),
  ...device("2.7.2", ["legacy-layout-device", "finds the parts by the layout in pages", LEGACY]),
  ...driver("2.7.3", ["legacy-endian-driver", "uses the guest's own byte order", LEGACY]),
  ...device("2.7.3", ["legacy-endian-device", "uses the guest's own byte order", LEGACY]),
  ...device("2.7.4.1", ["framing", "answers the same however a request is cut up"]),
  ...driver("2.7.4.2", ["framing-order", "puts what the device writes after what it reads"]),
  ...device(
    "2.7.5.1",
    ["readable", "writes to no buffer that it is given to read"],
    ["descriptors", "writes to no descriptor, in the ring or in a table"],
  ),
  ...driver(
    "2.7.5.2",
    ["chain-bytes", "adds no chain of more than 2^32 bytes, and none with a loop"],
    ["order-next", "in order: links a descriptor to the one after it, the last to 0"],
  ),
  ...driver(
    "2.7.5.3.1",
    ["table-negotiated", "makes no table without the feature"],
    ["table-flat", "puts no table into a table"],
    ["chain-length", "makes no chain longer than the queue"],
    ["table-next", "never sets INDIRECT and NEXT in one descriptor"],
    ["order-table", "in order: the entries of a table follow one another"],
  ),
  ...device(
    "2.7.5.3.2",
    ["table-write", "does not mind WRITE on the descriptor of a table"],
    ["table-last", "takes a table after any number of plain descriptors"],
  ),
  ...driver("2.7.6.1", ["avail-idx", "never takes avail.idx back"]),
  ...driver(
    "2.7.7.1",
    ["avail-flags", "by flags: sets avail.flags to 0 or 1 and nothing else"],
    ["avail-flags-event", "by event: sets avail.flags to 0 and nothing else"],
    ["calls-spurious", "is not misled by calls without a cause"],
  ),
  ...device(
    "2.7.7.2",
    ["used-event-ignored", "by flags: does not mind used_event"],
    ["call-flags", "by flags: calls after each used entry while avail.flags is 0"],
    ["avail-flags-ignored", "by event: does not mind bit 0 of avail.flags"],
    ["call-event", "by event: calls when the entry at used_event was written"],
  ),
  ...device(
    "2.7.8.2",
    ["used-len", "sets len before it updates idx"],
    ["used-bytes", "has written len writable bytes before it updates idx"],
  ),
  ...driver("2.7.8.3", ["past-len", "makes nothing of what lies past len"]),
  ...driver(
    "2.7.10.1",
    ["used-flags-begin", "sets used.flags to 0 when it makes the ring"],
    ["avail-event-ignored", "by flags: does not mind avail_event"],
    ["kick-flags", "by flags: kicks after each entry while used.flags is 0"],
    ["used-flags-ignored", "by event: does not mind bit 0 of used.flags"],
    ["kick-event", "by event: kicks when the entry at avail_event was written"],
  ),
  ...device(
    "2.7.10.2",
    ["used-flags", "by flags: sets used.flags to 0 or 1 and nothing else"],
    ["used-flags-event", "by event: sets used.flags to 0 and nothing else"],
    ["kicks-spurious", "is not misled by kicks without a cause"],
  ),
  ...driver("2.7.13.3.1", ["publish-barrier", "lets idx go out after all that it exposes"]),
  ...driver("2.7.13.4.1", ["kick-barrier", "looks at flags or avail_event after idx is out"]),

  ...driver("2.8.11", ["packed-align", "lays its three parts out at 16, 4 and 4"]),
  ...device(
    "2.8.12",
    ["packed-start", "begins with lists in the order of the ring"],
    ["packed-complete", "begins to write used descriptors in the order of completion"],
  ),
  ...device(
    "2.8.15",
    ["packed-readable", "writes to no buffer that it is given to read"],
    ["packed-avail-seen", "uses no descriptor before it has seen AVAIL change"],
    ["packed-used-final", "leaves a descriptor alone once USED has changed"],
  ),
  ...driver(
    "2.8.16",
    ["packed-used-seen", "changes no descriptor before it has seen USED change"],
    ["packed-avail-final", "leaves a descriptor alone once AVAIL has changed"],
    ["packed-next-off", "tells in a kick where it goes on"],
  ),
  ...driver(
    "2.8.17",
    ["packed-list-device", "makes no list longer than the device allows"],
    ["packed-list-queue", "makes no list longer than the queue, and none with a loop"],
    ["packed-framing-order", "puts what the device writes after what it reads"],
    ["packed-room-wait", "waits for no used descriptor in the middle of a list"],
    ["packed-room", "has room for a whole list before any of it is available"],
    ["packed-first", "makes the first descriptor of a list available last"],
  ),
  ...device("2.8.18", ["packed-list-order", "takes a list in the order of its NEXT"]),
  ...driver(
    "2.8.19",
    ["packed-table-negotiated", "makes no table without the feature"],
    ["packed-table-flags", "sets no flag but WRITE in a table"],
    ["packed-table-length", "makes no table longer than the device allows"],
    ["packed-table-next", "links the descriptor of a table to no other"],
  ),
  ...driver("2.8.21.1.1", [
    "packed-publish-barrier",
    "lets flags go out after all that they expose",
  ]),
  ...driver("2.8.21.3.1", [
    "packed-kick-barrier",
    "looks at the event structure after flags are out",
  ]),
];
