/** Plans from configs: what is searched, what fits, what is said where nothing does, the JSON, the page, the command. */
import { describe, expect, test } from "vitest";
import { families, parseModelConfig } from "../../src/models/deepseek/config.ts";
import { degreesFor } from "../../src/plan/candidate.ts";
import { allReduce, expertsMet, heldBytes, imbalance, remoteCopies } from "../../src/plan/cost.ts";
import { findDevice, links, parseBytes, parseLink } from "../../src/plan/hardware.ts";
import { canonical, hashOf } from "../../src/plan/hash.ts";
import { planPage } from "../../src/plan/page.ts";
import { type Plan, planDeployment } from "../../src/plan/plan.ts";
import { planSchema, type Schema } from "../../src/plan/schema.ts";
import { shapeOf, weightBytesOf } from "../../src/plan/shape.ts";
import { showBytes, showCount, showRate, showSeconds } from "../../src/plan/show.ts";
import { published } from "../models/published-configs.ts";

const configs = Object.entries(published).map(([name, { config }]) => ({ name, config: parseModelConfig(config) }));
const v3 = configs.find(({ name }) => name === "DeepSeek-V3")!.config;
const qwen = configs.find(({ name }) => name.includes("Qwen-1.5B"))!.config;

const h200 = { device: findDevice("h200"), link: links.nvlink };
const small = { device: findDevice("rtx-4090"), link: links.pcie4 };

/** The path of the first value that does not conform. */
function wrong(value: unknown, schema: Schema, path = "plan"): string | undefined {
  if (schema.anyOf !== undefined)
    return schema.anyOf.some((each) => wrong(value, each) === undefined) ? undefined : path;
  if (schema.const !== undefined) return value === schema.const ? undefined : path;
  if (schema.enum !== undefined) return schema.enum.includes(value) ? undefined : path;
  const type = value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
  if (type !== schema.type) return path;
  if (type === "number" && !Number.isFinite(value)) return path;
  if (schema.pattern !== undefined && !new RegExp(schema.pattern).test(String(value))) return path;
  if (Array.isArray(value)) return value.map((each, i) => wrong(each, schema.items!, `${path}[${i}]`)).find(Boolean);
  if (schema.properties === undefined) return undefined;
  const fields = value as Record<string, unknown>; // an object, by its type
  const missing = schema.required!.find((name) => !Object.hasOwn(fields, name));
  if (missing !== undefined) return `${path}.${missing} is missing`;
  return Object.entries(fields)
    .map(([name, each]) => {
      const own = schema.properties![name];
      return own === undefined ? `${path}.${name} is unknown` : wrong(each, own, `${path}.${name}`);
    })
    .find(Boolean);
}

describe("every published config", () => {
  test("covers every family", () => {
    expect(new Set(configs.map(({ config }) => config.model_type))).toEqual(new Set(families));
  });

  test.each(configs)("$name: a plan on 1, 3 and 8 devices conforms to the schema", ({ name, config }) => {
    for (const devices of [1, 3, 8]) {
      const plan = planDeployment(name, config, { devices, ...h200, batch: 16 });
      const read: unknown = JSON.parse(JSON.stringify(plan));
      expect(wrong(read, planSchema)).toBeUndefined();
      expect(read).toEqual(plan);
      const { hash, ...body } = plan;
      expect(hash).toBe(hashOf(body));
      expect(plan.recommended !== null || plan.others.length > 0).toBe(true);
      expect(planPage(plan)).toContain(`plan ${hash}`);
    }
  });

  test.each(configs)("$name: bytes per device are those of the placement that the pass takes", ({ name, config }) => {
    for (const each of [config, { ...config, tie_word_embeddings: true }]) {
      const shape = shapeOf(name, each, "bf16", 16);
      for (const tp of [1, 2]) {
        const bytes = heldBytes(shape, shape.layers, { pp: 1, tp, dp: 1, experts: false });
        // The last norm is left out.
        expect(Math.abs(bytes / weightBytesOf(each, { tp }, 16) - 1)).toBeLessThan(1e-3);
      }
    }
  });
});

describe("a search", () => {
  test("tries every division that the model allows and no other", () => {
    const names = (devices: number, tensor: readonly number[]) =>
      degreesFor(devices, shapeOf("v3", v3, "stored", 16), tensor).map(({ pp, tp, dp, experts }) =>
        [pp, tp, dp, experts].join(),
      );
    expect(names(2, [1, 2]).sort()).toEqual(
      ["1,1,2,false", "1,1,2,true", "1,2,1,false", "1,2,1,true", "2,1,1,false"].sort(),
    );
    // 256 experts do not divide by three.
    expect(names(3, [1])).toEqual(["1,1,3,false", "3,1,1,false"]);
  });

  test("puts V3 on eight H200 and not on seven of 24 GiB", () => {
    const good = planDeployment("v3", v3, { devices: 8, ...h200, batch: 32 });
    expect(good.recommended?.fits).toBe(true);
    expect(good.recommended!.peak).toBeLessThan(good.recommended!.limit);
    const bad = planDeployment("v3", v3, { devices: 7, ...small });
    expect(bad.recommended).toBeNull();
    expect(bad.advice.join("\n")).toMatch(/Nothing fits: v3 has 673 GB of weights, 7 x 25.8 GB are given\./);
    expect(bad.advice.join("\n")).toMatch(/With 7 devices, each needs \d+ GB/);
    expect(bad.advice.join("\n")).toMatch(/\d+ devices of this size would do \(/);
  });

  test("says which format would fit", () => {
    const plan = planDeployment("qwen", qwen, {
      devices: 1,
      device: { ...small.device, memory: 2.6e9 },
      link: links.pcie4,
    });
    expect(plan.recommended).toBeNull();
    expect(plan.advice.at(-1)).toMatch(/^Weights in (fp8|int8|int4) would fit \(one device\)\.$/);
  });

  test("prefers data parallelism for caches that heads share, as each replica has its own", () => {
    const plan = planDeployment("v3", v3, { devices: 8, ...h200, batch: 64 });
    const all = [plan.recommended!, ...plan.others];
    const find = (name: string) => all.find((each) => each.name === name)!;
    expect(find("dp 8 x ep 8").mostSequences).toBeGreaterThan(4 * find("tp 8").mostSequences);
  });

  test("gives the same plan for the same request, and another hash for another", () => {
    const make = (batch: number) => planDeployment("v3", v3, { devices: 8, ...h200, batch });
    expect(make(4)).toEqual(make(4));
    expect(make(4).hash).not.toBe(make(5).hash);
  });

  test("refuses sizes that make no sense", () => {
    for (const [field, value] of [
      ["devices", 0],
      ["devices", 1.5],
      ["batch", -1],
      ["context", 10 ** 7],
    ] as const) {
      expect(() => planDeployment("v3", v3, { devices: 1, ...h200, [field]: value })).toThrow(
        `plan ${field}: expected`,
      );
    }
  });
});

describe("the cost model", () => {
  test("by hand", () => {
    expect(allReduce(100, 2, 10, 0)).toMatchObject({ transfer: 10, messages: 1 });
    // Long messages go around a ring, short ones straight.
    expect(allReduce(1e9, 8, 1e9, 1e-6).messages).toBe(14);
    expect(allReduce(1e3, 8, 1e9, 1e-5).messages).toBe(7);
    expect(expertsMet(8, 2, 1)).toBeCloseTo(2);
    expect(expertsMet(8, 2, 1e6)).toBeCloseTo(8);
    expect(imbalance(1, 100)).toBe(1);
    expect(imbalance(8, 1)).toBeLessThanOrEqual(8);
    expect(imbalance(8, 1e9)).toBeCloseTo(1, 2);
    const layer = shapeOf("v3", v3, "stored", 16).layers.find(({ experts }) => experts !== null)!;
    // Eight experts in four of eight groups, on 32 devices of four boards: fewer boards than experts are met.
    expect(remoteCopies(layer, 32, false, links.infiniband)).toBeLessThan(4);
    expect(remoteCopies(layer, 32, true, links.nvlink)).toBeGreaterThan(5);
  });
});

describe("texts", () => {
  test("sizes and links", () => {
    expect(parseBytes("24GiB", "x")).toBe(24 * 2 ** 30);
    expect(parseBytes("1.5 GB", "x")).toBe(1.5e9);
    expect(parseLink("32GB/s,10us", "x")).toEqual({ bandwidth: 32e9, latency: 10e-6 });
    expect(parseLink("nvlink", "x")).toEqual(links.nvlink);
    for (const text of ["", "GiB", "-1GB", "1XB", "1e99GB", "NaN", "__proto__", "1 constructor"]) {
      expect(() => parseBytes(text, "x"), text).toThrow("x: expected a size such as 24GiB");
    }
    for (const text of ["", "32GB", "32GB/s", "32GB/s,ten", "32GB/s,10us,1", "constructor", "x/s,1us"]) {
      expect(() => parseLink(text, "x"), text).toThrow("x: expected");
    }
    expect(() => findDevice("h20")).toThrow(/Did you mean "h200"|Did you mean "h100"/);
    const bytes = [0, 5, 999, 1234, 999_700, 677e9, 1.234e12, 5e19];
    expect(bytes.map(showBytes)).toEqual([
      ...["0 B", "5 B", "999 B", "1.23 kB", "1.00 MB", "677 GB", "1.23 TB", "50000 PB"],
    ]);
    expect([12.4, 11.6e6, 999.9e6, 671e9].map(showCount)).toEqual([
      "12",
      "11.6 million",
      "1.00 billion",
      "671 billion",
    ]);
    expect([0.123, 99.7, 99.96, 1234.5].map(showRate)).toEqual(["0.123", "99.7", "100", "1235"]);
    expect([showSeconds(2), showSeconds(0.0123), showSeconds(4.5e-6)]).toEqual(["2.00 s", "12.3 ms", "4.50 us"]);
  });
  test("a hash does not depend on the order of keys", () => {
    expect(canonical({ b: [1, { d: null, c: "x" }], a: true })).toBe('{"a":true,"b":[1,{"c":"x","d":null}]}');
    expect(hashOf({ a: 1, b: 2 })).toBe(hashOf({ b: 2, a: 1 }));
    expect(hashOf({ a: 1 })).not.toBe(hashOf({ a: 2 }));
  });
  test("a page shows names as text", () => {
    const plan: Plan = planDeployment("<script>alert('x')</script>", qwen, { devices: 2, ...small });
    expect(planPage(plan)).not.toContain("<script");
    expect(planPage(plan)).toContain("&#60;script&#62;");
  });
});

test("the schema finds what is wrong", () => {
  const plan = planDeployment("qwen", qwen, { devices: 2, ...small });
  expect(wrong(plan, planSchema)).toBeUndefined();
  expect(wrong({ ...plan, extra: 1 }, planSchema)).toBe("plan.extra is unknown");
  expect(wrong({ ...plan, hash: "x" }, planSchema)).toBe("plan.hash");
  expect(wrong({ ...plan, others: [{}] }, planSchema)).toBe("plan.others[0].name is missing");
});
