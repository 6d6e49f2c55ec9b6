// A real guest's sockets when its driver goes and comes, and when the guest starts anew.

import { once } from "node:events";
import { expect, test } from "vitest";
import { serveVhostUser, type Vsock, type VsockStream, vsock } from "#dist/index.js";
import { describeGuests } from "./lab.js";
import { perl, SKIPS_PERL, TALK, titleOf, vsockArguments } from "./vsock-guest.js";

const LIMIT = { timeout: 200_000 };
const HELD = 7;
const BOOTS = 8;
const ECHO = 9;
const GUEST_ECHO = 52;

/** In the first boot its driver goes and comes, and then the guest starts anew. */
const SCRIPT = `
  ${TALK}
  driver=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport
  device=$(ls $driver | grep ^virtio)
  perl /talk listen ${GUEST_ECHO} 9 >/tmp/listening &
  until grep -q listening /tmp/listening; do sleep 0.1; done
  hold() {
    perl /talk hold ${HELD} >/tmp/held &
    holder=$!
    until grep -q go /tmp/held; do sleep 0.1; done
  }
  hold
  if [ $(perl /talk connect ${BOOTS} </dev/null) = 1 ]; then
    echo $device >$driver/unbind
    wait $holder
    say held "$(tail -n 1 /tmp/held)"
    say unbound "$(perl /talk connect ${ECHO} </dev/null)"
    echo $device >$driver/bind
    say echoed "$(echo there | perl /talk connect ${ECHO})"
    hold
    restart
  fi
  say end "$(echo once more | perl /talk connect ${ECHO})"
`;

/** What came of a stream. */
const endOf = (stream: VsockStream) =>
  new Promise<unknown>((resolve) => {
    stream.on("error", resolve).on("close", () => resolve("closed"));
  });

/** Sends a line to the guest's port, where it is echoed; the stream stays open. */
async function greeted(host: Vsock): Promise<VsockStream> {
  const stream = await host.connect(GUEST_ECHO);
  stream.write("hello");
  const [bytes] = await once(stream, "data");
  expect(String(bytes)).toBe("hello");
  return stream;
}

const RESET = { code: "ECONNRESET", message: "ECONNRESET: the guest has reset the device" };

describeGuests(titleOf("a real guest's sockets are reset"), (lab) => {
  test.skipIf(SKIPS_PERL).each(["split", "packed"])(
    "with its driver, %s",
    LIMIT,
    async (format) => {
      const host = vsock({ cid: format === "packed" ? 47 : 46 });
      const held: VsockStream[] = [];
      const ends: Promise<unknown>[] = [];
      let boots = 0;
      host.listen(HELD, async (stream) => {
        held.push(stream);
        ends.push(endOf(stream));
        const ours = await greeted(host); // a stream of each side's is open
        held.push(ours);
        ends.push(endOf(ours));
        stream.write("go\n");
      });
      host.listen(BOOTS, (stream) => stream.resume().end(String(++boots)));
      host.listen(ECHO, (stream) => stream.pipe(stream));
      const socketPath = lab.path("socket");
      await using _ = await serveVhostUser({ socketPath, device: host });
      const guest = lab.start({
        disks: [],
        restarts: 1,
        root: { modules: ["vmw_vsock_virtio_transport"], files: perl() },
        more: vsockArguments(socketPath, format),
        script: SCRIPT,
        limitMs: 120_000,
      });
      await guest.finish();
      expect(await Promise.all(ends.slice(0, 4))).toMatchObject([RESET, RESET, RESET, RESET]);
      expect(guest.value("held")).toBe("Connection reset by peer");
      expect(guest.value("unbound")).toMatch(/^No such device$|^Network is unreachable$/);
      expect(guest.value("echoed")).toBe("there");
      expect(guest.value("end")).toBe("once more");
      expect(held).toHaveLength(6);
    },
  );
});
