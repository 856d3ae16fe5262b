/** The passes of a trace: a list, what the chosen one changed in the IR, and the rules that matched. */
import type { TraceFile } from "../../trace-file.ts";
import { type DiffLine, diffLines } from "./diff.ts";
import { choice, make } from "./dom.ts";

interface PassView {
  readonly name: string;
  readonly ms: number;
  readonly lines: readonly DiffLine[];
  readonly matches: TraceFile["passes"][number]["matches"];
}

/** Unchanged lines shown around changes. */
const context = 2;
/** Fewer lines are not worth a click. */
const leastHidden = 3;
const mostMatches = 200;

export function passesTab(trace: TraceFile): Element {
  const views = viewsOf(trace);
  const diff = make("pre", { class: "code diff", tabindex: "0" });
  const rules = make("div", { class: "rules" });
  let shown = views[0];
  let whole = false;
  const render = (): void => {
    if (shown === undefined) return;
    diff.replaceChildren(...diffView(shown.lines, whole));
    rules.replaceChildren(...rulesView(trace, shown));
  };
  const rows = views.map((view) => {
    const row = make("button", { type: "button", class: "pass", click: () => choose(view, row) }, ...passRow(view));
    return row;
  });
  const choose = (view: PassView, row: Element): void => {
    shown = view;
    for (const each of rows) each.setAttribute("aria-pressed", String(each === row));
    render();
  };
  const start = Math.max(views.findIndex(isChange), 0);
  if (views[start] !== undefined) choose(views[start], rows[start]!);
  const extent = choice(["changes", "whole text"], (index) => {
    whole = index === 1;
    render();
  });
  const note = "Numbers of unnamed values (%12) are not compared.";
  return make(
    "div",
    { class: "columns" },
    make("nav", {}, ...rows),
    make(
      "section",
      { class: "wide" },
      make("div", { class: "bar" }, extent, make("span", { class: "dim" }, note)),
      diff,
    ),
    make("aside", {}, rules),
  );
}

function isChange({ lines }: PassView): boolean {
  return lines.some(({ kind }) => kind !== "same");
}

/** Each pass compared with the one before it. */
function viewsOf(trace: TraceFile): PassView[] {
  let text = trace.input;
  return trace.passes.map(({ name, ms, text: after, matches }) => {
    const lines = diffLines(text.split("\n"), (after ?? text).split("\n"));
    text = after ?? text;
    return { name, ms, lines, matches };
  });
}

function passRow({ name, ms, lines, matches }: PassView): (Element | string)[] {
  const count = (wanted: DiffLine["kind"]) => lines.filter(({ kind }) => kind === wanted).length;
  const [added, removed] = [count("added"), count("removed")];
  const changed = added + removed > 0;
  return [
    make("b", {}, name),
    make("span", { class: "dim" }, `${ms.toFixed(1)} ms`),
    changed
      ? make("span", {}, make("i", { class: "plus" }, `+${added}`), " ", make("i", { class: "minus" }, `−${removed}`))
      : make("span", { class: "dim" }, "no change"),
    make("span", { class: "dim" }, matches.length === 0 ? "" : `${matches.length} matches`),
  ];
}

function diffView(lines: readonly DiffLine[], whole: boolean): Element[] {
  if (!whole && lines.every(({ kind }) => kind === "same"))
    return [make("div", { class: "dim" }, "This pass changed nothing.")];
  const near = lines.map((_, i) =>
    lines.slice(Math.max(0, i - context), i + context + 1).some(({ kind }) => kind !== "same"),
  );
  const shown: Element[] = [];
  let hidden: DiffLine[] = [];
  const fold = (): void => {
    if (hidden.length === 0) return;
    const inside = hidden;
    hidden = [];
    if (inside.length <= leastHidden) {
      shown.push(...inside.map(lineView));
      return;
    }
    const button = make(
      "button",
      { type: "button", class: "fold", click: () => button.replaceWith(...inside.map(lineView)) },
      `${inside.length} lines as before`,
    );
    shown.push(button);
  };
  for (const [i, line] of lines.entries()) {
    // The head of a function says where the changes below it are.
    if (whole || near[i] || line.text.startsWith("func ")) {
      fold();
      shown.push(lineView(line));
    } else hidden.push(line);
  }
  fold();
  return shown;
}

function lineView({ kind, text }: DiffLine): Element {
  const sign = kind === "added" ? "+" : kind === "removed" ? "−" : " ";
  return make("div", { class: kind }, make("span", { class: "sign" }, sign), text === "" ? " " : text);
}

function rulesView(trace: TraceFile, { matches }: PassView): Element[] {
  if (matches.length === 0) return [make("p", { class: "dim" }, "No rewrite rules in this pass.")];
  const groups = new Map<string, PassView["matches"][number][]>();
  for (const match of matches) groups.set(match.rule, [...(groups.get(match.rule) ?? []), match]);
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
  return [
    make("h3", {}, `${matches.length} matches of ${groups.size} rules`),
    ...sorted.map(([rule, found]) => {
      const rows = found
        .slice(0, mostMatches)
        .map(({ before, after }) =>
          make(
            "div",
            { class: "match code" },
            make("div", { class: "removed" }, expression(trace, before, 3)),
            make("div", { class: "added" }, expression(trace, after, 3)),
          ),
        );
      const more =
        found.length > rows.length ? [make("p", { class: "dim" }, `and ${found.length - rows.length} more`)] : [];
      return make("details", {}, make("summary", {}, make("b", {}, rule), ` × ${found.length}`), ...rows, ...more);
    }),
  ];
}

/** A node as nested calls down to named values, some levels deep. */
function expression({ nodes }: TraceFile, at: number, depth: number): string {
  const node = nodes[at];
  if (node === undefined) return "?";
  const [op, ins, attrs, type, name] = node;
  if (op === "param" || op === "weight") return `%${name ?? op}`;
  // As the IR prints: dtype and shape are those of the result.
  const own = attrs.replace(/\b(?:dtype="\w+"|shape=\[[^\]]*\])(?:, )?/g, "").replace(/, \}$/, "}");
  const full = `${own === "{}" || own === "" ? "" : ` ${own}`}${depth === 3 ? `: ${type}` : ""}`;
  if (depth === 0) return name === null ? `${op}(…)` : `%${name}`;
  const operands = ins.map((each) => expression({ nodes } as TraceFile, each, depth - 1)); // all that it reads
  return `${op}(${operands.join(", ")})${full}`;
}
