/** Figures from times of programs. */
import { expect, it } from "vitest";
import { figuresOf, gpuSizes, type ProbeSizes, processorSizes } from "../../../src/runtime/probe/measure-figures.ts";
import { type ChainShape, chainBytes, chainOps } from "../../../src/runtime/probe/probe-programs.ts";

/** What a probe runs, and how long a device takes that reads, computes and launches at these rates. */
function onDevice(
  { vector, matrix, launch, launchMatrix, reading }: ProbeSizes,
  { bytes, ops, each, step }: Record<string, number>,
) {
  const shapes: Readonly<Record<string, ChainShape>> = {
    ...{
      step: { ...launch, links: 1 },
      f32Vector: vector,
      launch,
      launchMatrix,
      int8Vector: { ...vector, format: "int8" },
    },
    ...{ f32Matrix: matrix, int8Matrix: { ...matrix, format: "int8" } },
    ...(reading === undefined ? {} : { reading }),
  };
  const time = (name: string) => {
    const shape = shapes[name]!;
    // Of a chain of launches the first is the step's.
    const share = name.startsWith("launch") ? 1 - 1 / shape.links : 1;
    const computing = share * Math.max(chainBytes(shape) / bytes!, chainOps(shape) / ops!);
    const seconds = computing + (shape.links - 1) * each!;
    return name === "step" ? step! : step! + seconds;
  };
  return { shapes, runs: { usual: time, launches: (name: string) => shapes[name]!.links } };
}

it("of a GPU, whose vectors are limited by reading, operations are those of many vectors", () => {
  const { shapes, runs } = onDevice(gpuSizes, { bytes: 3e12, ops: 50e12, each: 0, step: 1e-4 });
  const { reading, f32Vector, int8Vector, f32Matrix } = figuresOf(shapes, runs, null);
  expect(reading / 3e12).toBeCloseTo(1, 2);
  expect(f32Matrix / 50e12).toBeCloseTo(1, 2);
  // Computed with these, a token of half the bytes takes half the time.
  expect([f32Vector / 50e12, int8Vector / 50e12].map(Math.round)).toEqual([1, 1]);
});

it("of a processor they are what one vector gives from its caches", () => {
  const { shapes, runs } = onDevice(processorSizes, { bytes: 1e15, ops: 30e9, each: 1e-6, step: 5e-6 });
  const figures = figuresOf(shapes, runs, 20e9);
  expect(figures.reading).toBe(20e9);
  expect(figures.f32Vector / 30e9).toBeCloseTo(1, 1);
  expect(figures.step).toBe(5e-6);
  // The launches of the vectors' own chain make their rate a fiftieth too low, which is some tenth of a launch here.
  expect(Math.abs(figures.launch * 1e6 - 1)).toBeLessThan(0.2);
  expect(figures.launchMatrix * 1e6).toBeCloseTo(1, 1);
});
