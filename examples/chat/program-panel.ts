/** The panel beside the conversation: what computes and why, where the files came from, and the compiled program. */
import type { KernelSummary, PassSummary, RemoteModel, StorageReport } from "../../src/browser.ts";
import { find, make } from "./elements.ts";
import { bytes, count, milliseconds } from "./format.ts";

const panel = find("program", HTMLElement);

export function clearProgram(): void {
  panel.replaceChildren(make("p", { class: "quiet" }, "The program is shown here when it is compiled."));
}

export function showProgram(model: RemoteModel, forget: () => void): void {
  const { passes, kernels, report } = model.program;
  const compileMs = report.ms.passes + report.ms.lower + report.ms.plan;
  panel.replaceChildren(
    section("Runs on", model.backend.label, runsOn(model)),
    section("Files", filesTitle(model.storage), files(model.storage, forget)),
    section("Memory", bytes(totalMemory(model)), memory(model)),
    section("Compiled", milliseconds(compileMs), compiled(model, passes)),
    section("Kernels", count(kernels.length, "kernel"), kernelTable(model, kernels)),
  );
}

function section(title: string, figure: string, ...content: readonly Node[]): HTMLElement {
  const heading = make("h2", {}, make("span", {}, title), make("span", { class: "figure" }, figure));
  return make("section", {}, heading, ...content);
}

/** The chosen backend, and what spoke against those that are faster. */
function runsOn({ backend }: RemoteModel): HTMLElement {
  const refused = backend.refused.map(({ label, reason }) =>
    make("li", { class: "refused" }, make("b", {}, label), make("span", {}, reason)),
  );
  const chosen = make("li", { class: "chosen" }, make("b", {}, backend.label), make("span", {}, backend.summary));
  return make("ol", { class: "ladder" }, ...refused, chosen);
}

function filesTitle({ kind, total }: StorageReport): string {
  return kind === "none" ? "not stored" : bytes(total);
}

function files({ kind, why, total, kept, repaired }: StorageReport, forget: () => void): HTMLElement {
  if (kind === "none") return make("p", {}, why === null ? "Read from the server as needed, as chosen." : `${why}.`);
  const origin =
    kept === total
      ? "All were in this browser’s storage."
      : kept === 0
        ? "Downloaded now, and stored for the next visit."
        : `${bytes(kept)} were stored; the rest was downloaded now.`;
  const healed = repaired === 0 ? "" : ` ${bytes(repaired)} were damaged and fetched again.`;
  const button = make("button", { type: "button", click: forget }, "Remove and reload");
  return make("div", {}, make("p", {}, `${origin}${healed} Each part is checked by its hash when it is read.`), button);
}

function totalMemory({ memory, program }: RemoteModel): number {
  return memory.weights + memory.caches + program.report.arenaBytes;
}

/** A bar of what memory holds, and the same in words. */
function memory(model: RemoteModel): HTMLElement {
  const { weights, caches } = model.memory;
  const parts = [
    ["weights", weights],
    ["caches", caches],
    ["arena", model.program.report.arenaBytes],
  ] as const;
  const total = totalMemory(model);
  const bar = make("div", { class: "shares", "aria-hidden": "true" });
  const list = make("dl", { class: "legend" });
  for (const [name, value] of parts) {
    bar.append(make("span", { class: name, style: `flex-grow: ${value / total}` }));
    list.append(make("div", { class: name }, make("dt", {}, name), make("dd", {}, bytes(value))));
  }
  return make("div", {}, bar, list);
}

function compiled({ program, loadMs }: RemoteModel, passes: readonly PassSummary[]): HTMLElement {
  const { ms } = program.report;
  const slowest = Math.max(...passes.map((pass) => pass.ms), 1);
  const rows = passes.map((pass) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, pass.name),
      make("td", {}, pass.opsBefore === pass.opsAfter ? "" : `${pass.opsBefore} → ${pass.opsAfter}`),
      timeCell(pass.ms, slowest),
    ),
  );
  const head = row("th", "pass", "ops", "time");
  const summary = `Passes ${milliseconds(ms.passes)}, kernels ${milliseconds(ms.lower)}, memory plan ${milliseconds(ms.plan)}. Everything, files included, took ${milliseconds(loadMs)}.`;
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", {}, make("p", {}, summary), table);
}

/** Kernels by the memory they touch, which is what their time follows. */
function kernelTable(model: RemoteModel, kernels: readonly KernelSummary[]): HTMLElement {
  const { launches, bytes: touched } = model.program.report;
  const order = kernels.map((kernel, index) => ({ kernel, index })).sort((a, b) => b.kernel.bytes - a.kernel.bytes);
  const most = Math.max(...kernels.map((kernel) => kernel.bytes), 1);
  const rows = order.map(({ kernel, index }) => {
    const open = () => void showKernel(model, kernel, index);
    const button = make(
      "button",
      { type: "button", class: "link", "aria-haspopup": "dialog", click: open },
      kernel.name,
    );
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, button),
      make("td", {}, `${kernel.launches}×`),
      barCell(bytes(kernel.bytes), kernel.bytes / most),
    );
  });
  const head = row("th", "name", "a token", "touches");
  const summary = `A token takes ${count(launches, "launch", "launches")}, which touch ${bytes(touched)}.`;
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", {}, make("p", {}, summary), table);
}

function row(cell: "th" | "td", ...texts: readonly string[]): HTMLElement {
  return make("tr", {}, ...texts.map((text) => make(cell, { scope: "col" }, text)));
}

function timeCell(ms: number, slowest: number): HTMLElement {
  return barCell(milliseconds(ms), ms / slowest);
}

function barCell(text: string, share: number): HTMLElement {
  return make("td", { class: "measured", style: `--share: ${share.toFixed(3)}` }, text);
}

async function showKernel(model: RemoteModel, kernel: KernelSummary, index: number): Promise<void> {
  const dialog = find("kernel", HTMLDialogElement);
  const text = await model.kernel(index);
  find("kernel-title", HTMLElement).textContent = kernel.name;
  find("kernel-origin", HTMLElement).textContent = kernel.origin.join(" · ");
  find("kernel-ir", HTMLElement).textContent = text?.ir ?? "";
  find("kernel-source", HTMLElement).textContent = text?.source ?? "";
  dialog.showModal();
}
