/**
 * Seeded mutations of texts, bytes and JSON, and the check that a parser answers any of them with a result or a typed error.
 * For any parser of files that nobody vouches for:
 *
 *     const random = randomFrom(seed);
 *     for (let i = 0; i < 1000; i++) {
 *       const text = mutateJson(random, original);
 *       check.run(() => parse(text), text);
 *     }
 *     check.finish();
 */
import { expect } from "vitest";
import { InputError, UnsupportedError } from "../../src/ir/errors.ts";

/** A whole number from 0 to `limit - 1`. */
export type Random = (limit: number) => number;

/** The "mulberry32" generator. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) % limit;
  };
}

export function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)]!;
}

/** Numbers at the edges of the integer types, and just beside `size`. */
export function hostileNumbers(size: number): string[] {
  const edges = [0n, 1n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n].flatMap((n) => [n, -n]);
  return [...edges, size - 1, size + 1, "1e400", "-0", "0.5", "1e308", "-1e-320", "9".repeat(400)].map(String);
}

/** JSON texts to put where a value was. */
const hostileValues: readonly string[] = [
  ...hostileNumbers(100),
  "null",
  "true",
  '""',
  '"x"',
  '"__proto__"',
  '"\\ud800"',
  '"../../etc/passwd"',
  '"F32"',
  "[]",
  "{}",
  "[[]]",
  '{"__proto__":{"polluted":true}}',
  '{"constructor":{"prototype":{"polluted":true}}}',
  `"${"a".repeat(5000)}"`,
  "[".repeat(20_000),
  `${"[".repeat(200)}${"]".repeat(200)}`,
  '{"a":'.repeat(5000),
  "NaN",
  "undefined",
  "1,2",
  '"\\u00"',
  '"\u0001"',
];

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** The JSON text with one value, sometimes two, replaced, removed, repeated, wrapped or given a `__proto__`. */
export function mutateJson(random: Random, text: string): string {
  const value: Json = JSON.parse(text);
  const nodes = countNodes(value);
  const targets = new Set([random(nodes), ...(random(4) === 0 ? [random(nodes)] : [])]);
  let at = 0;
  const print = (node: Json): string => {
    const hit = targets.has(at++);
    const plain = (): string => {
      if (typeof node !== "object" || node === null) return JSON.stringify(node);
      if (Array.isArray(node)) return `[${printItems(node, random, hit, print)}]`;
      return `{${printFields(node, random, hit, print)}}`;
    };
    if (!hit || (typeof node === "object" && node !== null && random(2) === 0)) return plain();
    return random(8) === 0 ? `[${plain()}]` : pick(random, hostileValues);
  };
  return print(value);
}

function printItems(items: readonly Json[], random: Random, hit: boolean, print: (item: Json) => string): string {
  const texts = items.map(print);
  if (hit) texts.splice(random(texts.length + 1), random(3), ...(random(2) === 0 ? [pick(random, hostileValues)] : []));
  return texts.join(",");
}

function printFields(fields: object, random: Random, hit: boolean, print: (item: Json) => string): string {
  const texts = Object.entries(fields).map(([key, item]) => `${JSON.stringify(key)}:${print(item)}`);
  if (hit && texts.length > 0) {
    const at = random(texts.length);
    const ways: readonly (() => void)[] = [
      () => texts.splice(at, 1),
      () => texts.push(texts[at]!),
      () => texts.push(`"__proto__":${pick(random, hostileValues)}`),
      () => texts.push(`"constructor":${pick(random, hostileValues)}`),
      () => texts.push(`"":${pick(random, hostileValues)}`),
    ];
    pick(random, ways)();
  }
  return texts.join(",");
}

function countNodes(value: Json): number {
  if (typeof value !== "object" || value === null) return 1;
  return Object.values(value).reduce((count: number, item: Json) => count + countNodes(item), 1);
}

/** The bytes with up to four of them flipped, inserted, deleted, repeated or cut off. */
export function mutateBytes(random: Random, original: Uint8Array): Uint8Array {
  const bytes = [...original];
  for (let times = 1 + random(4); times > 0; times--) {
    const at = random(bytes.length + 1);
    const ways: readonly (() => void)[] = [
      () => bytes.splice(at, 1, random(256)),
      () => bytes.splice(at, 1, (bytes[at] ?? 0) ^ (1 << random(8))),
      () => bytes.splice(at, 0, random(256)),
      () => bytes.splice(at, 1 + random(20)),
      () => bytes.splice(at, 0, ...bytes.slice(at, at + random(50))),
      () => bytes.splice(at),
      () => bytes.splice(at, 1, pick(random, [...'[]{}",:0-9eE\\']).charCodeAt(0)),
    ];
    pick(random, ways)();
  }
  return Uint8Array.from(bytes);
}

/** The text with up to four places changed, or pieces of `others` put in. */
export function mutateText(random: Random, original: string, others: readonly string[] = []): string {
  let text = original;
  for (let times = 1 + random(4); times > 0; times--) {
    const at = random(text.length + 1);
    const length = random(12);
    const donor = others.length === 0 ? text : pick(random, others);
    const from = random(donor.length + 1);
    const piece = pick(random, ["", donor.slice(from, from + random(60)), String.fromCharCode(random(0x3000))]);
    text = random(20) === 0 ? text.slice(0, at) : text.slice(0, at) + piece + text.slice(at + length);
  }
  return text;
}

export interface HostileCheck {
  /** Runs a parser on an input: a result or an InputError or UnsupportedError; anything else fails the test, with the input. */
  run<T>(parse: () => T, input: string): T | undefined;
  runAsync<T>(parse: () => Promise<T>, input: string): Promise<T | undefined>;
  /** Checks what must hold over all inputs. */
  finish(least: { readonly inputs: number; readonly refused: number; readonly accepted: number }): void;
}

/** The memory that reading all of the inputs may add to the process, garbage included. */
const maxGrowthBytes = 400_000_000;
/** Generous: the slowest inputs take about a second. */
const maxSeconds = 10;

export function hostileCheck(): HostileCheck {
  const prototypeBefore = Reflect.ownKeys(Object.prototype);
  const memoryBefore = process.memoryUsage().rss;
  let inputs = 0;
  let refused = 0;
  let accepted = 0;
  let slowest = { seconds: 0, input: "" };

  const judge = (error: unknown, input: string): void => {
    refused++;
    const typed = error instanceof InputError || error instanceof UnsupportedError;
    if (!typed) throw new Error(`not a typed error for ${JSON.stringify(input.slice(0, 3000))}`, { cause: error });
    if (error.message.length > 3000)
      throw new Error(`a message of ${error.message.length} characters`, { cause: error });
  };
  const clock = (start: number, input: string): void => {
    inputs++;
    const seconds = (performance.now() - start) / 1000;
    if (seconds > slowest.seconds) slowest = { seconds, input };
  };
  return {
    run: (parse, input) => {
      const start = performance.now();
      try {
        const result = parse();
        accepted++;
        return result;
      } catch (error) {
        judge(error, input);
        return undefined;
      } finally {
        clock(start, input);
      }
    },
    runAsync: async (parse, input) => {
      const start = performance.now();
      try {
        const result = await parse();
        accepted++;
        return result;
      } catch (error) {
        judge(error, input);
        return undefined;
      } finally {
        clock(start, input);
      }
    },
    finish: (least) => {
      expect(Reflect.ownKeys(Object.prototype)).toEqual(prototypeBefore);
      expect({}).not.toHaveProperty("polluted");
      expect(inputs).toBeGreaterThanOrEqual(least.inputs);
      expect(refused).toBeGreaterThanOrEqual(least.refused);
      expect(accepted).toBeGreaterThanOrEqual(least.accepted);
      expect(slowest.seconds, slowest.input.slice(0, 3000)).toBeLessThan(maxSeconds);
      expect(process.memoryUsage().rss - memoryBefore).toBeLessThan(maxGrowthBytes);
    },
  };
}
