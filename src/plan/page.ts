/**
 * The picture of a plan: one HTML page with nothing to load. Devices stand in their stages with what fills their memory,
 * arrows between stages and bars inside them say what a token sends, a timeline shows a round of decoding, and a table the
 * other candidates.
 */
import type { Candidate } from "./candidate.ts";
import { type TimePart, timeParts } from "./cost.ts";
import type { Plan } from "./plan.ts";
import { showBytes, showSeconds } from "./show.ts";
import { timeline } from "./timeline.ts";

export function planPage(plan: Plan): string {
  const { recommended, request, others } = plan;
  const shown = recommended ?? others[0];
  const title = `${plan.model} on ${request.devices} x ${request.device.name}`;
  const lead = recommended === null ? "Nothing fits" : `Recommended: ${recommended.name}`;
  const body = [
    `<h1>${html(title)}</h1>`,
    `<p class="lead">${html(lead)}</p>`,
    `<p class="dim">${html(assumptions(plan))}</p>`,
    `<ul>${plan.advice.map((each) => `<li>${html(each)}</li>`).join("")}</ul>`,
    ...(shown === undefined
      ? []
      : [figures(shown), devicesOf(shown, request.device.memory), times(shown), timeline(shown, request.batch)]),
    table([...(recommended === null ? [] : [recommended]), ...others]),
    `<p class="dim">plan ${plan.hash}, ${plan.schema}. An estimate: docs/plans.md says how near such estimates came to what was measured.</p>`,
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${html(title)}</title><style>${style}</style></head><body>
${body.join("\n")}
</body></html>
`;
}

function assumptions({ request }: Plan): string {
  const { device, link, context, batch, weights, cacheBits } = request;
  const near =
    link.near === undefined ? "" : `, ${showBytes(link.near.bandwidth)}/s among ${link.near.size} neighbours`;
  return [
    `${showBytes(device.memory)} each, ${showBytes(device.bandwidth)}/s, ${(device.flops / 1e12).toFixed(0)} TFLOP/s`,
    `link ${showBytes(link.bandwidth)}/s and ${showSeconds(link.latency)}${near}`,
    `${batch} sequence${batch === 1 ? "" : "s"} of ${context} tokens`,
    `weights ${weights}, caches ${cacheBits} bits`,
  ].join(" · ");
}

function figures({ decodeOne, decodeAll, prefill, firstToken, limitedBy, imbalance, mesh }: Candidate): string {
  const cards: [string, string][] = [
    [rate(decodeAll), "tokens/s, all sequences"],
    [rate(decodeOne), "tokens/s, one alone"],
    [rate(prefill), "prompt tokens/s"],
    [showSeconds(firstToken), "to the first token of a full prompt"],
    [limitedBy, "is what limits decoding"],
    ...(mesh.ep > 1 ? [[`${imbalance.toFixed(2)} x`, "the mean: busiest experts' device"] as [string, string]] : []),
  ];
  return `<div class="cards">${cards.map(([value, what]) => `<div><b>${html(value)}</b><span>${html(what)}</span></div>`).join("")}</div>`;
}

export function rate(perSecond: number): string {
  return perSecond >= 100 ? Math.round(perSecond).toLocaleString("en-US") : perSecond.toFixed(1);
}

/** Stages from left to right, the devices of each one above the other; of many alike, some. */
function devicesOf(candidate: Candidate, memory: number): string {
  const { stages, mesh, messages, bytes } = candidate;
  const each = mesh.tp * mesh.dp;
  const shown = Math.min(each, 8);
  const columns = stages.map(({ layers, weights, caches, working }, i) => {
    const share = (bytes: number) => Math.min(100, (100 * bytes) / memory).toFixed(2);
    const bar = `<div class="bar"><i class="weights" style="width:${share(weights)}%"></i><i class="caches" style="width:${share(caches)}%"></i><i class="working" style="width:${share(working)}%"></i></div>`;
    const boxes = Array.from({ length: shown }, (_, rank) => {
      const where = [
        ...(mesh.dp > 1 ? [`dp ${Math.floor(rank / mesh.tp)}`] : []),
        ...(mesh.tp > 1 ? [`tp ${rank % mesh.tp}`] : []),
      ];
      return `<div class="device"><span>device ${i * each + rank}${where.length > 0 ? ` · ${where.join(", ")}` : ""}</span>${bar}</div>`;
    });
    const more = each > shown ? `<div class="dim">and ${each - shown} more alike</div>` : "";
    const held = `${showBytes(weights)} weights, ${showBytes(caches)} caches, ${showBytes(working)} values`;
    return `<section><h3>${stages.length > 1 ? `stage ${i}: ` : ""}layers ${layers[0]} to ${layers[1] - 1}</h3>${boxes.join("")}${more}<div class="dim">${held}</div></section>`;
  });
  const sent = `${rate(messages)} messages and ${showBytes(bytes)} per token and device`;
  const legend = `<p class="legend"><i class="weights"></i>weights <i class="caches"></i>caches <i class="working"></i>values of a step <i class="free"></i>free of ${showBytes(memory)}</p>`;
  return `<h2>Devices and links</h2>${legend}<div class="stages">${columns.join('<div class="arrow">&#10142;</div>')}</div><p>${mesh.tp * mesh.dp * mesh.pp > 1 ? `Links carry ${sent}.` : "One device sends nothing."}</p>`;
}

const partNames: Readonly<Record<TimePart, string>> = {
  weights: "reading weights",
  products: "matrix products",
  cache: "reading caches",
  attention: "attention",
  overhead: "launches",
  latency: "link latency",
  bandwidth: "link transfer",
};

/** Where the time of the slowest stage goes. */
function times({ parts }: Candidate): string {
  const most = Math.max(...timeParts.map((part) => parts[part]), 1e-12);
  const rows = timeParts.map((part) => {
    const width = ((100 * parts[part]) / most).toFixed(1);
    return `<tr><td>${partNames[part]}</td><td class="wide"><div class="bar"><i class="${part === "latency" || part === "bandwidth" ? "links" : "weights"}" style="width:${width}%"></i></div></td><td class="number">${showSeconds(parts[part])}</td></tr>`;
  });
  return `<h2>A decoding step of the slowest stage</h2><table>${rows.join("")}</table><p class="dim">Reading happens beside computing, and part of the transfers behind both.</p>`;
}

function table(candidates: readonly Candidate[]): string {
  const head = [
    "placement",
    "fullest device",
    "tokens/s, all",
    "one alone",
    "prompt tokens/s",
    "sequences that fit",
    "limited by",
  ];
  const rows = candidates.map((each) => {
    const cells = [rate(each.decodeAll), rate(each.decodeOne), rate(each.prefill), String(each.mostSequences)];
    const peak = `${showBytes(each.peak)}${each.fits ? "" : ", does not fit"}`;
    return `<tr class="${each.fits ? "" : "no"}"><td>${html(each.name)}</td><td class="number">${peak}</td>${cells.map((cell) => `<td class="number">${cell}</td>`).join("")}<td>${html(each.limitedBy)}</td></tr>`;
  });
  const cells = head.map((name) => `<th>${name}</th>`).join("");
  return `<h2>Candidates</h2><div class="scroll"><table><tr>${cells}</tr>${rows.join("")}</table></div>`;
}

/** Text as HTML: names come from outside. */
export function html(text: string): string {
  return text.replaceAll(/[&<>"']/g, (letter) => `&#${letter.codePointAt(0)};`);
}

const style = `
:root{--weights:#2f6fb0;--caches:#3a9d6e;--working:#c98a2b;--links:#b0455a;--free:#dfe4ea}
body{font:15px/1.45 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1.2em;color:#1d2430;background:#fff}
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.8em 0 .5em}h3{font-size:.95em;margin:0 0 .5em}
.lead{font-size:1.2em;margin:.2em 0}.dim{color:#667284;font-size:.88em}ul{padding-left:1.2em}
.cards{display:flex;flex-wrap:wrap;gap:.8em}.cards div{background:#f3f5f8;border-radius:6px;padding:.6em .9em;min-width:120px}
.cards b{display:block;font-size:1.2em}.cards span{color:#667284;font-size:.85em}
.stages{display:flex;align-items:stretch;gap:.4em;overflow-x:auto}section{background:#f3f5f8;border-radius:6px;padding:.7em;flex:1;min-width:150px}
.arrow{align-self:center;color:#667284;font-size:1.3em}.device{margin-bottom:.45em;font-size:.8em}
.bar{display:flex;height:12px;background:var(--free);border-radius:3px;overflow:hidden}.bar i,.legend i{display:inline-block;height:100%}
.legend i{width:11px;height:11px;margin:0 .3em 0 .9em;border-radius:2px}.legend{font-size:.85em}
.weights{background:var(--weights)}.caches{background:var(--caches)}.working{background:var(--working)}.links{background:var(--links)}.free{background:var(--free)}
table{border-collapse:collapse;width:100%;font-size:.9em}td,th{padding:.25em .6em;text-align:left;border-bottom:1px solid #e6eaef}.number{text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}.wide{width:60%}.no{color:#98a2b0}svg{max-width:100%}svg text{font:11px system-ui,sans-serif}
@media(prefers-color-scheme:dark){body{background:#151a21;color:#dbe2ea}.cards div,section{background:#1f2630}:root{--free:#333d4a}td,th{border-color:#2b3440}}
`;
