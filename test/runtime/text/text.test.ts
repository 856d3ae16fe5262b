/** Streamed text: whatever the cuts, the pieces make up the whole, nothing leaks, and nothing is held longer than needed. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { GeneratedPart } from "../../../src/runtime/engine/generate.ts";
import { ReasoningSplitter } from "../../../src/runtime/text/reasoning.ts";
import { StopMatcher } from "../../../src/runtime/text/stop.ts";
import { type ReasoningOptions, TextPipeline } from "../../../src/runtime/text/text-pipeline.ts";
import { TextStream, type TokenText } from "../../../src/runtime/text/text-stream.ts";

/** Text of few letters, so that stop strings occur and overlap; with characters of 2, 3 and 4 bytes. */
const arbitraryText = fc.string({
  unit: fc.constantFrom("a", "b", "c", "é", "€", "😀", "😁", "\ufffd"),
  maxLength: 30,
});
const arbitraryStops = fc.array(
  fc.string({ unit: fc.constantFrom("a", "b", "é", "😀", "\ufffd"), minLength: 1, maxLength: 5 }),
  { maxLength: 4 },
);

/** Cuts into chunks of whole characters, some empty. */
const arbitraryChunks = fc.array(arbitraryText, { maxLength: 8 });

/** The text up to the stop string complete first (the longest of those), looked for end by end. */
function cutAtStop(text: string, stops: readonly string[]): { text: string; matched: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (found !== undefined) return { text: text.slice(0, end - found.length), matched: found };
  }
  return { text, matched: null };
}

/** The longest end of the text that is a proper beginning of a stop string. */
function heldBack(text: string, stops: readonly string[]): number {
  for (let n = text.length; n > 0; n--)
    if (stops.some((stop) => stop.length > n && stop.startsWith(text.slice(text.length - n)))) return n;
  return 0;
}

describe("stop strings", () => {
  test("cut at the first stop, for any chunks; held back exactly as long as needed", () => {
    fc.assert(
      fc.property(arbitraryChunks, arbitraryStops, (chunks, stops) => {
        const matcher = new StopMatcher(stops);
        const expected = cutAtStop(chunks.join(""), stops);
        let seen = "";
        let out = "";
        let matched: string | null = null;
        for (const chunk of chunks) {
          const step = matcher.push(chunk);
          seen += chunk;
          out += step.text;
          expect(out.isWellFormed()).toBe(true);
          matched ??= step.matched;
          if (matched === null) expect(out.length).toBe(seen.length - heldBack(seen, stops));
        }
        if (matched === null) out += matcher.end();
        expect({ text: out, matched }).toEqual(expected);
      }),
      { numRuns: 1000 },
    );
  });

  test("a repeated beginning releases what can no longer match", () => {
    const matcher = new StopMatcher(["aab"]);
    expect(matcher.push("aa")).toEqual({ text: "", matched: null });
    expect(matcher.push("a")).toEqual({ text: "a", matched: null });
    expect(matcher.push("bxyz")).toEqual({ text: "", matched: "aab" });
    expect(matcher.push("more")).toEqual({ text: "", matched: null });
  });

  test("long text with a bad stop string takes linear time", () => {
    const matcher = new StopMatcher([`${"a".repeat(5000)}b`]);
    const start = performance.now();
    for (let i = 0; i < 200; i++) matcher.push("a".repeat(1000));
    // Quadratic would be 10^9 comparisons, some seconds; this is 4 * 10^5.
    expect(performance.now() - start).toBeLessThan(1000);
  });
});

/** Tokens given as byte strings; those of the set are special. */
function tokensOf(bytes: readonly Uint8Array[], special: ReadonlySet<number> = new Set()): TokenText {
  return { tokenBytes: (id) => bytes[id]!, isSpecial: (id) => special.has(id) };
}

const bytesNearUtf8 = fc.oneof(
  fc.uint8Array({ maxLength: 4 }),
  arbitraryText.map((text) => new TextEncoder().encode(text).slice(1, 6)),
  fc
    .constantFrom(
      [0xf0, 0x9f],
      [0x98, 0x80],
      [0xe2],
      [0x82, 0xac],
      [0xef, 0xbb, 0xbf],
      [0xed, 0xa0, 0x80],
      [0xc0, 0xaf],
      [0xff],
    )
    .map((list) => Uint8Array.from(list)),
);

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function decodeWhole(parts: readonly Uint8Array[]): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(concatenate(parts));
}

describe("text from tokens", () => {
  test("the stream equals the whole decode, whatever the bytes, without special tokens", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(bytesNearUtf8, fc.boolean()), { maxLength: 20 }), (tokens) => {
        const special = new Set([...tokens.keys()].filter((id) => tokens[id]![1]));
        const stream = new TextStream(
          tokensOf(
            tokens.map(([bytes]) => bytes),
            special,
          ),
        );
        const pieces = tokens.map((_, id) => stream.push(id));
        for (const piece of pieces) expect(piece.isWellFormed()).toBe(true);
        const shown = tokens.filter((_, id) => !special.has(id)).map(([bytes]) => bytes);
        expect(pieces.join("") + stream.end()).toBe(decodeWhole(shown));
      }),
      { numRuns: 2000 },
    );
  });

  test("a character is given by the token that completes it", () => {
    const stream = new TextStream(
      tokensOf([[0xf0], [0x9f, 0x98], [0x80, 0x41], [0xe2, 0x82]].map((list) => Uint8Array.from(list))),
    );
    expect([0, 1, 2, 3].map((id) => stream.push(id))).toEqual(["", "", "😀A", ""]);
    expect(stream.end()).toBe("\ufffd");
  });
});

/** Reasoning and answer of a whole text, by the definition. */
function splitWhole(text: string, startsInside: boolean): { reasoning: string; text: string } {
  const opened = startsInside ? "" : /^\s*<think>/.exec(text)?.[0];
  if (opened === undefined) return { reasoning: "", text };
  const rest = text.slice(opened.length);
  const close = rest.indexOf("</think>");
  if (close === -1) return { reasoning: rest, text: "" };
  return { reasoning: rest.slice(0, close), text: rest.slice(close + "</think>".length) };
}

const arbitraryTagged = fc
  .array(fc.constantFrom("<think>", "</think>", "<th", "</", "<", "ink>", " ", "\n", "x", "é"), { maxLength: 10 })
  .map((pieces) => pieces.join(""));

describe("reasoning", () => {
  test("is separated the same for any chunks, and pieces are never empty", () => {
    fc.assert(
      fc.property(arbitraryTagged, fc.array(fc.nat({ max: 60 })), fc.boolean(), (text, cuts, startsInside) => {
        const splitter = new ReasoningSplitter({ startsInside });
        const at = [0, ...cuts.filter((cut) => cut < text.length).sort((a, b) => a - b), text.length];
        const pieces = at.slice(1).flatMap((end, i) => splitter.push(text.slice(at[i]!, end)));
        pieces.push(...splitter.end());
        const whole = { reasoning: "", text: "" };
        for (const piece of pieces) {
          expect(piece.text).not.toBe("");
          whole[piece.kind] += piece.text;
        }
        expect(whole).toEqual(splitWhole(text, startsInside));
      }),
      { numRuns: 2000 },
    );
  });

  test("text is released as soon as it is no tag", () => {
    const splitter = new ReasoningSplitter({ startsInside: false });
    expect(splitter.push("\n<th")).toEqual([]);
    expect(splitter.push("ink>so </t")).toEqual([{ kind: "reasoning", text: "so " }]);
    expect(splitter.push("o</think>yes <think>")).toEqual([
      { kind: "reasoning", text: "</to" },
      { kind: "text", text: "yes <think>" },
    ]);
  });
});

function runPipeline(bytes: readonly Uint8Array[], stops: readonly string[], reasoning: ReasoningOptions | null) {
  const pipeline = new TextPipeline(tokensOf(bytes), stops, reasoning);
  const parts: GeneratedPart[] = [];
  let matched: string | null = null;
  for (let id = 0; id < bytes.length && matched === null; id++) matched = pipeline.push(id, (part) => parts.push(part));
  const last = pipeline.end((part) => parts.push(part));
  return { parts, matched: matched ?? last, pipeline };
}

describe("the whole pipeline", () => {
  test("streamed text = whole decode, cut at the first stop; parts carry each token at most once, in order", () => {
    fc.assert(
      fc.property(fc.array(bytesNearUtf8, { maxLength: 15 }), arbitraryStops, (bytes, stops) => {
        const { parts, matched } = runPipeline(bytes, stops, null);
        expect({ text: parts.map(({ text }) => text).join(""), matched }).toEqual(cutAtStop(decodeWhole(bytes), stops));
        const tokens = parts.flatMap((part) => part.tokens);
        expect(tokens).toEqual([...tokens.keys()]);
      }),
      { numRuns: 1000 },
    );
  });

  test("reasoning tokens are counted with their tags", () => {
    const encoder = new TextEncoder();
    const pieces = ["<think>", "a", "b", "</think>", "yes", "!"].map((text) => encoder.encode(text));
    const outside = runPipeline(pieces, [], { startsInside: false });
    expect(outside.pipeline.reasoningTokens).toBe(4);
    expect(outside.parts.map(({ kind, text }) => [kind, text])).toEqual([
      ["reasoning", "a"],
      ["reasoning", "b"],
      ["text", "yes"],
      ["text", "!"],
    ]);
    expect(runPipeline(pieces.slice(1), [], { startsInside: true }).pipeline.reasoningTokens).toBe(3);
    expect(runPipeline(pieces, [], null).pipeline.reasoningTokens).toBe(0);
  });
});
