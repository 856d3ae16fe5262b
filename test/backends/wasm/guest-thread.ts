/** A thread that helps until it is told to stop: says how often there was something to do, or what it failed with. */
import { parentPort, workerData } from "node:worker_threads";
import type { GuestOffer } from "../../../src/backends/backend.ts";
import { Guest } from "../../../src/backends/wasm/guests.ts";

const { offer, number, stop } = workerData as { offer: GuestOffer; number: number; stop: SharedArrayBuffer };
const guest = new Guest(offer.memory, number);
guest.add(offer.programs);
const told = new Int32Array(stop);
Atomics.store(told, 1, 1);
Atomics.notify(told, 1);
let helped = 0;
try {
  while (Atomics.load(told, 0) === 0) if (guest.help()) helped++;
  parentPort!.postMessage({ helped });
} catch (error) {
  parentPort!.postMessage({ error: String(error) });
}
