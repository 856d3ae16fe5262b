/** Beside the difference: what a pass is, the rule whose match is shown with its source, and all matches to choose from. */
import type { TraceFile } from "../../trace-file.ts";
import type { SourceNote, TraceSources } from "../rule-sources.ts";
import { make } from "./dom.ts";
import { ownAttrs } from "./rewrite-lines.ts";

/** Of one pass. */
export interface RulesView {
  readonly pass: string;
  readonly matches: TraceFile["passes"][number]["matches"];
  /** The match that is shown; null for the whole pass. */
  readonly shown: number | null;
  readonly choose: (match: number) => void;
}

/** More matches of a rule are reached with the slider alone. */
const mostMatches = 200;

export function rulesView(trace: TraceFile, sources: TraceSources, view: RulesView): Element[] {
  const { pass, matches, shown } = view;
  const match = shown === null ? undefined : matches[shown];
  const lead =
    match === undefined ? noteView(pass, sources.passes[pass]) : noteView(match.rule, sources.rules[match.rule]);
  if (matches.length === 0) return [...lead, make("p", { class: "dim" }, "No rewrite rules in this pass.")];
  const groups = new Map<string, number[]>();
  for (const [i, { rule }] of matches.entries()) groups.set(rule, [...(groups.get(rule) ?? []), i]);
  const sorted = [...groups].sort((a, b) => b[1].length - a[1].length);
  return [
    ...lead,
    make("h3", { class: "count" }, `${matches.length} ${matches.length === 1 ? "match" : "matches"} in ${pass}`),
    ...sorted.map(([rule, found]) => groupView(trace, sources.rules[rule], rule, found, view)),
  ];
}

/** Its name, where it is written, and what is said of it there. */
function noteView(name: string, note: SourceNote | undefined): Element[] {
  if (note === undefined) return [make("h3", {}, name)];
  const text = note.text === "" ? [] : [make("pre", { class: "code rule" }, note.text)];
  return [
    make("h3", {}, name),
    make("p", { class: "doc" }, note.doc),
    make("p", { class: "dim code place" }, note.place),
    ...text,
  ];
}

function groupView(
  trace: TraceFile,
  note: SourceNote | undefined,
  rule: string,
  found: readonly number[],
  { matches, shown, choose }: RulesView,
): Element {
  const rows = found.slice(0, mostMatches).map((at) => {
    const { before, after } = matches[at]!;
    return make(
      "button",
      { type: "button", class: "match code", "aria-pressed": String(at === shown), click: () => choose(at) },
      make("div", { class: "removed" }, expression(trace, before, 3)),
      make("div", { class: "added" }, expression(trace, after, 3)),
    );
  });
  const more = found.length - rows.length;
  const rest = more > 0 ? [make("p", { class: "dim" }, `and ${more} more, by the slider`)] : [];
  const place = note === undefined ? [] : [make("p", { class: "dim" }, note.doc)];
  const open = shown !== null && found.includes(shown) ? { open: "" } : {};
  return make(
    "details",
    open,
    make("summary", {}, make("b", {}, rule), ` × ${found.length}`),
    ...place,
    ...rows,
    ...rest,
  );
}

/** A node as nested calls down to named values, some levels deep. */
function expression({ nodes }: Pick<TraceFile, "nodes">, at: number, depth: number): string {
  const node = nodes[at];
  if (node === undefined) return "?";
  const [op, ins, attrs, type, name] = node;
  if (op === "param" || op === "weight") return `%${name ?? op}`;
  const own = ownAttrs(attrs);
  const full = `${own === "" ? "" : ` ${own}`}${depth === 3 ? `: ${type}` : ""}`;
  if (depth === 0) return name === null ? `${op}(…)` : `%${name}`;
  const operands = ins.map((each) => expression({ nodes }, each, depth - 1)).join(", ");
  return `${op}${operands === "" ? "" : `(${operands})`}${full}`;
}
