/** The page that shows a trace: one HTML file with the trace, the viewer's scripts and its style in it, and nothing to load. */
import { readFile } from "node:fs/promises";
import { html } from "../plan/page.ts";
import type { TraceFile } from "../trace-file.ts";
import { findSources, type TraceSources } from "./rule-sources.ts";
import { traceStyle } from "./trace-style.ts";

/** Each before those that use it. */
const scripts = ["dom", "diff", "rewrite-lines", "rules-view", "passes-tab", "kernels-tab", "memory-tab", "start"];

/** What the page carries. */
export interface PageData {
  readonly trace: TraceFile;
  readonly sources: TraceSources;
}

export async function tracePage(trace: TraceFile): Promise<string> {
  const rules = trace.passes.flatMap(({ matches }) => matches.map(({ rule }) => rule));
  const passes = trace.passes.map(({ name }) => name);
  const page: PageData = { trace, sources: await findSources([...new Set(rules)], [...new Set(passes)]) };
  // As JSON the text may not end the script element that holds it.
  const data = JSON.stringify(page).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${html(trace.name)}: trace</title><link rel="icon" href="data:,"><style>${traceStyle}</style></head><body>
<noscript>This page needs scripts, which it has in itself.</noscript>
<script type="application/json" id="trace">${data}</script>
<script type="module">
${await viewerScript()}
start();
</script>
</body></html>
`;
}

/** The viewer's modules as one: their imports are of each other, so all that goes is how they say it. */
async function viewerScript(): Promise<string> {
  const texts = await Promise.all(scripts.map(plainScript));
  return texts
    .map((text) => text.replaceAll(/^import\s[^;]*;$/gm, "").replaceAll(/^export /gm, ""))
    .join("\n")
    .replaceAll(/^\/\/# sourceMappingURL=.*$/gm, "")
    .replaceAll("</script", "<\\/script");
}

/** As JavaScript: built, or from the sources, whose types Node takes away. */
async function plainScript(name: string): Promise<string> {
  const built = import.meta.url.endsWith(".js");
  const text = await readFile(new URL(`./viewer/${name}.${built ? "js" : "ts"}`, import.meta.url), "utf8");
  if (built) return text;
  const { stripTypeScriptTypes } = await import("node:module");
  return stripTypeScriptTypes(text);
}
