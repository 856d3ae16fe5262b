/** The trace page in Chromium: every tab shows what the trace holds, and clicks and keys work. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tracePage } from "../../src/cli/trace-page.ts";
import { compile } from "../../src/compile.ts";
import { parseModelConfig } from "../../src/models/deepseek/config.ts";
import { buildModel } from "../../src/models/deepseek/model.ts";
import { tracing } from "../../src/passes/instruments.ts";
import { traceFile } from "../../src/trace-file.ts";
import { publishedWith } from "../models/published-configs.ts";
import { findChromium, startChromium } from "./chromium.ts";

const sizes = {
  vocab_size: 64,
  hidden_size: 32,
  num_hidden_layers: 3,
  first_k_dense_replace: 1,
  intermediate_size: 32,
};
const heads = { num_attention_heads: 2, num_key_value_heads: 2, q_lora_rank: 16, kv_lora_rank: 16, n_group: 2 };
const dims = { qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, n_routed_experts: 8, topk_group: 1 };
const more = { num_experts_per_tok: 2, moe_intermediate_size: 16, quantization_config: undefined };
const config = parseModelConfig({ ...publishedWith("DeepSeek-V3"), ...sizes, ...heads, ...dims, ...more });
const bucket = { tokens: 1, sequences: 1, blocks: 2, outputs: 1, blockSize: 16, slots: 32, ropeRows: 32 };

const chromium = findChromium();

describe.skipIf(chromium === null)("the trace page", () => {
  const folder = mkdtempSync(join(tmpdir(), "trace-page-"));
  let browser: Browser;
  let page: Page;
  const problems: string[] = [];
  beforeAll(async () => {
    const { instrument, trace } = tracing();
    const executable = compile(buildModel(config, bucket), "wasm", { instruments: [instrument] });
    const ms = executable.plan.kernels.map((_, i) => 0.5 + i / 8);
    const file = join(folder, "trace.html");
    writeFileSync(file, await tracePage(traceFile(trace, executable, executable.program.sources, ms)));
    browser = await startChromium(chromium!);
    page = await browser.newPage({ viewport: { width: 1300, height: 800 } });
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => {
      if (!/^(file|data):/.test(request.url())) problems.push(request.url());
    });
    await page.goto(pathToFileURL(file).href);
  }, 60_000);
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true });
  });
  const tab = (name: string) => page.click(`header button:text-is("${name}")`);

  it("lists the passes and what each changed", async () => {
    expect(await page.locator(".pass").count()).toBe(7);
    await page.click('.pass:has-text("expand")');
    expect(await page.locator(".diff .removed").first().textContent()).toContain("rmsNorm");
    expect(await page.locator(".diff .added").count()).toBeGreaterThan(50);
    const folded = await page.locator(".diff > *").count();
    await page.locator(".fold").first().click();
    expect(await page.locator(".diff > *").count()).toBeGreaterThan(folded);
    await page.click('button:text-is("whole text")');
    expect(await page.locator(".fold").count()).toBe(0);
    await page.click('.pass:has-text("pack-dots")');
    await page.click('button:text-is("changes")');
    expect(await page.locator(".diff").textContent()).toContain("changed nothing");
  });

  it("shows the rules with what they matched", async () => {
    await page.locator('.pass:has-text("simplify")').first().click();
    expect(await page.locator("aside .place").first().textContent()).toMatch(/^src\/passes\/simplify\.ts:\d+$/);
    expect(await page.locator("aside .doc").textContent()).toContain("rule tables and constant folding");
    await page.locator("aside summary").first().click();
    expect(await page.locator("aside .match").first().textContent()).toMatch(/broadcast\(/);
  });

  it("goes over all rewrites with a slider, by mouse and by keys", async () => {
    const slider = page.locator('input[type="range"]');
    const label = () => page.locator("output").textContent();
    await slider.focus();
    await page.keyboard.press("Home");
    expect(await label()).toMatch(/^simplify, match 1 of \d+: \w+$/);
    const rule = (await label())!.split(": ")[1]!;
    // The rule as it is written, where it is, and what it did here.
    expect(await page.locator("aside .place").textContent()).toMatch(/^src\/passes\/.*\.ts:\d+$/);
    expect(await page.locator("aside pre.rule").textContent()).toContain(`"${rule}"`);
    expect(await page.locator(".diff .removed").count()).toBeGreaterThan(0);
    expect(await page.locator(".diff .added").count()).toBeGreaterThan(0);
    expect(await page.locator('aside .match[aria-pressed="true"]').count()).toBe(1);
    // Every place has something to show, and the last is all of the last pass.
    const last = Number(await slider.getAttribute("max"));
    for (let i = 0; i <= last; i++) {
      expect(await slider.inputValue()).toBe(String(i));
      expect(await page.locator(".diff > *").count()).toBeGreaterThan(0);
      if (i < last) await page.keyboard.press("ArrowRight");
    }
    expect(await label()).toMatch(/: all that it changed$/);
    // Elsewhere on the page the keys do the same; in a text they scroll.
    await page.locator(".pass").first().focus();
    await page.keyboard.press("ArrowLeft");
    expect(await slider.inputValue()).toBe(String(last - 1));
    await page.locator("pre.diff").focus();
    await page.keyboard.press("ArrowLeft");
    expect(await slider.inputValue()).toBe(String(last - 1));
    await page.click('button[title^="one back"]');
    expect(await slider.inputValue()).toBe(String(last - 2));
    await page.locator('.pass:has-text("simplify")').first().click();
    await page.locator("aside summary").first().click();
    await page.locator("aside .match").first().click();
    expect(await label()).toMatch(/^simplify, match \d+ of/);
  });

  it("sorts kernels, and shows the source of one", async () => {
    await tab("Kernels");
    expect(await page.locator("header").textContent()).toContain("ms a step");
    const names = () => page.locator("tbody tr td:first-child").allTextContents();
    const byTime = await names();
    await page.click('th button:text-is("launches")');
    expect(await names()).not.toEqual(byTime);
    expect([...(await names())].sort()).toEqual([...byTime].sort());
    await page.locator('tbody tr:has-text("logits")').click();
    expect(await page.locator(".detail pre").textContent()).toContain("(func $");
    await page.click('button:text-is("kernel IR")');
    expect(await page.locator(".detail pre").textContent()).toMatch(/^kernel/);
  });

  it("draws the arena, each value inside of it", async () => {
    await tab("Memory");
    expect(await page.locator(".arena").count()).toBe(3);
    const arena = (await page.locator(".arena").first().boundingBox())!;
    for (const value of await page.locator(".arena").first().locator(".value").all()) {
      const box = (await value.boundingBox())!;
      // Half a pixel of rounding.
      expect(box.x).toBeGreaterThanOrEqual(arena.x - 0.5);
      expect(box.x + box.width).toBeLessThanOrEqual(arena.x + arena.width + 0.5);
    }
    await page.locator(".arena .value").first().focus();
    expect(await page.locator(".about").first().textContent()).toMatch(/B at \d+, steps? \d+/);
  });

  it("fits narrow windows and dark ones, loads nothing and reports no error", async () => {
    await page.setViewportSize({ width: 420, height: 800 });
    await page.emulateMedia({ colorScheme: "dark" });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    expect(wide).toBeLessThanOrEqual(0);
    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    expect(background).toBe("rgb(20, 25, 32)");
    expect(problems).toEqual([]);
  });
});
