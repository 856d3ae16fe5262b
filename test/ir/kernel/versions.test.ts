/** Versions of a map behave as copies would, in whatever order they are made of each other. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { noVersions, type Versions } from "../../../src/ir/kernel/versions.ts";

const names = ["a", "b", "c"] as const;

test("every version has what a copy would have", () => {
  const steps = fc.array(fc.record({ of: fc.nat(), name: fc.constantFrom(...names), value: fc.nat(9) }));
  const check = (made: readonly { of: number; name: string; value: number }[]) => {
    const versions: [Versions<number>, ReadonlyMap<string, number>][] = [[noVersions(), new Map()]];
    for (const { of, name, value } of made) {
      const [version, copy] = versions[of % versions.length]!;
      versions.push([version.with(name, value), new Map(copy).set(name, value)]);
    }
    for (const [version, copy] of versions) {
      for (const name of names) expect(version.get(name)).toBe(copy.get(name));
    }
  };
  fc.assert(fc.property(steps, check));
});
