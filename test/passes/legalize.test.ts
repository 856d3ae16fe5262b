/** What legalize does to operands of contractions and to dtypes that the target cannot store, as text. */
import { expect, test } from "vitest";
import { UnsupportedError } from "../../src/ir/errors.ts";
import { parseModule } from "../../src/ir/parse.ts";
import { printModule } from "../../src/ir/print.ts";
import { jsTarget, type Target } from "../../src/ir/target.ts";
import { legalize } from "../../src/passes/legalize.ts";
import { runPasses } from "../../src/passes/pass.ts";

const plainTarget: Target = { ...jsTarget, name: "plain", storage: ["f32", "i32", "u32", "bool"] };
const halfTarget: Target = { ...plainTarget, name: "half", storage: [...plainTarget.storage, "f16"] };

function legalized(body: string, target = plainTarget): string {
  const module = parseModule(`module @m entry @main {\nfunc @main${body}\n}`);
  const lines = printModule(runPasses(module, [legalize(target)], target, { verify: 2 })).split("\n");
  return lines.slice(2, lines.indexOf("}")).join("\n");
}

test("weights are cast before rows are gathered, so that the loader widens them", () => {
  const text = `(%tokens: i32[2]) {
  %embed: bf16[5,4] = weight {name="embed"}
  %w: bf16[3,4] = weight {name="w"}
  %rows: bf16[2,4] = gather %embed, %tokens
  %halves: bf16[2,2,2] = reshape %rows {shape=[2, 2, 2]}
  %whole: bf16[2,4] = reshape %halves {shape=[2, 4]}
  %x: f32[2,4] = cast %whole
  %out: f32[2,3] = contract %x, %w {axes="n i, o i -> n o"}
  return %out
}`;
  expect(legalized(text)).toMatchInlineSnapshot(`
    "  %embed: bf16[5,4] = weight {name="embed"}
      %0: f32[5,4] = cast %embed
      %rows: f32[2,4] = gather %0, %tokens
      %halves: f32[2,2,2] = reshape %rows
      %whole: f32[2,4] = reshape %halves
      %w: bf16[3,4] = weight {name="w"}
      %1: f32[3,4] = cast %w
      %out: f32[2,3] = contract %whole, %1 {axes="n i, o i -> n o"}
      return %out"
  `);
});

test("FP8 blocks stay an expression of the weights", () => {
  const text = `(%x: f32[2,4]) {
  %w: f8e4m3[3,4] = weight {name="w"}
  %scale: f32[2,2] = weight {name="scale"}
  %wide: f32[3,4] = dequantizeBlocks %w, %scale {block=[2, 2]}
  %out: f32[2,3] = contract %x, %wide {axes="n i, o i -> n o"}
  return %out
}`;
  expect(legalized(text)).toContain("dequantizeBlocks %w, %scale");
});

test("a cache in a dtype that the target stores is cast where it is read", () => {
  const text = `(%q: f32[4], %cache: f16[3,4]) {
  %out: f32[3] = contract %q, %cache {axes="d, s d -> s"}
  return %out
}`;
  expect(legalized(text, halfTarget)).toMatchInlineSnapshot(`
    "  %0: f32[3,4] = cast %cache
      %out: f32[3] = contract %q, %0 {axes="d, s d -> s"}
      return %out"
  `);
  expect(() => legalized(text)).toThrow(UnsupportedError);
  expect(() => legalized(text)).toThrow("target plain: cannot store a value of type f16[3,4]");
});
