import { ETH_P_IP, ETH_P_RARP, RARP_BYTES, RARP_OP_REQUEST } from "../spec/inet.js";
import { ETH_ALEN, ETH_HLEN, ETH_ZLEN, VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import { type ChainSide, onePiece } from "../vhost/chain.js";

/** ARP's number of Ethernet. RFC 826. */
const ARPHRD_ETHER = 1;
/** Bytes of IPv4's addresses. */
const IPV4_ALEN = 4;

/**
 * A packet to all that says where station `mac`, 6 bytes, is: it asks for its own address, which
 * nobody answers, and switches learn. RFC 903. QEMU: announce_self_create().
 */
export function rarpPacket(mac: Uint8Array): ChainSide {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const length = VIRTIO_NET_HDR_BYTES + ETH_ZLEN;
  const frame = new Uint8Array(memory.buffer, VIRTIO_NET_HDR_BYTES, ETH_ZLEN);
  const view = new DataView(memory.buffer, VIRTIO_NET_HDR_BYTES, ETH_ZLEN);
  frame.fill(0xff, 0, ETH_ALEN);
  frame.set(mac, ETH_ALEN);
  view.setUint16(ETH_HLEN - 2, ETH_P_RARP);
  view.setUint16(ETH_HLEN, ARPHRD_ETHER);
  view.setUint16(ETH_HLEN + 2, ETH_P_IP);
  frame.set([ETH_ALEN, IPV4_ALEN], ETH_HLEN + 4);
  view.setUint16(ETH_HLEN + 6, RARP_OP_REQUEST);
  frame.set(mac, ETH_HLEN + 8); // who asks, and whom about
  frame.set(mac, ETH_HLEN + RARP_BYTES - ETH_ALEN - IPV4_ALEN);
  const packet = onePiece(memory);
  packet.set(0, 1, length);
  return packet;
}
