/** The tests that every backend passes: all op cases, as a backend optimises them and with a kernel for every op. */
import { describe, expect, test } from "vitest";
import { type CompileOptions, compile } from "../../src/compile.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { opDef, ops } from "../../src/ir/ops/all.ts";
import { close } from "../arb/compare.ts";
import { weightsFrom } from "../models/read-golden.ts";
import { type OpCase, opCases } from "./cases.ts";

export interface BackendTests {
  readonly backend: string;
  /** Cases that the backend does not pass, by name, and why. */
  readonly skip?: readonly { readonly reason: string; readonly cases: readonly string[] }[];
  /** Devices may assume that there are no infinities and NaN, so that such results are not compared. Default false. */
  readonly finiteOnly?: boolean;
}

const modes: Record<string, CompileOptions> = { optimised: {}, "not optimised": { optimize: false } };

export function runBackendTests({ backend, skip = [], finiteOnly = false }: BackendTests): void {
  const reasons = new Map(skip.flatMap(({ reason, cases }) => cases.map((name) => [name, reason] as const)));

  describe.each(Object.entries(modes))(`${backend}, %s`, (_, options) => {
    for (const each of opCases) {
      const reason = reasons.get(each.name);
      test.skipIf(reason !== undefined)(reason === undefined ? each.name : `${each.name} (${reason})`, () =>
        runCase(each, backend, options, finiteOnly),
      );
    }
  });

  test(`${backend}: what is skipped is a case`, () => {
    const names = new Set(opCases.map(({ name }) => name));
    expect([...reasons.keys()].filter((name) => !names.has(name))).toEqual([]);
  });
}

async function runCase(each: OpCase, backend: string, options: CompileOptions, finiteOnly: boolean): Promise<void> {
  const { module, inputs, tolerance } = each;
  const weights = weightsFrom(each.weights);
  const expected = interpret(module, inputs, { weights });
  const actual = await compile(module, backend, options).run(inputs, weights);
  close(actual, expected, { ...tolerance, finiteOnly });
}

/** Every op but `param` has a case, and names are unique. */
export function testCases(): void {
  test("every op has a case", () => {
    const covered = new Set<string>(opCases.map(({ op }) => op));
    // Messages between pipeline stages run on no backend: legalize refuses them.
    const run = Object.keys(ops).filter((op) => opDef(op as keyof typeof ops).transfer === undefined); // a key
    expect(run.filter((op) => op !== "param" && !covered.has(op))).toEqual([]);
    const names = opCases.map(({ name }) => name);
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });
}
