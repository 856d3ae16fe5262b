/** The probe of this machine: all rows, within its time, kept and measured again, whatever the file says. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allBackendNames, prepareDevice } from "../../../src/compile.ts";
import { cacheHome } from "../../../src/env.ts";
import { figureNames } from "../../../src/runtime/probe/backend-probe.ts";
import { explainError, probeEntries } from "../../../src/runtime/probe/backend-rows.ts";
import { isSoftwareGpu } from "../../../src/runtime/probe/gpu-adapter.ts";
import { busyCores, readConditions } from "../../../src/runtime/probe/machine.ts";
import { cachedProbe, type ProbeReport, probe } from "../../../src/runtime/probe/probe.ts";
import { readProbeCache } from "../../../src/runtime/probe/probe-cache.ts";

const folder = mkdtempSync(join(tmpdir(), "ciuic-probe-"));
const file = join(folder, "probe.json");
let first: ProbeReport;
let seconds: number;

beforeAll(async () => {
  const start = performance.now();
  // More than by default, since tests run beside others.
  first = await probe({ folder, milliseconds: 20_000 });
  seconds = (performance.now() - start) / 1000;
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true }));

describe("rows", () => {
  it("are there for every backend, and for the engines of TensorFlow.js", () => {
    const names = new Set(first.probes.map(({ backend }) => backend));
    for (const name of [...allBackendNames, "tfjs-cpu", "tfjs-wasm", "tfjs-webgpu", "tensorflow", "tensorflow-gpu"]) {
      expect(names).toContain(name);
    }
    expect(probeEntries.map(({ backend }) => backend)).toEqual([...names]);
  });

  it("say why, and what to do, or have figures, or say why not", () => {
    for (const { label, missing, figures, unmeasured, device } of first.probes) {
      expect(label).not.toBe("");
      if (missing !== null) {
        expect(missing.reason).not.toBe("");
        expect(missing.mend).not.toBe("");
        expect(figures).toBeNull();
        continue;
      }
      expect(device).not.toBeNull();
      expect((figures === null) !== (unmeasured === null)).toBe(true);
      if (figures === null) continue;
      for (const name of figureNames) expect(figures[name], name).toBeGreaterThan(0);
      // Slower than a thousandth of a core, or faster than a rack of GPUs: the units would be wrong.
      expect(figures.f32Matrix).toBeGreaterThan(1e6);
      expect(figures.f32Matrix).toBeLessThan(1e17);
      expect(figures.step).toBeLessThan(10);
    }
  });

  it("of WebAssembly are for one thread and for all cores", () => {
    const threads = first.probes.filter(({ backend }) => backend === "wasm").map((each) => each.threads);
    expect(threads).toEqual([...new Set([1, Math.min(first.conditions.cores, 16)])]);
  });

  it("come in time even when there is none", async () => {
    expect(seconds).toBeLessThan(25);
    const hurried = await probe({ folder: null, milliseconds: 0 });
    expect(hurried.complete).toBe(false);
    expect(hurried.probes.filter(({ figures }) => figures !== null)).toEqual([]);
    expect(hurried.probes.map(({ backend }) => backend)).toEqual(first.probes.map(({ backend }) => backend));
  });
});

it("looks for packages in the folder it is told of", async () => {
  const packages = mkdtempSync(join(tmpdir(), "packages-"));
  const own = join(packages, "node_modules/@tensorflow/tfjs-node");
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "package.json"), '{"name": "@tensorflow/tfjs-node", "version": "4.99.0"}');
  const report = await probe({ folder: null, milliseconds: 0, packageFolder: packages });
  expect(report.conditions.packages).toContain("@tensorflow/tfjs-node 4.99.0");
  expect(report.probes.find(({ backend }) => backend === "tensorflow")?.label).toMatch(/installed, not tried/);
  // What is kept of one folder says nothing of another.
  expect(cachedProbe(folder, packages)).toBeNull();
  rmSync(packages, { recursive: true });
});

describe("the cache", () => {
  it("keeps the report, for as long as the conditions are the same", async () => {
    // On a busy machine the time may not have sufficed for all, and then it is measured again.
    const whole = { ...first, complete: true };
    writeFileSync(file, JSON.stringify(whole));
    const second = await probe({ folder });
    expect(second).toEqual({ ...whole, cached: true });
    expect(cachedProbe(folder)?.probes).toEqual(first.probes);
    const conditions = readConditions("");
    for (const change of [
      { cpu: "another" },
      { memory: 1 },
      { engine: "node v99" },
      { drivers: "x" },
      { package: "9" },
      { packages: [] },
    ]) {
      expect(readProbeCache(folder, { ...conditions, ...change })).toEqual({ report: null, notes: [] });
    }
  });

  it("keeps figures of a busy machine for ten minutes", () => {
    const quiet = good();
    const aged = (busy: number | null, minutes: number) => {
      let report: ProbeReport | null = null;
      withFile(JSON.stringify({ ...quiet, busy }), () => {
        const then = Date.now() / 1000 - 60 * minutes;
        utimesSync(file, then, then);
        report = readProbeCache(folder, first.conditions).report;
      });
      return report !== null;
    };
    expect([aged(1.5, 9), aged(1.5, 11), aged(0.1, 1e4), aged(null, 1e4)]).toEqual([true, false, true, true]);
    const at = { all: 1000, own: 100, at: 0 };
    // Of two cores in a second: 0.7 by this process, 0.9 by others.
    expect(busyCores(at, { all: 2600, own: 800, at: 1000 })).toBeCloseTo(0.9);
    expect(busyCores(at, { all: 1600, own: 800, at: 1000 })).toBe(0);
    expect(busyCores(at, { ...at, at: 1000 })).toBeNull();
  });

  it("is a folder of its own in tests, and the system's elsewhere", () => {
    expect(cacheHome()).toBe(process.env.CIUIC_CACHE);
    expect(cacheHome({ HOME: "/home/x" })).toBe("/home/x/.cache/ciuic");
    expect(cacheHome({ XDG_CACHE_HOME: "/y", HOME: "/home/x" })).toBe("/y/ciuic");
    expect(cacheHome({ CIUIC_CACHE: "/z", XDG_CACHE_HOME: "/y" })).toBe("/z");
  });

  const withFile = (content: string, check: () => void) => {
    const before = readFileSync(file);
    writeFileSync(file, content);
    try {
      check();
    } finally {
      writeFileSync(file, before);
    }
  };
  const good = () => JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>; // as written above

  it.each([
    ["", /not JSON/],
    ["{", /not JSON/],
    ["null", /another kind/],
    ["[]", /another kind/],
    ['{"schema":"ciuic-probe-2"}', /another kind/],
    ["x".repeat(1_000_001), /1000001 bytes/],
  ])("ignores %j", (content, why) => {
    withFile(content.slice(0, 1_000_001), () => {
      const { report, notes } = readProbeCache(folder, first.conditions);
      expect(report).toBeNull();
      expect(notes.join()).toMatch(why);
      expect(notes.join()).toMatch(/is ignored/);
    });
  });

  it.each<[string, unknown]>([
    ["figures", { reading: "fast" }],
    ["figures", { ...Object.fromEntries(figureNames.map((name) => [name, 1])), reading: -1 }],
    ["figures", Object.fromEntries(figureNames.map((name) => [name, 1e300]))],
    ["threads", 1e9],
    ["threads", "2"],
    ["missing", "no"],
    ["memory", -1],
    ["features", "all"],
    ["label", 7],
    ["software", null],
  ])("ignores a row whose %s is %j", (field, value) => {
    const report = good();
    const rows = report.probes as Record<string, unknown>[]; // as written above
    withFile(JSON.stringify({ ...report, probes: [{ ...rows[0], [field]: value }, ...rows.slice(1)] }), () => {
      expect(readProbeCache(folder, first.conditions).notes.join()).toMatch(/its rows make no sense/);
    });
  });

  it("is read without an error whatever it is", () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        withFile(text, () => expect(readProbeCache(folder, first.conditions).report).toBeNull());
      }),
      { numRuns: 50 },
    );
    const other = join(folder, "other");
    mkdirSync(join(other, "probe.json"), { recursive: true });
    expect(readProbeCache(other, first.conditions).notes.join()).toMatch(/it is no file/);
  });

  it("is measured again if asked, and a folder that cannot be written is a note", async () => {
    const again = await probe({ folder: join(file, "below-a-file"), milliseconds: 0, fresh: true });
    expect(again.cached).toBe(false);
    expect(again.notes.join()).toMatch(/cannot be written/);
  });
});

it("an error is told as reason and mend", async () => {
  const error = await prepareDevice("webgpu").catch((reason: unknown) => reason);
  const { reason, mend } = explainError(error);
  expect(reason).toMatch(/^webgpu: /);
  expect(mend).not.toBe("");
  expect(explainError(new Error("a\nb"))).toEqual({ reason: "a", mend: "" });
});

it.each([
  [{ isFallbackAdapter: true }, true],
  [{ architecture: "swiftshader" }, true],
  [{ description: "llvmpipe (LLVM 15)" }, true],
  [{ vendor: "nvidia", architecture: "hopper" }, false],
])("%j is software: %s", (info, software) => {
  // The fields that are asked for.
  const whole = {
    isFallbackAdapter: false,
    vendor: "",
    architecture: "",
    device: "",
    description: "",
    ...info,
  } as GPUAdapterInfo;
  expect(isSoftwareGpu(whole)).toBe(software);
});
