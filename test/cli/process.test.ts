/** The commands as processes on the bundled model: output, streams, signals. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { published } from "../models/published-configs.ts";
import { ciuic, folderWith } from "./ciuic.ts";

const story = ["run", "--prompt", "Once upon a time, there was", "--greedy"];

describe("run", () => {
  it("continues a text on stdout and ends with tokens per second on stderr", async () => {
    const { code, stdout, stderr } = await ciuic([...story, "--stop", " lived"]);
    expect(code).toBe(0);
    expect(stdout).toBe(" a little boy named Leo. He\n");
    const [summary, speed] = stderr.split("\n");
    expect(summary).toMatch(/^\[\d+ tokens, [\d.]+ tokens\/s, first after [\d.]+ s, seed \d+\]$/);
    expect(speed).toMatch(
      /^\[WebAssembly, .*SIMD, (one thread|\d+ threads); a token reads [\d.]+ MB of weights, [\d.]+ GB\/s of the [\d.]+ GB\/s .* limits? it\]$/,
    );
  });

  it("stops at Ctrl-C with a summary and exit code 130", async () => {
    let sent = false;
    const { code, stdout, stderr } = await ciuic([...story, "--ignore-eos"], {
      onOutput: (text, child) => {
        if (!sent && text.length > 10) sent = child.kill("SIGINT");
      },
    });
    expect(code).toBe(130);
    expect(stdout).toMatch(/^ a little/);
    expect(stderr).toMatch(/^\[\d+ tokens, .*stopped\]\n$/);
  });

  it("ends quietly when the reader has seen enough", async () => {
    const { code, stderr } = await ciuic([...story, "--ignore-eos"], {
      onOutput: (_, child) => child.stdout?.destroy(),
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });

  it("includes the end token in printed ids unless told to go on after it", async () => {
    // 27 + 15 in the model's chat form; 1 is its end token.
    const question = (await ciuic(["tokenize", "--chat", "-"], { input: messages("What is 27 + 15?") })).stdout;
    const ids = (await ciuic(["tokenize", "--file", "-"], { input: question })).stdout;
    const run = (...more: string[]) =>
      ciuic(["run", "--ids", "-", "--print-ids", "--greedy", "--max-tokens", "20", ...more], { input: `[${ids}]` });
    const answer: unknown = JSON.parse((await run()).stdout);
    const longer: unknown = JSON.parse((await run("--ignore-eos")).stdout);
    expect(answer).toSatisfy((x: number[]) => x.at(-1) === 1 && x.indexOf(1) === x.length - 1 && x.length < 20);
    expect(longer).toSatisfy((x: number[]) => x.length === 20);
  });
});

const messages = (content: string) => JSON.stringify([{ role: "user", content }]);

describe("chat", () => {
  it("answers one message per line and remembers the conversation", async () => {
    const input = "What is 2 + 2?\n\nCount from 3 to 7.\n";
    const { code, stdout, stderr } = await ciuic(["chat", "--greedy"], { input });
    expect(code).toBe(0);
    expect(stdout.split("\n")[0]).toBe("2 + 2 = 4.");
    expect(stdout.trimEnd().split("\n")).toHaveLength(2);
    expect(stderr.trimEnd().split("\n")).toHaveLength(2);
  });

  it("leaves reasoning out of pipes", async () => {
    const { code, stdout } = await ciuic(["chat", "--think", "--greedy", "-q", "--prompt", "What is 27 + 15?"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "27 + 15 = 42.\n" });
  });
});

describe("inspect", () => {
  const config = folderWith({ "config.json": JSON.stringify(published["DeepSeek-V3"]!.config) });

  it("compiles a model of the size of DeepSeek-V3 without weights, in seconds, on a few screens", async () => {
    const { code, stdout, stderr } = await ciuic(["inspect", config]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("module @deepseek_v3 entry @step");
    expect(stdout).toContain("61 layers, 671 billion parameters");
    expect(stdout.split("\n").length).toBeLessThan(600);
    const [, seconds] = /compiled {2}in (\d+) ms/.exec(stdout) ?? [];
    expect(Number(seconds)).toBeLessThan(10_000);
  });

  it("shows the module as built, which opt reads and compiles to what inspect shows", async () => {
    const built = await ciuic(["inspect", `${config}/config.json`, "--after", "none", "--bucket", "4,2,256"]);
    expect(built.stdout).toContain("= rmsNorm ");
    const [compiled, opted] = await Promise.all([
      ciuic(["inspect", config, "--bucket", "4,2,256"]),
      ciuic(["opt", "-"], { input: built.stdout }),
    ]);
    expect(opted.code).toBe(0);
    // Names of values may differ, since they are not part of the text's meaning.
    const ops = (text: string) => [...text.matchAll(/ = (\w+)/g)].map(([, op]) => op).sort();
    expect(ops(opted.stdout)).toEqual(ops(compiled.stdout.split("\n// deepseek_v3")[0]!));
  });

  it("prints kernels, what is emitted for them, and the plan", async () => {
    const { stdout } = await ciuic(["inspect", "--kernels", "--plan"]);
    expect(stdout).toMatch(/\nkernel \w+ from "/);
    expect(stdout).toMatch(/\n\(func \$kernel \w+ /);
    expect(stdout).toMatch(/\nplan @deepseek_v3 entry @step \{/);
    expect(stdout).toMatch(/weights {3}20\.1 MB as stored, /);
  });
});

describe("plan", () => {
  const config = folderWith({ "config.json": JSON.stringify(published["DeepSeek-V3"]!.config) });

  it("says how DeepSeek-V3 fits on eight devices, as text, as JSON and as a page", async () => {
    const page = `${config}/plan.html`;
    const args = ["plan", config, "--devices", "8", "--device", "h200", "--link", "nvlink", "--batch", "64"];
    const { code, stdout, stderr } = await ciuic([...args, "--html", page]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/673 GB of weights, on 8 x h200 of 141 GB/);
    expect(stdout).toMatch(/\nrecommended: tp 2 x dp 4 x ep 8\n/);
    const [, hash] = /\nplan ([0-9a-f]{16})\n$/.exec(stdout) ?? [];
    expect(readFileSync(page, "utf8")).toContain(`plan ${hash}`);
    const json: unknown = JSON.parse((await ciuic([...args, "--json"])).stdout);
    expect(json).toMatchObject({ schema: "ciuic-plan-1", hash, recommended: { mesh: { pp: 1, tp: 2, dp: 4, ep: 8 } } });
  });

  it("says what it would take where nothing fits", async () => {
    const { code, stdout } = await ciuic(["plan", config, "--devices", "4", "--memory", "24GiB"]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/Nothing fits: .*\nWith 4 devices, each needs \d+ GB/);
  });
});
