/** Options: what is accepted, what is refused, and that a refusal names field, range and value. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { InputError } from "../../../src/ir/errors.ts";
import { checkGenerateOptions, type GenerateOptions } from "../../../src/runtime/engine/generate.ts";

/** Options as they come from outside, where types promise nothing. */
function check(options: unknown) {
  return checkGenerateOptions(options as GenerateOptions, 100);
}

describe("refused", () => {
  test.each<[unknown, RegExp]>([
    [null, /^options: .*an object, got null/],
    [{ maxTokens: 0 }, /^maxTokens: .*at least 1, got 0/],
    [{ maxTokens: 1.5 }, /^maxTokens: .*integer.*got 1.5/],
    [{ maxTokens: 2 ** 53 }, /^maxTokens: .*integer/],
    [{ maxTokens: "5" }, /^maxTokens: .*got "5"/],
    [{ temperature: -0.1 }, /^temperature: .*at least 0, got -0.1/],
    [{ temperature: Number.NaN }, /^temperature: .*got NaN/],
    [{ temperature: Number.POSITIVE_INFINITY }, /^temperature: .*got Infinity/],
    [{ topK: 0 }, /^topK: .*at least 1, got 0\nLeave topK out/],
    [{ topP: 0 }, /^topP: .*above 0 and at most 1, got 0/],
    [{ topP: 1.01 }, /^topP: /],
    [{ minP: 2 }, /^minP: .*at most 1, got 2/],
    [{ repetitionPenalty: 0 }, /^repetitionPenalty: .*above 0, got 0/],
    [{ presencePenalty: 2.1 }, /^presencePenalty: .*at least -2 and at most 2, got 2.1/],
    [{ frequencyPenalty: null }, /^frequencyPenalty: .*got null/],
    [{ logitBias: { 100: 1 } }, /^logitBias: .*ids 0 to 99, got "100"/],
    [{ logitBias: { "01": 1 } }, /^logitBias: .*got "01"/],
    [{ logitBias: JSON.parse('{"__proto__":1}') }, /^logitBias: .*got "__proto__"/],
    [{ logitBias: { 5: 101 } }, /^logitBias.5: .*at most 100, got 101/],
    [{ logitBias: { 5: undefined } }, /^logitBias.5: .*number/],
    [{ logitBias: [1] }, /^logitBias: .*object/],
    [{ seed: 0.5 }, /^seed: .*integer.*got 0.5/],
    [{ stop: "" }, /^stop: .*at least one character, got ""/],
    [{ stop: ["a", 5] }, /^stop\[1\]: .*got 5/],
    [{ stop: "\ud83d" }, /^stop: .*surrogate/],
    [{ stopTokenIds: [100] }, /^stopTokenIds\[0\]: .*at most 99, got 100/],
    [{ stopTokenIds: [undefined] }, /^stopTokenIds\[0\]: missing/],
    [{ stopTokenIds: 5 }, /^stopTokenIds: .*list/],
    [{ ignoreEos: 1 }, /^ignoreEos: .*true or false, got 1/],
    [{ signal: {} }, /^signal: .*AbortSignal/],
    [{ max_tokens: 5 }, /^options: unknown option: .*"max_tokens"\nDid you mean "maxTokens"/],
    [JSON.parse('{"__proto__": 1}'), /^options: unknown option/],
  ])("%j", (options, message) => {
    expect(() => check(options)).toThrow(InputError);
    expect(() => check(options)).toThrow(message);
  });

  test("anything at all is accepted or refused with an InputError", () => {
    const value = fc.anything();
    const names = ["maxTokens", "temperature", "topK", "topP", "logitBias", "seed", "stop", "stopTokenIds", "signal"];
    const near = fc.dictionary(fc.constantFrom(...names), value);
    fc.assert(
      fc.property(fc.oneof(value, near), (options) => {
        try {
          check(options);
        } catch (error) {
          expect(error).toBeInstanceOf(InputError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});

test("accepted: limits themselves, undefined as left out, one stop or several, bias as object or map", () => {
  expect(check({})).toMatchObject({ maxTokens: null, stop: [], ignoreEos: false, signal: null });
  expect(check({ topK: undefined, topP: 1, minP: 0, temperature: 0 }).sampling).toMatchObject({ topK: null, topP: 1 });
  expect(check({ stop: "x" }).stop).toEqual(["x"]);
  expect(check({ stop: ["x", "y"] }).stop).toEqual(["x", "y"]);
  expect([...check({ logitBias: { 99: -100 } }).sampling.logitBias]).toEqual([[99, -100]]);
  expect([...check({ logitBias: new Map([[0, 1]]) }).sampling.logitBias]).toEqual([[0, 1]]);
});
