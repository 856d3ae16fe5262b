/** Links between ranks that live on one thread: what one sends is copied into the other's inbox. */
import { invariant } from "../../ir/errors.ts";
import { QueueLink } from "./queue-link.ts";

/** One link for each of so many ranks. */
export function localLinks(ranks: number, deadlineMs: number): readonly QueueLink[] {
  const links: QueueLink[] = [];
  for (let rank = 0; rank < ranks; rank++) {
    const send = (to: number, step: number, tag: number, bytes: Uint8Array) => {
      const peer = links[to];
      invariant(peer !== undefined, () => `rank ${rank} sends to rank ${to}, of ${ranks}`);
      return peer.inbox.put({ from: rank, step, tag }, bytes.slice());
    };
    links.push(new QueueLink({ rank, deadlineMs, send }));
  }
  return links;
}
