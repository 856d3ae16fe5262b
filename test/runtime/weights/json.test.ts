/** The strict JSON reader against JSON.parse: the same values, and what it refuses beyond. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { InputError } from "../../../src/ir/errors.ts";
import { type JsonValue, maxJsonDepth, parseJson } from "../../../src/runtime/weights/json.ts";
import { mutateText, randomFrom } from "../hostile.ts";

function plain(value: JsonValue): unknown {
  if (value instanceof Map) {
    const object: Record<string, unknown> = Object.create(null);
    for (const [key, item] of value) object[key] = plain(item);
    return object;
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

/** As JSON.parse, with objects that have no prototype. */
function reference(text: string): unknown {
  return JSON.parse(text, (_, value) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.assign(Object.create(null), value)
      : value,
  );
}

test("reads what JSON.parse reads", () => {
  fc.assert(
    fc.property(fc.jsonValue({ noUnicodeString: false }), fc.nat(3), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      expect(plain(parseJson(text, "t"))).toEqual(reference(text));
    }),
    { numRuns: 1000 },
  );
});

test("accepts nothing that JSON.parse refuses, and refuses only for its own reasons", () => {
  const random = randomFrom(1);
  const original = '{"a": [1, -2.5e+3, 0.1E-2, true, false, null], "b\\u00e9\\n": {"": "\\"\\\\/"}, "c":[{}, [], "é"]}';
  let agreed = 0;
  for (let i = 0; i < 20_000; i++) {
    const text = mutateText(random, original);
    let expected: unknown;
    try {
      expected = reference(text);
    } catch {
      expect(() => parseJson(text, "t"), text).toThrow(InputError);
      continue;
    }
    try {
      expect(plain(parseJson(text, "t"))).toEqual(expected);
      agreed++;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      expect(error.message).toMatch(/occurs twice|too large|nested more/);
    }
  }
  expect(agreed).toBeGreaterThan(500);
});

test("keys of the prototype are keys like any other", () => {
  const value = parseJson('{"__proto__": {"polluted": 1}, "constructor": 2}', "t");
  expect(value).toEqual(
    new Map<string, unknown>([
      ["__proto__", new Map([["polluted", 1]])],
      ["constructor", 2],
    ]),
  );
  expect({}).not.toHaveProperty("polluted");
});

test.each([
  ['{"a":1,"a":1}', /"a" occurs twice/],
  ['{"a":{"b":1,"\\u0062":1}}', /"b" occurs twice/],
  ["1e400", /too large/],
  ["[".repeat(maxJsonDepth + 1) + "]".repeat(maxJsonDepth + 1), /nested more than 64/],
  ['{"a":'.repeat(1_000_000), /nested more than 64/],
  ["", /expected a value, got the end/],
  ["[1,]", /expected a value, got "\]"/],
  ["01", /expected the end of the text/],
  ['"a\nb"', /expected a closing quote/],
  ["\ufeff{}", /expected a value/],
  ["{'a':1}", /expected a key/],
  ["NaN", /expected a value/],
])("refuses %.20s", (text, message) => {
  expect(() => parseJson(text, "t")).toThrow(message);
});

test("nesting up to the limit is read", () => {
  expect(() => parseJson("[".repeat(maxJsonDepth) + "]".repeat(maxJsonDepth), "t")).not.toThrow();
});
