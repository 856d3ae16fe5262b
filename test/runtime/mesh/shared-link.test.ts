/** Messages through shared memory: what is sent arrives, in order, whole, and nobody waits longer than its deadline. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SharedLink } from "../../../src/runtime/mesh/shared-link.ts";
import { meshMemory, stopMesh } from "../../../src/runtime/mesh/shared-memory.ts";

const timing = { deadlineMs: 30, spinMs: 0 };
const bytesOf = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251);

describe("on one thread, where what is sent fits a ring", () => {
  test("messages of any lengths arrive in order, again and again around the ring", () => {
    const arbSteps = fc.array(fc.array(fc.nat(40), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(arbSteps, (steps) => {
        // Four messages of 40 bytes with their headers.
        const memory = meshMemory(2, 256);
        const [a, b] = [new SharedLink(memory, 0, timing), new SharedLink(memory, 1, timing)];
        for (const [step, lengths] of steps.entries()) {
          const sent = lengths.map((length, tag) => ({ to: 1, tag, bytes: bytesOf(length, step + tag) }));
          a.exchange({ step, exchange: 0 }, sent, []);
          const got = lengths.map((length, tag) => ({ from: 0, tag, into: new Uint8Array(length) }));
          b.exchange({ step, exchange: 0 }, [], got);
          expect(got.map(({ into }) => into)).toEqual(sent.map(({ bytes }) => bytes));
        }
      }),
    );
  });
});

describe("who waits", () => {
  const at = { step: 7, exchange: 3 };

  test("for a message that does not come gives up, naming the ranks", () => {
    const link = new SharedLink(meshMemory(3, 64), 1, timing);
    const receive = { from: 2, tag: 3, into: new Uint8Array(4) };
    expect(() => link.exchange(at, [], [receive])).toThrow(
      "rank 1, step 7, exchange 3: expected an exchange with rank 2 within 30 ms, got none",
    );
  });

  test("for room in a full ring gives up too", () => {
    const link = new SharedLink(meshMemory(2, 64), 0, timing);
    expect(() => link.exchange(at, [{ to: 1, tag: 0, bytes: new Uint8Array(200) }], [])).toThrow("with rank 1 within");
  });

  test("hears that the mesh has stopped, and why", () => {
    const memory = meshMemory(2, 64);
    const link = new SharedLink(memory, 0, { deadlineMs: 60_000, spinMs: 0 });
    stopMesh(memory, 1);
    stopMesh(memory, null);
    expect(() => link.exchange(at, [], [{ from: 1, tag: 0, into: new Uint8Array(1) }])).toThrow("rank 1 has failed");
  });

  test("helps others meanwhile, as long as there is something to do and time", () => {
    const memory = meshMemory(2, 64);
    const peer = new SharedLink(memory, 0, timing);
    let helped = 0;
    const help = () => {
      if (++helped === 5) peer.exchange(at, [{ to: 1, tag: 0, bytes: new Uint8Array([7]) }], []);
      return true;
    };
    const link = new SharedLink(memory, 1, { deadlineMs: 1000, spinMs: 1, help });
    const into = new Uint8Array(1);
    link.exchange(at, [], [{ from: 0, tag: 0, into }]);
    expect(into[0]).toBe(7);
    expect(helped).toBe(5);
    const busy = new SharedLink(memory, 1, { deadlineMs: 30, spinMs: 1, help: () => true });
    expect(() => busy.exchange(at, [], [{ from: 0, tag: 0, into }])).toThrow("with rank 0 within 30 ms");
  });

  // Whichever time it is that there is something to help with.
  test("takes what came while it helped for longer than the deadline", () => {
    for (let long = 1; long <= 64; long++) {
      const memory = meshMemory(2, 64);
      const [peer, into] = [new SharedLink(memory, 0, timing), new Uint8Array(1)];
      const end = performance.now() + 10;
      let turn = 0;
      const help = () => {
        if (++turn !== long) return false;
        peer.exchange(at, [{ to: 1, tag: 0, bytes: new Uint8Array([7]) }], []);
        while (performance.now() < end);
        return true;
      };
      const link = new SharedLink(memory, 1, { deadlineMs: 8, spinMs: 8, help });
      try {
        link.exchange(at, [], [{ from: 0, tag: 0, into }]);
      } catch (error) {
        // A machine that stood still until the deadline.
        if (turn < long) continue;
        throw error;
      }
      expect(into[0]).toBe(7);
    }
  });

  test.each([
    ["step", { step: 8 }, 0, 4],
    ["tag", { step: 7 }, 1, 4],
    ["length", { step: 7 }, 0, 5],
  ] as const)("for one message does not take one of another %s", (_, { step }, tag, length) => {
    const memory = meshMemory(2, 64);
    const [a, b] = [new SharedLink(memory, 0, timing), new SharedLink(memory, 1, timing)];
    a.exchange({ step, exchange: 0 }, [{ to: 1, tag, bytes: new Uint8Array(length) }], []);
    expect(() => b.exchange(at, [], [{ from: 0, tag: 0, into: new Uint8Array(4) }])).toThrow(
      "expected from rank 0 message 0 of step 7 with 4 bytes, got message",
    );
  });
});
