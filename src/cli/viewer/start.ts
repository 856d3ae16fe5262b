/** The trace page's entry: reads the trace that the page carries and shows it in tabs. */
import type { PageData } from "../trace-page.ts";
import { choice, make, showBytes } from "./dom.ts";
import { kernelsTab } from "./kernels-tab.ts";
import { memoryTab } from "./memory-tab.ts";
import { passesTab } from "./passes-tab.ts";

export function start(): void {
  // Written by tracePage.
  const { trace, sources } = JSON.parse(document.getElementById("trace")!.textContent) as PageData;
  const ms = trace.kernels.reduce((sum, kernel) => sum + (kernel.ms ?? 0), 0);
  const launches = trace.kernels.reduce((sum, kernel) => sum + kernel.launches, 0);
  const facts = [
    `compiled for ${trace.target}`,
    `${trace.passes.length} passes`,
    `${trace.kernels.length} kernels in ${launches} launches`,
    `${showBytes(trace.bytes.weights)} of weights`,
    ...(ms === 0 ? [] : [`${ms.toFixed(2)} ms a step`]),
  ];
  const tabs = [passesTab(trace, sources), kernelsTab(trace), memoryTab(trace)];
  const main = make("main");
  const names = ["Passes", "Kernels", "Memory"];
  document.body.replaceChildren(
    make(
      "header",
      {},
      make("h1", {}, trace.name),
      make("p", { class: "dim" }, facts.join(" · ")),
      choice(names, (index) => main.replaceChildren(tabs[index]!)),
    ),
    main,
  );
}
