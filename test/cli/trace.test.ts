/** The trace: what its file holds, how texts are compared, and the page that shows it. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tracePage } from "../../src/cli/trace-page.ts";
import { diffLines, lineKey } from "../../src/cli/viewer/diff.ts";
import { compile } from "../../src/compile.ts";
import { compileOptionsFromEnv } from "../../src/compile-options.ts";
import { readEnv } from "../../src/env.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { cutText } from "../../src/passes/instruments.ts";
import type { TraceFile } from "../../src/trace-file.ts";
import { ciuic } from "./ciuic.ts";

const program = parseModule(`module @"a</script>b" entry @f {
func @f(%x: f32[4,8], %w: f32[3,8]) {
  %m: f32[4,8] = neg %x
  %n: f32[4,8] = neg %m
  %a: f32[4,3] = contract %n, %w {axes="n i, o i -> n o"}
  %b: f32[4,3] = exp %a
  %c: f32[4] = reduceSum %b
  return %c
}
}
`);

function traced(): TraceFile {
  let last = "";
  const env = readEnv({ TRACE: "t.json" });
  const options = compileOptionsFromEnv((_, __, text) => {
    last = text;
  }, env);
  compile(program, "js", options);
  compile(program, "js", options); // further modules are not traced
  return JSON.parse(last) as TraceFile;
}

describe("the file", () => {
  const trace = traced();

  it("has the first module's passes, kernels and memory", () => {
    expect(trace.input).toContain("%n: f32[4,8] = neg %m");
    expect(trace.passes.map(({ name }) => name).filter((name) => name === "absorb")).toHaveLength(1);
    expect(trace.passes[0]?.matches).toEqual([expect.objectContaining({ rule: "neg_neg" })]);
    expect(trace.passes[0]?.text).not.toContain("neg");
    expect(trace.kernels.length).toBeGreaterThan(0);
    for (const { ir, source, launches, bytes } of trace.kernels) {
      expect([ir.startsWith("kernel"), source.includes("function"), launches, bytes > 0]).toEqual([
        true,
        true,
        1,
        true,
      ]);
    }
    const [func] = trace.memory;
    expect(func?.steps).toHaveLength(trace.kernels.length);
    for (const { offset, bytes, first, last } of func?.values ?? []) {
      expect(offset + bytes).toBeLessThanOrEqual(trace.bytes.arena);
      expect(first).toBeLessThanOrEqual(last);
    }
  });

  it("is bounded", () => {
    expect(cutText("abc", 3)).toBe("abc");
    expect(cutText("abcd", 3)).toBe("abc\n... 1 more characters\n");
  });
});

describe("the difference of two texts", () => {
  const line = fc.constantFrom("%1: f32 = neg %0", "%2: f32 = neg %1", "%a: f32 = exp %0", "func", "}");
  const text = fc.array(line, { maxLength: 12 });

  it("leads from one to the other, and is no longer than it must", () => {
    fc.assert(
      fc.property(text, text, (before, after) => {
        const lines = diffLines(before, after);
        const of = (kind: string) => lines.filter((each) => each.kind !== kind).map((each) => each.text);
        expect(of("removed")).toEqual(after);
        expect(of("added").map(lineKey)).toEqual(before.map(lineKey));
        const most = commonLength(before.map(lineKey), after.map(lineKey));
        expect(lines.filter(({ kind }) => kind === "same")).toHaveLength(most);
      }),
    );
  });

  it("does not count numbers of values", () => {
    expect(diffLines(["%7: f32 = neg %6"], ["%9: f32 = neg %8"])).toEqual([{ kind: "same", text: "%9: f32 = neg %8" }]);
    expect(diffLines(["%a: f32 = neg %6"], ["%b: f32 = neg %6"])).toHaveLength(2);
  });
});

/** The longest common subsequence, by its definition. */
function commonLength(a: readonly string[], b: readonly string[]): number {
  const known = new Map<string, number>();
  const from = (i: number, j: number): number => {
    if (i === a.length || j === b.length) return 0;
    const key = `${i} ${j}`;
    const found = known.get(key) ?? (a[i] === b[j] ? 1 + from(i + 1, j + 1) : Math.max(from(i + 1, j), from(i, j + 1)));
    known.set(key, found);
    return found;
  };
  return from(0, 0);
}

describe("the page", () => {
  it("is one file that loads nothing, whatever the texts hold", async () => {
    const page = await tracePage(traced());
    expect(page).not.toMatch(/(?:src|href)="(?!data:,)|\bimport\b[ (]|https?:\/\/(?!www\.w3\.org)/);
    // Its own two scripts, and no end that a name brought along.
    expect(page.match(/<\/script/g)).toHaveLength(2);
    const data = /<script type="application\/json" id="trace">([^<]*)<\/script>/.exec(page)?.[1] ?? "";
    expect(JSON.parse(data)).toMatchObject({ trace: { name: "a</script>b" } });
  });
});

describe("the command", () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "trace-"));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  it("shows a file that TRACE wrote, and one of a pass that failed", async () => {
    const { kernels: _, memory: __, bytes: ___, ...partial } = traced();
    for (const [name, trace] of Object.entries({ whole: traced(), partial })) {
      const [file, out] = [join(folder, `${name}.json`), join(folder, `${name}.html`)];
      writeFileSync(file, JSON.stringify(trace));
      const { code, stderr } = await ciuic(["trace", file, "--out", out]);
      expect([code, stderr]).toEqual([0, expect.stringContaining(`${out}: open it in a browser`)]);
      expect(readFileSync(out, "utf8")).toContain("neg_neg");
    }
  });

  it.each([
    ["{}", "is no trace"],
    ["[1]", "expected an object"],
    ['{"nodes": [], "passes": {}}', "passes: expected an array"],
    ['{"nodes": [], "passes": [7]}', "passes 0: expected an object"],
    ['{"nodes": [], "passes": [{"name": 7, "matches": []}]}', "passes 0 name: expected a string"],
    ['{"nodes": [], "passes": [{"name": "a"}]}', "passes 0 matches: expected an array"],
    ['{"nodes": [], "passes": [{"name": "a", "matches": [{}]}]}', "passes 0 matches 0 rule: expected a string"],
    ['{"nodes": [], "passes": [], "format": "other"}', 'format: expected "ciuic trace 2"'],
  ])("refuses %s", async (text, message) => {
    const file = join(folder, "bad.json");
    writeFileSync(file, text);
    const { code, stderr } = await ciuic(["trace", file, "--out", join(folder, "bad.html")]);
    expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
  });
});
