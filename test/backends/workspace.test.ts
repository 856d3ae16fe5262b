/** Working memory that programs of a device share. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { type TakenSpace, Workspace } from "../../src/backends/workspace.ts";

test("each gets enough, nobody's is freed, and all is freed in the end", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.nat(100), fc.constant("release")), { maxLength: 40 }), (steps) => {
      const made = new Set<{ bytes: number }>();
      const workspace = new Workspace(
        (bytes) => {
          const memory = { bytes };
          made.add(memory);
          return memory;
        },
        (memory) => expect(made.delete(memory)).toBe(true),
      );
      const taken: TakenSpace<{ bytes: number }>[] = [];
      for (const step of steps) {
        if (step === "release") {
          const space = taken.shift();
          space?.release();
          // Twice is once.
          space?.release();
        } else {
          const before = [...made].some(({ bytes }) => bytes >= step);
          const count = made.size;
          const space = workspace.take(step as number);
          expect(space.memory.bytes).toBeGreaterThanOrEqual(step as number);
          expect(made.size).toBe(before ? count : count + 1);
          taken.push(space);
        }
        for (const { memory } of taken) expect(made.has(memory)).toBe(true);
      }
      for (const { release } of taken) release();
      expect(made.size).toBe(0);
    }),
  );
});
