import type { SwitchPort } from "../devices/net-switch.js";
import type { SwitchTap, TapEvent } from "../devices/net-tap.js";

const WORDS: Record<TapEvent["state"], string> = {
  up: "the interface is up again",
  down: "the interface is down, and packets to it are dropped: ip link set",
  gone: "the interface is gone, and is waited for",
};

/** What happened to a TAP, as a line for a person or for a program. */
function lineOf({ tap, state, error }: TapEvent, log: "text" | "json"): string {
  const why = error && { error: error.message };
  if (log === "json") {
    return JSON.stringify({ time: new Date().toISOString(), event: "tap", tap, state, ...why });
  }
  const how = state === "down" ? ` ${tap} up` : "";
  return `vhost-wasm: tap ${tap}: ${WORDS[state]}${how}${error ? ` (${error.message})` : ""}`;
}

/** TAPs by name, each with the port that it is at. */
export type TapPorts = readonly { name: string; port: SwitchPort }[];

/** Interfaces of the host's at ports of switches, as long as a program serves. */
export class Taps implements AsyncDisposable {
  readonly #taps: SwitchTap[] = [];

  private constructor() {}

  /**
   * Plugs all of them in, and prints from now on when one is another. Rejects with what
   * `SwitchPort.tap` throws: then none is plugged in.
   */
  static async open(ports: TapPorts, log: "text" | "json"): Promise<Taps> {
    const taps = new Taps();
    const onEvent = (event: TapEvent) => {
      if (process.stderr.isTTY) process.stderr.write("\r\x1b[K"); // a live line may be there
      console.log(lineOf(event, log));
    };
    try {
      for (const { name, port } of ports) taps.#taps.push(port.tap(name, { onEvent }));
      const down = taps.#taps.filter(({ isUp }) => !isUp); // as one that was just made is
      for (const { name: tap } of down) onEvent({ tap, state: "down" });
      return taps;
    } catch (error) {
      await taps[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#taps.map((tap) => tap.close()));
  }
}
