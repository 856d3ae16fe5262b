/** Mutated configs: each is read or refused by name, in bounded time, and nothing global changes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError, UnsupportedError } from "../../src/ir/errors.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { inverseFrequencies } from "../../src/models/deepseek/rope.ts";
import { weightSpecs } from "../../src/models/deepseek/weights.ts";
import { type Json, published } from "./published-configs.ts";
import { goldenConfigText, goldenNames } from "./read-golden.ts";

const bases: readonly Json[] = [
  ...Object.values(published).map(({ config }) => config),
  ...goldenNames.map((name): Json => JSON.parse(goldenConfigText(name))),
];
const names = Array.from(
  new Set([...bases.flatMap(namesIn), "rope_parameters", "layer_types", "mlp_bias", "use_mla", "truncate", "dtype"]),
);

function namesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) => [name, ...namesIn(inner)]);
}

const hostileNames = ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "toJSON", ""];
const numbers = [0, -0, 1, -1, 2, 3, 0.5, 1e-9, 1e9, 2 ** 31, 2 ** 53, 1e308, 128, 4096, Number.NaN, Infinity];
const strings = ["", "default", "linear", "llama3", "yarn", "deepseek_v3", "llama", "softmax", "greedy", "noaux_tc"];
const value: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...numbers) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(null, true, false, [], {}, [1, 2], "x".repeat(5000), ...strings, ...hostileNames),
  },
  { weight: 2, arbitrary: fc.nat({ max: 300 }) },
  fc.jsonValue({ maxDepth: 3 }),
  fc.dictionary(fc.constantFrom(...names, ...hostileNames), fc.constantFrom<unknown>(...numbers, ...strings, null), {
    maxKeys: 5,
  }),
);

interface Mutation {
  readonly name: string;
  readonly kind: "set" | "remove" | "inside";
  readonly value: unknown;
}
const mutation: fc.Arbitrary<Mutation> = fc.record({
  name: fc.oneof(
    { weight: 9, arbitrary: fc.constantFrom(...names) },
    { weight: 1, arbitrary: fc.constantFrom(...hostileNames) },
  ),
  kind: fc.constantFrom("set", "set", "inside", "remove"),
  value,
});

/** Sets own properties, `__proto__` included, as a JSON parser would. */
function mutate(base: Json, mutations: readonly Mutation[]): Json {
  const config: Json = structuredClone(base);
  for (const { name, kind, value: to } of mutations) {
    const rope = config.rope_scaling;
    const target = kind === "inside" && typeof rope === "object" && rope !== null ? rope : config;
    if (kind === "remove") Reflect.deleteProperty(config, name);
    else Object.defineProperty(target, name, { value: to, writable: true, enumerable: true, configurable: true });
  }
  return config;
}

test("6000 mutated configs are read or refused by name", () => {
  const prototypes = [Object.prototype, Array.prototype, Function.prototype];
  const before = prototypes.map((prototype) => Object.getOwnPropertyNames(prototype).length);
  let read = 0;
  let refused = 0;
  fc.assert(
    fc.property(fc.constantFrom(...bases), fc.array(mutation, { minLength: 1, maxLength: 4 }), (base, mutations) => {
      const json = mutate(base, mutations);
      const start = performance.now();
      try {
        const config = parseModelConfig(json);
        read++;
        // What was accepted can be used: sizes are whole and finite, frequencies are numbers.
        expect(config.feed_forward.length).toBe(config.num_hidden_layers);
        for (const { shape } of weightSpecs(config)) {
          expect(shape.every((dim) => Number.isSafeInteger(dim) && dim > 0)).toBe(true);
        }
        expect(inverseFrequencies(config.rope).every(Number.isFinite)).toBe(true);
        expect(Number.isFinite(config.attention.softmax_scale * config.rope.attention_factor)).toBe(true);
      } catch (error) {
        if (!(error instanceof InputError || error instanceof UnsupportedError)) throw error;
        expect(error.message).toMatch(/^config\.json.*: .*expected/s);
        expect(error.message.length).toBeLessThan(1000);
        refused++;
      }
      // Generous for a busy machine; the usual time is well below a millisecond.
      expect(performance.now() - start).toBeLessThan(1000);
    }),
    { numRuns: 6000, seed: 20240 },
  );
  expect(prototypes.map((prototype) => Object.getOwnPropertyNames(prototype).length)).toEqual(before);
  expect(Object.getOwnPropertyNames({})).toEqual([]);
  // Both outcomes must be common, or the test would show nothing.
  expect(read).toBeGreaterThan(500);
  expect(refused).toBeGreaterThan(1500);
});
