/** What a program that no compiler has checked may pass to the library: an error that says what was expected. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/ir/errors.ts";
import { loadModel } from "../../src/runtime/load-model.ts";

const tiny = fileURLToPath(new URL("../../models/tiny-deepseek", import.meta.url));

describe("loadModel", () => {
  it.each([
    [undefined, {}, /^loadModel: expected the path of a model's folder, or a ModelFolder, got undefined/],
    [null, {}, /^loadModel: .*got null/],
    ["", {}, /^loadModel: .*got ""/],
    [3, {}, /^loadModel: .*got 3/],
    [{}, {}, /^loadModel: .*got \{\}/],
    [tiny, null, /^loadModel options: expected an object, got null/],
    // What could run with so many threads is not asked: JavaScript has none, and is no answer.
    [tiny, { threads: 1e9 }, /^loadModel threads: expected a whole number from 1 to 64, got 1000000000/],
    [tiny, { threads: "2" }, /^loadModel threads: .*got "2"/],
    [tiny, { quantize: "int4" }, /^loadModel quantize: expected \{ weights: "int4" \}, got "int4"/],
    [tiny, { backend: 3 }, /^loadModel backend: expected a name, got 3/],
    [tiny, { signal: 3 }, /^loadModel signal: expected an AbortSignal, got 3/],
    [tiny, { onProgress: 3 }, /^loadModel onProgress: expected a function, got 3/],
  ])("%j, %j", async (model, options, message) => {
    const failed = loadModel(model as never, options as never); // what the types forbid
    await expect(failed).rejects.toThrow(InputError);
    await expect(failed).rejects.toThrow(message);
  });
});

describe("a model", () => {
  it("names what is wrong with messages and prompts", async () => {
    const model = await loadModel(tiny, { backend: "js" });
    for (const messages of ["hello", [], undefined, null, {}]) {
      expect(() => model.chat(messages as never)).toThrow(/^messages: expected a conversation such as \[\{ role: /);
    }
    for (const message of [null, "hello", { content: "x" }, { role: 3, content: "x" }]) {
      expect(() => model.chat([message as never])).toThrow(/^messages\[0\]: expected a role and content/);
    }
    for (const prompt of [undefined, null, 4, {}, true]) {
      expect(() => model.generate(prompt as never)).toThrow(/^prompt: expected a text or a list of token ids/);
    }
    await model.close();
  });
});
