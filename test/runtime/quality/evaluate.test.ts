/** Evaluation: the measures by hand and by their laws, windows of texts, the arithmetic exercises. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { arithmeticExercises } from "../../../src/runtime/quality/arithmetic.ts";
import {
  compareWindows,
  divergence,
  type Predictor,
  scoreWindows,
  surprise,
  windowsOfText,
} from "../../../src/runtime/quality/evaluate.ts";
import type { Tokenizer } from "../../../src/runtime/text/tokenizer.ts";

const rows = fc
  .integer({ min: 1, max: 6 })
  .chain((length) =>
    fc.tuple(
      ...[0, 1].map(() => fc.array(fc.integer({ min: -30, max: 30 }), { minLength: length, maxLength: length })),
    ),
  )
  .map((pair) => pair.map((row) => Float32Array.from(row)) as [Float32Array, Float32Array]); // two rows

/** Predicts by a table: the row of a token is what follows it. */
function table(...logits: readonly (readonly number[])[]): Predictor {
  return { logits: async (ids) => Float32Array.from(Array.from(ids).flatMap((id) => logits[id]!)) };
}

describe("divergence", () => {
  it("is what the definition gives", () => {
    // p = (1/2, 1/2), q = (1/4, 3/4)
    const [p, q] = [Float32Array.of(5, 5), Float32Array.of(0, Math.log(3))];
    expect(divergence(p, q)).toBeCloseTo(0.5 * Math.log(2) + 0.5 * Math.log(2 / 3), 6);
    expect(surprise(q, 0)).toBeCloseTo(Math.log(4), 6);
  });

  it("is 0 of a row with itself, never negative, and does not see what is added to all logits", () => {
    fc.assert(
      fc.property(rows, fc.integer({ min: -9, max: 9 }), ([p, q], shift) => {
        expect(divergence(p, p)).toBe(0);
        // Sums of at most six terms in double.
        expect(divergence(p, q)).toBeGreaterThan(-1e-12);
        const shifted = q.map((x) => x + shift);
        expect(Math.abs(divergence(p, shifted) - divergence(p, q))).toBeLessThan(1e-9);
      }),
    );
  });

  it("takes logits whose exponentials overflow", () => {
    expect(surprise(Float32Array.of(1e4, 0), 1)).toBe(1e4);
    expect(divergence(Float32Array.of(1e4, 0), Float32Array.of(1e4, 0))).toBe(0);
  });
});

describe("windows", () => {
  const certain = table([0, Math.log(3)], [Math.log(3), 0]);

  it("loss over tokens after the first of each, KL and top-1 over all positions", async () => {
    const windows = [
      [0, 1, 1],
      [1, 0],
    ];
    const scores = await scoreWindows(certain, windows);
    // 0 -> 1 and 1 -> 0 have probability 3/4, 1 -> 1 has 1/4.
    const loss = (2 * Math.log(4 / 3) + Math.log(4)) / 3;
    expect(scores).toMatchObject({ windows: 2, tokens: 5 });
    expect(scores.loss).toBeCloseTo(loss, 6);
    expect(scores.perplexity).toBeCloseTo(Math.exp(loss), 5);
    const other = table([0, Math.log(3)], [0, 0]);
    const compared = await compareWindows(certain, other, windows);
    expect(compared.referenceLoss).toBeCloseTo(loss, 6);
    // Positions 1, 2 and 3 of five come after token 1, where the other model finds both alike and takes the first.
    const kl = 0.75 * Math.log(1.5) + 0.25 * Math.log(0.5);
    expect(compared.kl).toBeCloseTo((3 / 5) * kl, 6);
    expect(compared.top1).toBe(1);
  });

  it("are refused where there is nothing to predict", async () => {
    await expect(scoreWindows(certain, [])).rejects.toThrow("no windows");
    await expect(scoreWindows(certain, [[0]])).rejects.toThrow("a window of 1");
  });

  it("of a text begin with the begin token and hold all of it", () => {
    const tokenizer = { bosId: 7, encode: (text: string) => Array.from(text, Number) } as unknown as Tokenizer; // what is used
    expect(windowsOfText(tokenizer, "12345", 3)).toEqual([
      [7, 1, 2],
      [7, 3, 4],
      [7, 5],
    ]);
    expect(() => windowsOfText(tokenizer, "1", 1)).toThrow("at least 2 tokens");
  });
});

it("exercises have operands and results from 0 to 49, and are the same each time", () => {
  const exercises = arithmeticExercises();
  expect(exercises).toHaveLength(200);
  for (const { question, answer } of exercises) {
    const [, a, sign, b] = /^What is (\d+) ([+-]) (\d+)\?$/.exec(question)!;
    const result = sign === "+" ? Number(a) + Number(b) : Number(a) - Number(b);
    expect(answer).toBe(`= ${result}`);
    for (const x of [Number(a), Number(b), result]) expect(x >= 0 && x < 50).toBe(true);
  }
  expect(arithmeticExercises()).toEqual(exercises);
  expect(new Set(exercises.map(({ question }) => question)).size).toBeGreaterThan(150);
});
