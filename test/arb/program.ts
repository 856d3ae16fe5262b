/**
 * Random tensor modules. A program is a list of steps whose operand numbers wrap modulo what exists, so every list is a
 * valid program and shrinking is dropping steps. Shapes are small so that failures read as short texts.
 */
import fc from "fast-check";
import { Builder, type Func, type Module, makeModule } from "../../src/ir/graph.ts";
import type { OpName } from "../../src/ir/ops/all.ts";
import { printModule } from "../../src/ir/print.ts";
import type { DType } from "../../src/ir/types.ts";
import { Program, type Step } from "./growing.ts";
import { pieces } from "./pieces.ts";
import { makers } from "./steps.ts";

export interface ProgramOptions {
  /** Keeps values finite: no ops outside their domain, no overflow. Default false. */
  readonly finite?: boolean;
  /** Dtypes that casts and weights may have. Default all. */
  readonly dtypes?: readonly DType[];
  /** Ops left out. */
  readonly without?: readonly OpName[];
  /** Most steps of a function. Default 8. */
  readonly maxSteps?: number;
  /** Most functions. Default 3. */
  readonly maxFuncs?: number;
  /** Sizes of dimensions of new values. Default 1, 2 and 3. */
  readonly sizes?: readonly number[];
}

/** Numbers where wrong rules hide, and some plain ones. */
export function arbFloat(finite = false): fc.Arbitrary<number> {
  const plain = fc.integer({ min: -32, max: 32 }).map((x) => x / 8);
  const usual = fc.constantFrom(0, -0, 1, -1, 0.5, 2, -3);
  if (finite) return fc.oneof(plain, usual);
  const special = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 2 ** -149, -(2 ** -130), 3e38];
  return fc.oneof(
    plain,
    usual,
    fc.constantFrom(...special),
    fc.float().map((x) => x),
  );
}

function arbStep(finite: boolean, sizes: readonly number[]): fc.Arbitrary<Step> {
  return fc.record({
    op: fc.nat(10_000),
    picks: fc.array(fc.nat(63), { minLength: 6, maxLength: 6 }),
    shape: fc.array(fc.constantFrom(...sizes), { maxLength: 3 }),
    value: arbFloat(finite),
    name: fc.option(fc.constantFrom("h", "q_nope", "two words", "0", "%", "return"), { nil: undefined, freq: 3 }),
  });
}

/** Modules with one to `maxFuncs` functions; the last is the entry, and later ones call earlier ones. */
export function arbModule(options: ProgramOptions = {}): fc.Arbitrary<Module> {
  const { finite = false, maxSteps = 8, maxFuncs = 3, sizes = [1, 2, 3] } = options;
  const without = new Set<OpName>(options.without);
  const allowed = [...makers, ...pieces].filter((maker) => !without.has(maker.op));
  const body = fc.record({
    steps: fc.array(arbStep(finite, sizes), { maxLength: maxSteps }),
    outs: fc.array(fc.nat(63), { minLength: 1, maxLength: 3 }),
  });
  return fc.array(body, { minLength: 1, maxLength: maxFuncs }).map((bodies) => {
    const builder = new Builder();
    const funcs: Func[] = [];
    for (const [i, { steps, outs }] of bodies.entries()) {
      const entry = i === bodies.length - 1;
      const program = new Program(builder, entry ? "main" : `f${i}`, entry, funcs, options);
      for (const step of steps) {
        const { make } = allowed[step.op % allowed.length]!;
        program.add(make(program, step), step.name);
      }
      funcs.push(program.finish(outs));
    }
    return shown(makeModule("random", funcs, "main"));
  });
}

/** Failing modules are reported as their text, ready to paste into a test. */
function shown(module: Module): Module {
  return Object.defineProperty(module, fc.toStringMethod, { value: () => printModule(module), enumerable: false });
}
