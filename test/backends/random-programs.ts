/** Random programs on a device against the interpreter. */
import type fc from "fast-check";
import { type CompileOptions, compile, type Device } from "../../src/compile.ts";
import type { Module } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { printModule } from "../../src/ir/print.ts";
import { close, type Limits } from "../arb/compare.ts";
import { arbInputs, type Inputs } from "../arb/inputs.ts";
import { arbModule } from "../arb/program.ts";

export const modes: Record<string, CompileOptions> = {
  "NOOPT: expand, legalize, lower": { optimize: false },
  "optimised, a kernel for every op": { optimize: true, fuse: false },
  "optimised and fused": {},
};

/** A random module with inputs and weights. */
export function arbCase(options: Parameters<typeof arbModule>[0]): fc.Arbitrary<{ module: Module; given: Inputs }> {
  return arbModule(options).chain((module) => arbInputs(module, options).map((given) => ({ module, given })));
}

export async function compareWithInterpreter(
  device: Device,
  module: Module,
  { inputs, weights }: Inputs,
  options: CompileOptions,
  limits: Partial<Limits> = {},
): Promise<void> {
  const expected = interpret(module, inputs, { weights });
  try {
    const actual = await compile(module, device, { ...options, verify: 1 }).run(inputs, weights);
    // Sums are kept in double on both sides, but expanded composites round between their steps: softmax and attention
    // have five roundings of relative size 2^-24 each, amplified where a score differs from the largest by up to 2^6.
    close(actual, expected, { ulp: 512, absolute: 1e-5, finiteOnly: options.optimize !== false, ...limits });
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.stack : error}\n${printModule(module)}`);
  }
}
