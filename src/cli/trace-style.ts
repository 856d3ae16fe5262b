/** The look of the trace page, light and dark. */

export const traceStyle = `
:root{color-scheme:light dark;--bg:#fff;--panel:#f4f6f9;--line:#dfe4ea;--text:#1d2430;--dim:#667284;--accent:#2f6fb0;--plus:#17703a;--plus-bg:#e3f5e9;--minus:#a32d35;--minus-bg:#fce8e9;--call:#aab4c2}
@media(prefers-color-scheme:dark){:root{--bg:#141920;--panel:#1c232c;--line:#303a47;--text:#dbe2ea;--dim:#93a0b1;--accent:#6ca8e4;--plus:#7fd49b;--plus-bg:#17331f;--minus:#f0979d;--minus-bg:#3b1d20;--call:#4a5666}}
*{box-sizing:border-box}
body{margin:0;font:14px/1.45 system-ui,sans-serif;color:var(--text);background:var(--bg);height:100vh;display:flex;flex-direction:column}
header{padding:.7em 1.1em;border-bottom:1px solid var(--line);display:flex;flex-wrap:wrap;align-items:center;gap:.3em 1.4em}
h1{font-size:1.15em;margin:0}h3{font-size:1em;margin:.2em 0 .4em;overflow-wrap:anywhere}p{margin:.3em 0}
.dim{color:var(--dim)}i{font-style:normal}
main{flex:1;min-height:0;overflow:auto}
button{font:inherit;color:inherit;background:none;border:0;cursor:pointer;text-align:left}
:focus-visible{outline:2px solid var(--accent);outline-offset:-2px}
.choice{display:inline-flex;border:1px solid var(--line);border-radius:6px;overflow:hidden;flex:none}
.choice button{padding:.2em .8em}.choice button[aria-pressed=true]{background:var(--accent);color:var(--bg)}
header .choice{margin-left:auto}
.columns{display:flex;height:100%;min-height:0}
nav{width:190px;flex:none;border-right:1px solid var(--line);overflow:auto;padding:.4em 0}
.pass{display:grid;grid-template-columns:1fr auto;gap:0 .6em;width:100%;padding:.4em .9em;border-left:3px solid transparent}
.pass[aria-pressed=true]{background:var(--panel);border-color:var(--accent)}.pass span{font-size:.87em}.pass>:nth-child(even){text-align:right}
.plus{color:var(--plus)}.minus{color:var(--minus)}
.wide{flex:1;min-width:0;display:flex;flex-direction:column}.bar{display:flex;flex-wrap:wrap;align-items:center;gap:.3em 1em;padding:.5em .9em}
aside{width:310px;flex:none;border-left:1px solid var(--line);overflow:auto;padding:.6em .9em}
.code{font:12px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre.code{margin:0;padding:.5em 0;overflow:auto;flex:1;min-height:0;tab-size:2;white-space:pre}
.diff div{padding-right:1em;width:max-content;min-width:100%}.sign{display:inline-block;width:2.4em;text-align:center;color:var(--dim);user-select:none}
.added{background:var(--plus-bg);color:var(--plus)}.removed{background:var(--minus-bg);color:var(--minus)}
.fold{display:block;width:100%;min-width:max-content;color:var(--dim);background:var(--panel);padding:.1em 2.6em;font:inherit;border-block:1px solid var(--line)}
.fold:hover{color:var(--accent)}
details{border-top:1px solid var(--line);padding:.35em 0}summary{cursor:pointer}
.match{display:block;width:100%;padding:0;margin:.4em 0;overflow-wrap:anywhere;border-radius:4px;overflow:hidden}.match div{padding:.15em .5em}
.match:hover,.match[aria-pressed=true]{outline:2px solid var(--accent);outline-offset:-2px}
.rules h3{margin-top:0}.rules .count{border-top:1px solid var(--line);padding-top:.7em;margin-top:.9em}.place{overflow-wrap:anywhere}
pre.rule{background:var(--panel);border-radius:6px;padding:.5em .7em;margin:.5em 0;white-space:pre-wrap;overflow-wrap:anywhere}
.steps{border-bottom:1px solid var(--line);flex-wrap:nowrap}.steps input{flex:1;min-width:6em;accent-color:var(--accent);margin:0}
.bar output{flex:1;min-width:0;font-variant-numeric:tabular-nums}.step-by{border:1px solid var(--line);border-radius:6px;padding:0 .6em;flex:none}.step-by:hover{border-color:var(--accent)}
.table{width:54%;max-width:760px;flex:none;overflow:auto;padding:.6em 1em;border-right:1px solid var(--line)}
table{border-collapse:collapse;width:100%;font-size:.93em}th,td{padding:.25em .5em;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{position:sticky;top:0;background:var(--bg);color:var(--dim);font-weight:600}td:first-child{overflow-wrap:break-word;min-width:8em}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}.number button{text-align:right}
.link{padding:0}.link:hover{color:var(--accent)}tbody tr{cursor:pointer}tr[aria-selected=true]{background:var(--panel)}
.share{white-space:nowrap;width:150px;font-variant-numeric:tabular-nums}.share span{display:inline-block;height:.65em;background:var(--accent);border-radius:2px;margin-right:.4em;max-width:90px;min-width:1px}
.detail{padding:.6em 1em}.detail .choice{align-self:flex-start;margin:.3em 0}
.detail pre.code{background:var(--panel);border-radius:6px;padding:.7em .9em}
.memory{padding:.6em 1.1em;max-width:1280px}.memory section{margin:1.1em 0}
.arena{position:relative;height:280px;background:var(--panel);border-radius:6px;overflow:hidden}
.step,.value{position:absolute}.step{top:0;bottom:0;border-right:1px solid var(--line)}.step:hover{background:var(--line)}
.value{color:#fff;font-size:12px;line-height:1.3;padding:.1em .4em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;border:1px solid var(--panel);border-radius:3px;min-height:3px}
.value:hover,.value:focus{outline:2px solid var(--text);outline-offset:-2px;z-index:1}
.call{background:#6b7788}.v0{background:#2f6fb0}.v1{background:#2c7d55}.v2{background:#a36d1c}.v3{background:#b0455a}.v4{background:#7a5fb0}.v5{background:#237f87}
.axis{display:flex;font-size:.8em}.axis span{flex:1 1 0;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;padding:0 .2em}.about{min-height:1.5em}
@media(max-width:900px){.columns{flex-direction:column;height:auto}nav,aside,.table{width:auto;max-width:none;border:0}pre.code{max-height:70vh}
nav{display:flex;padding:0;border-bottom:1px solid var(--line)}.pass{flex:none;width:10.5em;border-left:0;border-bottom:3px solid transparent}
header .choice{margin-left:0}.table{padding:.6em}th,td{padding:.25em .3em}.share{width:auto}.share span{display:none}aside{border-top:1px solid var(--line)}}
@media(max-width:600px){.axis{display:none}table{font-size:.86em}}
`;
