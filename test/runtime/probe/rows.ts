/** Rows of a probe as tests make them up. */
import fc from "fast-check";
import type { BackendProbe, Figures } from "../../../src/runtime/probe/backend-probe.ts";

export const someFigures: Figures = {
  reading: 20e9,
  f32Vector: 20e9,
  int8Vector: 40e9,
  f32Matrix: 30e9,
  int8Matrix: 60e9,
  launch: 1e-6,
  launchMatrix: 1e-6,
  step: 5e-6,
  token: 1e-8,
  logit: 1e-12,
};

export function row(backend: string, change: Partial<BackendProbe> = {}): BackendProbe {
  return {
    backend,
    label: `a ${backend}`,
    threads: backend === "wasm" ? 1 : null,
    missing: null,
    device: "made up",
    software: false,
    memory: 64e9,
    buffer: null,
    binding: null,
    features: [],
    figures: someFigures,
    unmeasured: null,
    ...change,
  };
}

const rate = fc.double({ min: 1e8, max: 1e13, noNaN: true });
const delay = fc.double({ min: 1e-8, max: 1e-2, noNaN: true });
export const figures: fc.Arbitrary<Figures> = fc.record({
  reading: rate,
  f32Vector: rate,
  int8Vector: rate,
  f32Matrix: rate,
  int8Matrix: rate,
  launch: delay,
  launchMatrix: delay,
  step: delay,
  token: delay,
  logit: fc.double({ min: 1e-12, max: 1e-7, noNaN: true }),
});

const memory = fc.option(fc.double({ min: 1e6, max: 1e12, noNaN: true }));

/** Machines: some of the backends, each running or not, with little or much memory. */
export const machines: fc.Arbitrary<BackendProbe[]> = fc
  .array(
    fc.record({
      backend: fc.constantFrom("webgpu", "wasm", "js"),
      threads: fc.integer({ min: 1, max: 16 }),
      missing: fc.option(fc.constant({ reason: "made up to be missing", mend: "make it" }), { freq: 4 }),
      software: fc.boolean(),
      memory,
      binding: memory,
      figures: fc.option(figures, { freq: 4 }),
    }),
    { minLength: 1, maxLength: 5 },
  )
  .map((list) =>
    list.map(({ backend, threads, software, ...rest }, i) =>
      row(backend, {
        ...rest,
        label: `number ${i}`,
        threads: backend === "wasm" ? threads : null,
        software: backend === "webgpu" && software,
      }),
    ),
  );
