/** The example page in a real browser, as a person uses it; screenshots are left in the system's folder for such files. */
import { mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findChromium, startChromium, startSite, type TestSite } from "./chromium.ts";

const executable = findChromium();
const pictures = join(tmpdir(), "ciuic-chat-page");

describe.skipIf(executable === null)("the chat page", () => {
  let browser: Browser;
  let site: TestSite;
  let page: Page;
  const complaints: string[] = [];

  beforeAll(async () => {
    mkdirSync(pictures, { recursive: true });
    browser = await startChromium(executable!);
    site = await startSite();
    page = await browser.newPage({ viewport: { width: 1280, height: 820 }, colorScheme: "light" });
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(`${site.url}/?temperature=0&threads=2`);
    await page.waitForSelector("#runs-on[data-state=ready]", { timeout: 60_000 });
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    site?.close();
  });

  const picture = (name: string) => page.screenshot({ path: join(pictures, `${name}.png`) });
  const answered = () => page.waitForSelector("#send:not([hidden])", { timeout: 60_000 });

  it("shows what runs, on what and why", async () => {
    expect(await page.textContent("#runs-on")).toContain("WebAssembly · 2 threads");
    const program = await page.innerText("#program");
    for (const text of ["WebGPU", "23.6 MB", "weights", "simplify", "kernels", "launches"]) {
      expect(program).toContain(text);
    }
    await page.click("#program tbody button >> nth=0");
    await expect.poll(() => page.textContent("#kernel-ir")).toMatch(/^kernel /);
    await page.keyboard.press("Escape");
    await picture("start");
  });

  it("answers by keyboard, with the reasoning apart", async () => {
    await page.check("#thinking");
    await page.fill("#message", "What is 27 + 15?");
    await page.press("#message", "Enter");
    await answered();
    expect(await page.textContent(".question .text")).toBe("What is 27 + 15?");
    expect(await page.textContent(".answer .text")).toBe("27 + 15 = 42.");
    expect(await page.textContent(".reasoning p")).toMatch(/^I split 15/);
    expect(await page.textContent(".reasoning summary")).toMatch(/^Reasoned for/);
    expect(await page.innerText(".answer footer")).toMatch(/42 tokens\s*[\d.]+ tokens\/s/);
    expect(await page.textContent("#announcer")).toBe("27 + 15 = 42.");
    await picture("light");
  });

  it("stops at Escape and goes on afterwards", async () => {
    await page.uncheck("#thinking");
    await page.fill("#message", "Tell me a story about a fox.");
    await page.press("#message", "Enter");
    await page.waitForFunction(() => (document.querySelectorAll(".answer .text")[1]?.textContent ?? "").length > 20);
    await page.keyboard.press("Escape");
    await answered();
    expect(await page.innerText(".answer:last-of-type footer")).toContain("stopped");
    await page.fill("#message", "Count from 3 to 9.");
    await page.click("#send");
    await answered();
    expect(await page.textContent(".answer:last-of-type .text")).toMatch(/3.*9/);
    await page.fill("#message", "Tell me a story about a cat.");
    await page.press("#message", "Enter");
    await page.waitForSelector("#stop:not([hidden])");
    await page.click("#new-chat");
    await answered();
    expect(await page.isVisible("#start")).toBe(true);
    expect(await page.locator(".message").count()).toBe(0);
  });

  it("says in view what is wrong with a message that is too long, and gives it back", async () => {
    const long = "word ".repeat(3000);
    await page.fill("#message", long);
    await page.press("#message", "Enter");
    await answered();
    const alert = page.locator(".answer.failed [role=alert]");
    expect(await alert.textContent()).toMatch(/longer than the context: expected at most 2048 tokens, got 30\d\d/);
    const below = await alert.evaluate(
      (element) =>
        element.getBoundingClientRect().bottom - document.querySelector("#scroller")!.getBoundingClientRect().bottom,
    );
    expect(below).toBeLessThanOrEqual(0);
    expect(await page.inputValue("#message")).toBe(long);
    await page.fill("#message", "");
    await page.click("#new-chat");
  });

  it("loads again with other settings, out of storage", async () => {
    await page.click("#show-settings");
    await page.selectOption("select[name=quantize]", "int4+int8");
    await page.selectOption("select[name=theme]", "dark");
    await picture("settings");
    await page.click("#settings button[value=apply]");
    await page.waitForSelector("#runs-on[data-state=loading]");
    await page.waitForSelector("#runs-on[data-state=ready]", { timeout: 60_000 });
    expect(await page.innerText("#program")).toContain("All were in this browser’s storage");
    await picture("dark");
    await page.setViewportSize({ width: 390, height: 800 });
    await page.click("#show-program");
    await picture("narrow");
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  });

  it("says what is wrong when there is no model", async () => {
    await page.goto(`${site.url}/?model=/models/none/`);
    await page.waitForSelector("#runs-on[data-state=failed]");
    expect(await page.innerText("#failure")).toMatch(/models\/none\/config\.json: no such file[\s\S]*Try again/);
    await picture("failed");
    expect(complaints).toEqual([]);
  });
});
