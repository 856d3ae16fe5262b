/** What the user can do wrong: exit code 2 and one line on stderr, that names the place. */
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { dispatch } from "../../src/cli/dispatch.ts";
import { writeSafetensors } from "../../src/runtime/weights/safetensors.ts";
import { goldenTensors } from "../models/read-golden.ts";
import { ciuic, folderWith, goldenFolder } from "./ciuic.ts";

const golden = goldenFolder("qwen2-tied");
const config = readFileSync(join(golden, "config.json"), "utf8");
const badConfig = folderWith({ "config.json": config.replace('"hidden_size"', '"hiden_size"') });
const tensors = new Map(goldenTensors("qwen2-tied", "model"));
tensors.delete("model.norm.weight");
const missingWeight = folderWith({ "config.json": config, "model.safetensors": writeSafetensors(tensors) });
const noFiles = folderWith({});
const noWeights = folderWith({ "config.json": config });
const ids = ["run", golden, "--greedy", "--max-tokens", "2", "--print-ids", "--ids"];

const input = (text: string) => join(folderWith({ "input.txt": text }), "input.txt");
const ir = input("module @a entry @b {\nfunc @b() {\n  %x: f32[2] = ad %y\n}\n}");

const mistakes: readonly (readonly [what: string, args: readonly string[], message: RegExp])[] = [
  ["bad config", ["run", badConfig, "-p", "x"], /config\.json hidden_size: /],
  ["missing weight", ["run", missingWeight, "-p", "x"], /1 weight does not fit .*model\.norm\.weight/],
  ["no weights", ["run", noWeights, "-p", "x"], /model\.safetensors/],
  ["no config", ["run", noFiles, "-p", "x"], /config\.json: no such file\. A model's folder holds config\.json, /],
  ["context beyond the model's", ["run", "-p", "x", "--context", "9999"], /^ciuic: --context: .* 1 to 2048, got 9999/],
  ["too many threads", ["run", "-p", "x", "--threads", "1e9"], /^ciuic: --threads: .* 1 to 64, got 1000000000/],
  ["no tokens to choose from", ["run", "-p", "x", "--top-k", "0"], /Leave --top-k out/],
  ["no format of inputs", ["run", "-p", "x", "--quantize", "int4+"], /--quantize: activations: expected .*, got ""/],
  ["no tokenizer", ["run", golden, "-p", "x"], /tokenizer\.json: .*needs a tokenizer/],
  [
    "packages that are not in the folder",
    ["run", golden, "-p", "x", "--backend", "tensorflow", "--package-folder", noWeights],
    /tensorflow: the package @tensorflow\/tfjs-node is not installed/,
  ],
  ["unknown command", ["rnu"], /rnu: unknown command\. Did you mean "run"\?/],
  ["missing value", ["run", "--prompt"], /run --prompt: expected a value: TEXT/],
  ["not a number", ["run", "-p", "x", "--top-k", "few"], /--top-k: expected a whole number, got "few"/],
  ["out of range", ["run", "-p", "x", "--top-p", "2"], /^ciuic: --top-p: out of range/],
  ["option twice", ["run", "-p", "x", "-p", "y"], /--prompt: given twice/],
  ["two words", ["run", "a", "b", "-p", "x"], /one word too many: "b"/],
  ["no prompt", ["run"], /run --prompt: missing/],
  ["empty prompt", ["run", "--prompt", ""], /run --prompt: empty/],
  ["empty question", ["chat", "--prompt", " "], /chat --prompt: empty/],
  ["longer than the context", ["run", "-p", "x", "--max-tokens", "9999"], /^ciuic: --max-tokens: longer than/],
  ["unknown backend", ["run", "-p", "x", "--backend", "interpeter"], /Did you mean "interpreter"\?/],
  ["no such file of ids", [...ids, "no-such-file"], /no-such-file: cannot read: ENOENT/],
  ["ids in broken JSON", [...ids, input("[[1, 2")], /input\.txt at \d+|input\.txt: /],
  ["ids instead of a file", [...ids, "1,2"], /1,2: cannot read: ENOENT\. IDS\.json is a file with arrays of token ids/],
  ["nothing to end before", ["run", "-p", "x", "--stop", ""], /^ciuic: --stop: bad stop string: .*, got ""/],
  ["no ids", [...ids, input("[]")], /input\.txt: expected an array of arrays/],
  ["no ids in an array", [...ids, input("[[1], []]")], /input\.txt\[1\]: expected at least one token id/],
  ["ids that are none", [...ids, input('[[1, "x"]]')], /input\.txt\[0\]\[1\]: expected a whole number from 0, got "x"/],
  ["ids and a prompt", [...ids, input("[[1]]"), "-p", "x"], /run --ids: does not go with --prompt/],
  ["no file to write", ["logits", golden, "--ids", input("[[1]]")], /logits --out: missing/],
  ["a file that cannot be", ["logits", golden, "--ids", input("[[1]]"), "--out", "/no/such/x"], /cannot write: ENOENT/],
  ["no role", ["tokenize", "--chat", input('[{"content": "x"}]')], /input\.txt\[0\]\.role: expected a string/],
  ["nothing to tokenize", ["tokenize"], /tokenize: expected either --file FILE or --chat/],
  ["no such pass", ["inspect", "--after", "simplifi"], /inspect --after: .*Did you mean "simplify"\?/],
  ["bad bucket", ["inspect", "--bucket", "2,4"], /inspect --bucket: expected N,B/],
  ["no such device", ["plan", "--device", "h20"], /--device: .*Did you mean "h[12]00"\?/],
  ["no size", ["plan", "--memory", "much"], /plan --memory: expected a size such as 24GiB, got "much"/],
  ["no link", ["plan", "--link", "32GB"], /plan --link: expected bandwidth and latency such as 32GB\/s,10us/],
  ["no format", ["plan", "--weights", "int3"], /plan --weights: expected stored, bf16, fp8, int8, int4, got "int3"/],
  ["no device", ["plan", "--devices", "0"], /plan devices: expected a whole number from 1 to 4096, got 0/],
  ["a page that cannot be", ["plan", "--html", "/no/such/x"], /cannot write: ENOENT/],
  ["broken IR", ["opt", ir], /Did you mean "add"\?/],
];

describe("mistakes", () => {
  it.each(mistakes)("%s", async (_, args, message) => {
    let stderr = "";
    const code = await dispatch(args, (text) => {
      stderr += text;
    });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^ciuic: [^\n]*\n$/);
    expect(code).toBe(2);
  });

  it.each([
    [
      "no folder",
      ["run", "no-such-folder", "-p", "x"],
      {},
      /^ciuic: no-such-folder: cannot open .*there is no such file/,
    ],
    ["unknown option", ["run", "--tempratur", "1"], {}, /Did you mean "--temperature"\?/],
    ["ids out of range", [...ids, "-"], {}, /stdin\[0\]\[1\]: expected a token id from 0 to \d+, got 123456789/],
    ["bad variable", ["inspect"], { VERIFY: "9" }, /^ciuic: VERIFY: expected 0 to 3/],
  ])("%s, as a process", async (_, args, env, message) => {
    const ended = await ciuic(args, { input: "[[1, 123456789]]", env });
    expect(ended).toMatchObject({ code: 2, stdout: "" });
    expect(ended.stderr).toMatch(message);
    expect(ended.stderr).toMatch(/^ciuic: [^\n]*\n$/);
  });

  it.runIf(existsSync("/dev/full"))("a disk that is full", async () => {
    const full = openSync("/dev/full", "w");
    const ended = await ciuic(["inspect"], { stdout: full });
    closeSync(full);
    expect(ended).toMatchObject({ code: 2, stderr: "ciuic: stdout: cannot write: ENOSPC\n" });
  });
});
