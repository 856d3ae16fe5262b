/** Links that hand over messages: what is sent arrives whatever pieces and order it comes in, and nobody waits for ever. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FrameReader, frameOf } from "../../../src/runtime/mesh/frames.ts";
import { Inbox } from "../../../src/runtime/mesh/inbox.ts";
import { localLinks } from "../../../src/runtime/mesh/local-link.ts";
import { makeSocketMesh, removeSocketMesh, SocketLink } from "../../../src/runtime/mesh/sockets.ts";

const bytesOf = (length: number, seed: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + seed) % 251);
const arbBytes = fc.uint8Array({ maxLength: 40 });

describe("frames", () => {
  test("come out of a stream as they went in, whatever pieces it is cut into", () => {
    const arbFrames = fc.array(fc.record({ step: fc.integer(), tag: fc.integer(), bytes: arbBytes }), { maxLength: 8 });
    fc.assert(
      fc.property(arbFrames, fc.array(fc.nat(30)), (frames, cuts) => {
        const stream = Uint8Array.from(
          frames.flatMap(({ step, tag, bytes }) => [...frameOf(step | 0, tag | 0, bytes)]),
        );
        const reader = new FrameReader();
        const found = [];
        let at = 0;
        for (const cut of [...cuts, stream.length]) {
          found.push(...reader.read(stream.subarray(at, at + cut)));
          at += cut;
        }
        expect(found).toEqual(frames.map(({ step, tag, bytes }) => ({ step: step | 0, tag: tag | 0, bytes })));
      }),
    );
  });

  test("that are none are refused before anything is made for them", () => {
    const header = (mark: number, length: number) => {
      const bytes = frameOf(1, 2, new Uint8Array(0));
      new DataView(bytes.buffer).setInt32(0, mark, true);
      new DataView(bytes.buffer).setInt32(12, length, true);
      return bytes;
    };
    const { buffer } = frameOf(0, 0, new Uint8Array(0));
    const mark = new DataView(buffer).getInt32(0, true);
    for (const bytes of [header(mark + 1, 4), header(mark, -1), header(mark, 2 ** 28 + 1), header(mark, 2 ** 31 - 1)]) {
      expect(() => new FrameReader().read(bytes)).toThrow("a header that is none");
    }
    expect(new FrameReader().read(header(mark, 0))).toHaveLength(1);
  });
});

describe("an inbox", () => {
  const key = (tag: number) => ({ from: 1, step: 0, tag });

  test("gives every message to who asked for it, in the order of those with one key", async () => {
    const arbEvents = fc.array(fc.tuple(fc.nat(2), fc.boolean()), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(arbEvents, async (events) => {
        const inbox = new Inbox(2 ** 20);
        const [sent, taken] = [new Map<number, number>(), new Map<number, Promise<number>[]>()];
        const put = (tag: number) => {
          const count = sent.get(tag) ?? 0;
          sent.set(tag, count + 1);
          void inbox.put(key(tag), Uint8Array.of(tag, count));
        };
        const take = (tag: number) => {
          const into = new Uint8Array(2);
          const all = taken.get(tag) ?? [];
          taken.set(tag, all);
          all.push(inbox.take(key(tag), into).then(() => 100 * into[0]! + into[1]!));
        };
        for (const [tag, puts] of events) (puts ? put : take)(tag);
        // As many of each as of the other.
        for (const tag of [0, 1, 2]) {
          while ((sent.get(tag) ?? 0) < (taken.get(tag)?.length ?? 0)) put(tag);
          while ((sent.get(tag) ?? 0) > (taken.get(tag)?.length ?? 0)) take(tag);
          const found = await Promise.all(taken.get(tag) ?? []);
          expect(found).toEqual(found.map((_, i) => 100 * tag + i));
        }
      }),
    );
  });

  test("lets who delivers wait while it is full, unless something else of theirs is missing", async () => {
    const inbox = new Inbox(10);
    let stored = 0;
    const put = (tag: number) => void inbox.put(key(tag), new Uint8Array(6)).then(() => stored++);
    const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
    put(0);
    put(1);
    await settled();
    expect([stored, inbox.isFull(1), inbox.isFull(2)]).toEqual([1, true, false]);
    const missing = inbox.take(key(9), new Uint8Array(6));
    await settled();
    // What is missing may be behind what lies here.
    expect([stored, inbox.isFull(1)]).toEqual([2, false]);
    put(9);
    await missing;
    put(2);
    await settled();
    expect([stored, inbox.isFull(1)]).toEqual([2, true]);
    await inbox.take(key(0), new Uint8Array(6));
    await inbox.take(key(1), new Uint8Array(6));
    await settled();
    expect([stored, inbox.isFull(1)]).toEqual([4, false]);
  });

  test("refuses a message of another length, and ends for everyone at once", async () => {
    const inbox = new Inbox(100);
    void inbox.put(key(0), new Uint8Array(5));
    await expect(inbox.take(key(0), new Uint8Array(4))).rejects.toThrow("expected 4 bytes from rank 1, got 5");
    const waiting = inbox.take(key(1), new Uint8Array(4));
    inbox.end(new Error("rank 1 has ended"));
    inbox.end(new Error("and rank 2"));
    await expect(waiting).rejects.toThrow("rank 1 has ended");
    await expect(inbox.take(key(0), new Uint8Array(4))).rejects.toThrow("rank 1 has ended");
  });
});

describe("links of one thread", () => {
  test("tell messages of different steps apart, in whichever order they are asked for", async () => {
    const [a, b] = localLinks(2, 1000);
    const send = (step: number) => a!.exchange({ step, exchange: 0 }, [{ to: 1, tag: 0, bytes: bytesOf(8, step) }], []);
    await Promise.all([send(1), send(2)]);
    for (const step of [2, 1]) {
      const into = new Uint8Array(8);
      await b!.exchange({ step, exchange: 0 }, [], [{ from: 0, tag: 0, into }]);
      expect(into).toEqual(bytesOf(8, step));
    }
  });

  test("give up after their deadline, naming the ranks", async () => {
    const links = localLinks(3, 20);
    const receives = [0, 2].map((from) => ({ from, tag: 3, into: new Uint8Array(4) }));
    await expect(links[1]!.exchange({ step: 7, exchange: 3 }, [], receives)).rejects.toThrow(
      "rank 1, step 7, exchange 3: expected an exchange with rank 0, 2 within 20 ms, got none",
    );
  });

  test("stop waiting when told to", async () => {
    const [link] = localLinks(2, 60_000);
    const waiting = link!.exchange({ step: 0, exchange: 0 }, [], [{ from: 1, tag: 0, into: new Uint8Array(1) }]);
    link!.stop("rank 1 has failed");
    await expect(waiting).rejects.toThrow("rank 0: rank 1 has failed");
  });
});

describe("links by sockets", () => {
  const options = (rank: number, ranks: number) => ({ rank, ranks, deadlineMs: 5000, startMs: 5000 });

  test("connect all ranks, carry messages larger than any buffer, and say who has ended", async () => {
    const mesh = await makeSocketMesh();
    const all = await Promise.all([0, 1, 2].map((rank) => SocketLink.open(mesh, options(rank, 3))));
    try {
      const size = 3_000_000;
      const into = [0, 1, 2].map((to) => [0, 1, 2].map((from) => ({ from, to, tag: 5, into: new Uint8Array(size) })));
      await Promise.all(
        all.map(({ link }, rank) => {
          const others = [0, 1, 2].filter((each) => each !== rank);
          const sends = others.map((to) => ({ to, tag: 5, bytes: bytesOf(size, 10 * rank + to) }));
          return link.exchange(
            { step: 1, exchange: 0 },
            sends,
            into[rank]!.filter(({ from }) => from !== rank),
          );
        }),
      );
      for (const { from, to, into: got } of into.flat()) {
        if (from !== to) expect(Buffer.from(got).equals(Buffer.from(bytesOf(size, 10 * from + to)))).toBe(true);
      }
      const waiting = all[0]!.link.exchange(
        { step: 2, exchange: 0 },
        [],
        [{ from: 2, tag: 0, into: new Uint8Array(1) }],
      );
      all[2]!.close();
      await expect(waiting).rejects.toThrow("rank 0: rank 2 has ended");
      const sending = all[1]!.link.exchange({ step: 2, exchange: 0 }, [{ to: 2, tag: 0, bytes: bytesOf(size, 1) }], []);
      await expect(sending).rejects.toThrow(/^rank 1: rank 2 (is lost|has ended)/);
    } finally {
      for (const each of all) each.close();
      await removeSocketMesh(mesh);
    }
  });

  test("let nobody in who does not know the key, and do not wait for ever", async () => {
    const mesh = await makeSocketMesh();
    const own = SocketLink.open(mesh, { ...options(0, 2), startMs: 300 });
    const stranger = SocketLink.open({ ...mesh, key: "another" }, { ...options(1, 2), startMs: 300 });
    await expect(own).rejects.toThrow("rank 0: expected all ranks within 300 ms");
    await stranger.then(
      (link) => link.close(),
      () => {},
    );
    await removeSocketMesh(mesh);
  });
});
