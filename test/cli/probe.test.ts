/** `probe` and `plan-memory` as texts: rows made up, and the bundled model on a machine that is given. */

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { showProbe } from "../../src/cli/probe.ts";
import { missingProbe } from "../../src/runtime/probe/backend-probe.ts";
import { type FileServer, startFileServer } from "../browser/file-server.ts";
import { published } from "../models/published-configs.ts";
import { row, someFigures } from "../runtime/probe/rows.ts";
import { ciuic, folderWith } from "./ciuic.ts";

it("shows what runs, how fast, and what does not", () => {
  const conditions = {
    package: "",
    engine: "node v24.0.0, v8 13, linux x64",
    cpu: "A processor",
    cores: 2,
    memory: 16e9,
    drivers: "",
    packages: [],
  };
  const probes = [
    missingProbe("tensorflow-gpu", "TensorFlow", { reason: "the package p is not installed", mend: "npm install p" }),
    row("webgpu", {
      label: "WebGPU, a made up GPU",
      device: "a made up GPU",
      software: true,
      memory: null,
      binding: 2 ** 27,
      figures: null,
      unmeasured: "the processor does its work",
    }),
    row("wasm", {
      label: "WebAssembly, 2 threads",
      threads: 2,
      device: "A processor",
      features: ["SIMD"],
      figures: { ...someFigures, launch: 2.5e-6 },
    }),
  ];
  expect(
    showProbe({ schema: "ciuic-probe-1", conditions, probes, complete: true, busy: 0, cached: true, notes: [] }),
  ).toMatchInlineSnapshot(`
    "A processor, 2 cores, 16.0 GB; node v24.0.0, v8 13, linux x64
    measured before; --fresh measures again

    tensorflow-gpu     does not run: the package p is not installed
      npm install p

    webgpu             runs: WebGPU, a made up GPU: never chosen unless asked for
      bindings 134 MB
      not measured: the processor does its work

    wasm               runs: WebAssembly, 2 threads
      on A processor
      memory 64.0 GB, 2 threads
      SIMD
      reads 20.0 GB/s; a launch takes 2.50 us, a step 5.00 us
      operations: one vector f32 20.0 G/s, int8 40.0 G/s; many f32 30.0 G/s, int8 60.0 G/s
    "
  `);
});

describe("plan-memory", () => {
  it("says what the bundled model takes on a machine that is given", async () => {
    const { code, stdout, stderr } = await ciuic([
      "plan-memory",
      "--memory",
      "250MB",
      "--context",
      "512",
      "--backends",
      "all",
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatchInlineSnapshot(`
      "tiny-deepseek: 1 x 512 tokens, prompts 128 tokens at a time
      given: webgpu, tfjs-webgpu: 250 MB, buffers of 134 MB; wasm, js, tensorflow-gpu, tensorflow, tensorflow-gpu-ops, tensorflow-ops, tfjs-wasm, tfjs-cpu: 250 MB

      backend             precision  weights  caches  a token  values   resident  device   largest buffer
      webgpu              stored     20.6 MB  983 kB  1.92 kB  2.39 MB  221 MB    23.9 MB  2.10 MB         fits
      webgpu              f32        39.0 MB  983 kB  1.92 kB  2.39 MB  221 MB    42.3 MB  4.19 MB         fits
      webgpu              int8       11.0 MB  983 kB  1.92 kB  2.39 MB  231 MB    14.3 MB  1.05 MB         fits
      webgpu              int4       7.09 MB  983 kB  1.92 kB  2.39 MB  231 MB    10.5 MB  1.05 MB         fits
      wasm                stored     20.6 MB  983 kB  1.92 kB  2.39 MB  141 MB             2.10 MB         fits
      wasm                f32        39.0 MB  983 kB  1.92 kB  2.39 MB  159 MB             4.19 MB         fits
      wasm                int8       11.0 MB  983 kB  1.92 kB  2.39 MB  141 MB             1.05 MB         fits
      wasm                int4       7.09 MB  983 kB  1.92 kB  2.39 MB  137 MB             1.05 MB         fits
      js                  stored     39.0 MB  983 kB  1.92 kB  2.39 MB  169 MB             4.19 MB         fits
      js                  int8       11.0 MB  983 kB  1.92 kB  2.39 MB  149 MB             1.05 MB         fits
      js                  int4       7.13 MB  983 kB  1.92 kB  2.39 MB  146 MB             1.05 MB         fits
      tensorflow-gpu      stored     36.9 MB  983 kB  1.92 kB  8.68 MB  531 MB    46.5 MB  3.15 MB         fits
      tensorflow-gpu      f32        39.0 MB  983 kB  1.92 kB  2.39 MB  531 MB    42.3 MB  4.19 MB         fits
      tensorflow-gpu      int8       38.0 MB  983 kB  1.92 kB  2.39 MB  622 MB    41.4 MB  4.19 MB         fits
      tensorflow-gpu      int4       38.0 MB  983 kB  1.92 kB  2.39 MB  618 MB    41.4 MB  4.19 MB         fits
      tensorflow          stored     36.9 MB  983 kB  1.92 kB  8.68 MB  578 MB             3.15 MB         does not fit: needs 578 MB of 250 MB
      tensorflow          f32        39.0 MB  983 kB  1.92 kB  2.39 MB  573 MB             4.19 MB         does not fit: needs 573 MB of 250 MB
      tensorflow          int8       38.0 MB  983 kB  1.92 kB  2.39 MB  663 MB             4.19 MB         does not fit: needs 663 MB of 250 MB
      tensorflow          int4       38.0 MB  983 kB  1.92 kB  2.39 MB  660 MB             4.19 MB         does not fit: needs 660 MB of 250 MB
      tensorflow-gpu-ops  stored     41.1 MB  983 kB  1.92 kB  2.39 MB  505 MB    44.4 MB  4.19 MB         fits
      tensorflow-gpu-ops  int8       41.2 MB  983 kB  1.92 kB  2.39 MB  507 MB    44.6 MB  4.33 MB         fits
      tensorflow-gpu-ops  int4       41.2 MB  983 kB  1.92 kB  2.39 MB  503 MB    44.6 MB  4.33 MB         fits
      tensorflow-ops      stored     41.1 MB  983 kB  1.92 kB  2.39 MB  549 MB             4.19 MB         does not fit: needs 549 MB of 250 MB
      tensorflow-ops      int8       41.2 MB  983 kB  1.92 kB  2.39 MB  552 MB             4.33 MB         does not fit: needs 552 MB of 250 MB
      tensorflow-ops      int4       41.2 MB  983 kB  1.92 kB  2.39 MB  548 MB             4.33 MB         does not fit: needs 548 MB of 250 MB
      tfjs-webgpu         stored     41.1 MB  983 kB  1.92 kB  2.39 MB  294 MB    44.4 MB  4.19 MB         fits
      tfjs-webgpu         int8       41.2 MB  983 kB  1.92 kB  2.39 MB  271 MB    44.6 MB  4.33 MB         fits
      tfjs-webgpu         int4       41.2 MB  983 kB  1.92 kB  2.39 MB  267 MB    44.6 MB  4.33 MB         fits
      tfjs-wasm           stored     41.1 MB  983 kB  1.92 kB  2.39 MB  232 MB             4.19 MB         fits
      tfjs-wasm           int8       41.2 MB  983 kB  1.92 kB  2.39 MB  210 MB             4.33 MB         fits
      tfjs-wasm           int4       41.2 MB  983 kB  1.92 kB  2.39 MB  206 MB             4.33 MB         fits
      tfjs-cpu            stored     41.1 MB  983 kB  1.92 kB  2.39 MB  178 MB             4.19 MB         fits
      tfjs-cpu            int8       41.2 MB  983 kB  1.92 kB  2.39 MB  191 MB             4.33 MB         fits
      tfjs-cpu            int4       41.2 MB  983 kB  1.92 kB  2.39 MB  188 MB             4.33 MB         fits

      resident is an estimate: what a process takes beside the model was measured on one system (Linux, Node 24)
      "
    `);
  });

  it("ends with 1 where nothing fits, with the same table", async () => {
    const config = folderWith({ "config.json": JSON.stringify(published["DeepSeek-V3"]!.config) });
    const { code, stdout } = await ciuic(["plan-memory", config, "--memory", "24GiB", "--backends", "all", "--json"]);
    expect(code).toBe(1);
    const { rows } = JSON.parse(stdout) as { rows: { fits: boolean; weights: number; precision: string }[] }; // printed above
    expect(rows).toHaveLength(34);
    // 671 thousand million parameters in 4.5 bits and a little.
    expect(rows.find(({ precision }) => precision === "int4")!.weights / 671e9).toBeCloseTo(0.57, 1);
  });

  it("shows what is likely, or what is asked for, and names the rest", async () => {
    const shown = async (...flags: string[]) => {
      const env = { CIUIC_CACHE: folderWith({}) };
      const { code, stdout } = await ciuic(["plan-memory", "--memory", "1GB", ...flags], { env });
      const names = [...stdout.matchAll(/^([a-z-]+) +(?:f32|int8|int4) /gm)].map((match) => match[1]);
      return {
        code,
        names: [...new Set(names)],
        rest: /^not shown: (.*) \(--backends NAMES, or all\)$/m.exec(stdout)?.[1]?.split(", ").length,
      };
    };
    expect(await shown()).toEqual({ code: 0, names: ["webgpu", "wasm"], rest: 8 });
    expect(await shown("--backends", "js, tensorflow")).toEqual({ code: 0, names: ["js", "tensorflow"], rest: 8 });
    expect((await shown("--backends", "all")).rest).toBeUndefined();
  });

  it.each([
    [["--backends", "wasm,webgp"], 'plan-memory --backends: there is no backend "webgp". Did you mean "webgpu"?'],
    [["--backends", ""], 'plan-memory --backends: there is no backend "". Backends: webgpu, wasm, js'],
    [["--memory", "much"], 'plan-memory --memory: expected a size such as 24GiB, got "much"'],
    [["--context", "0"], "plan-memory context: expected a whole number from 1 to 2048, got 0"],
    [["/nowhere"], "/nowhere: cannot open the model folder: there is no such file or folder"],
    [["http://127.0.0.1:1/x/"], "cannot be fetched"],
  ])("refuses %j", async (args, message) => {
    const { code, stderr } = await ciuic(["plan-memory", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
  });
});

describe("plan-memory over HTTP", () => {
  const file = (name: string) => new Uint8Array(readFileSync(`models/tiny-deepseek/${name}`));
  const index = "model.safetensors.index.json";
  const names = ["config.json", index, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
  let server: FileServer;
  beforeAll(async () => {
    server = await startFileServer(Object.fromEntries(names.map((name) => [name, file(name)])));
  });
  afterAll(() => server.close());
  const weights = async () => {
    const { code, stdout, stderr } = await ciuic(["plan-memory", server.url, "--json", "--context", "512"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { rows } = JSON.parse(stdout) as { rows: { weights: number }[] }; // what --json prints
    return rows.map((row) => row.weights);
  };

  it("reads headers alone, with a config or without one", async () => {
    const both = await weights();
    const read = server.log.filter((line) => line.includes("safetensors bytes="));
    const bytes = read.reduce((sum, line) => {
      const [, from, to] = /bytes=(\d+)-(\d+)/.exec(line)!;
      return sum + Number(to) - Number(from) + 1;
    }, 0);
    expect(bytes).toBeGreaterThan(100);
    expect(bytes).toBeLessThan(200_000);
    const config = server.files.get("config.json")!;
    server.files.delete("config.json");
    const headers = await weights();
    server.files.set("config.json", config);
    // Tables of angles, which the headers do not tell of.
    for (const [i, value] of headers.entries()) expect(value / both[i]!).toBeCloseTo(1, 2);
  });

  it("says so where the server ignores ranges", async () => {
    server.ranges = false;
    const { code, stderr } = await ciuic(["plan-memory", server.url]);
    server.ranges = true;
    expect(code).toBe(2);
    expect(stderr).toContain("the server does not answer ranges of bytes");
  });

  it("says so where there is no model", async () => {
    const { code, stderr } = await ciuic(["plan-memory", `${server.url}nothing/`]);
    expect(code).toBe(2);
    expect(stderr).toContain("config.json: no such file");
  });
});
