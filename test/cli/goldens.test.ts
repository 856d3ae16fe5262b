/** `logits` and `run --ids` of real processes against what Hugging Face transformers computes. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type GoldenName, goldenTensors, readSafetensors } from "../models/read-golden.ts";
import { ciuic, folderWith, goldenFolder } from "./ciuic.ts";

/** As in test/models/compiled.test.ts. */
const tolerance = 1e-4;

/** One of each kind; test/models/compiled.test.ts has all. */
const cases: readonly (readonly [GoldenName, string])[] = [
  ["v3-fp8", "js"],
  ["v2-lite", "js"],
  ["qwen2-tied", "wasm"],
  ["qwen2-tied", "interpreter"],
];

describe.each(cases)("%s on %s", (name, backend) => {
  const golden = goldenTensors(name, "golden");
  const ids = [...golden.get("input_ids")!.data];
  const sequences = [ids.slice(0, 40), ids.slice(40)];

  it("writes the golden logits", async () => {
    const folder = folderWith({ "ids.json": JSON.stringify(sequences) });
    const out = join(folder, "out.safetensors");
    const args = ["logits", goldenFolder(name), "--ids", join(folder, "ids.json"), "--out", out, "--backend", backend];
    expect(await ciuic(args)).toEqual({ code: 0, stdout: "", stderr: "" });
    const written = readSafetensors(out);
    const expected = golden.get("logits")!.data;
    const vocab = expected.length / ids.length;
    expect([...written.keys()].sort()).toEqual(["logits.0", "logits.1"]);
    for (const i of [0, 1]) {
      const { type, data } = written.get(`logits.${i}`)!;
      expect(type).toEqual({ dtype: "f32", shape: [40, vocab] });
      const part = expected.subarray(i * 40 * vocab, (i + 1) * 40 * vocab);
      let most = 0;
      for (const [j, x] of data.entries()) most = Math.max(most, Math.abs(x - part[j]!));
      expect(most).toBeLessThan(tolerance);
    }
  });

  it("prints the golden greedy ids, in company and alone", async () => {
    const prompts = [sequences[0]!.slice(0, 12), sequences[1]!.slice(0, 7), sequences[0]!.slice(0, 12)];
    const options = ["--greedy", "--max-tokens", "28", "--print-ids", "--ignore-eos", "--backend", backend];
    const input = JSON.stringify(backend === "interpreter" ? prompts.slice(0, 1) : prompts);
    const { code, stdout, stderr } = await ciuic(["run", goldenFolder(name), "--ids", "-", ...options], { input });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    const expected = JSON.stringify([...golden.get("greedy")!.data].slice(12));
    expect(lines[0]).toBe(expected);
    if (backend === "interpreter") return;
    expect(lines).toHaveLength(3);
    expect(lines[2]).toBe(expected);
  });
});
